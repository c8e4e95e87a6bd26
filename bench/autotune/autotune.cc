// Searches the numbers of the schedules of a model's kernels, and writes them to schedules/tuned/<target>.json.
//
// The search is evolutionary, seeded by the hand-made schedule. A kernel has a handful of genes with few values each
// and little interaction (a register tile is good or bad almost whatever the blocking), so a step first varies single
// genes of the best, which finds what a random search finds with a fraction of the compilations (a compilation costs
// as much as hundreds of timings), then crosses the good ones. Noise decides much on a shared machine, so versions
// run in turn in one process beside the best so far, and a winner must win again, in a longer trial, to be kept.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <stdexcept>
#include <utility>

#include "networks/catalog.h"
#include "record.h"
#include "trials.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

// Versions in one trial: enough to share the cost of a process, few enough to run in turn within milliseconds.
constexpr size_t kBatch = 9;
constexpr double kTrialMilliseconds = 60, kConfirmMilliseconds = 250;
// A win below this is noise.
constexpr double kGain = 0.995;
constexpr int kParents = 4;
// Steps without a better version after which a kernel's remaining time goes to the others.
constexpr int kPatience = 3;

/// One line that says where the search is; rewritten in place on a terminal.
class Progress {
  public:
    explicit Progress(double budget) : budget_(budget), start_(Clock::now()), terminal_(isatty(STDERR_FILENO) != 0) {}

    double elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

    void show(const std::string &kernel, int tried, double best) const {
        if (!terminal_) return;
        constexpr int kWidth = 30;
        const double share = std::min(1.0, elapsed() / budget_);
        const int done = static_cast<int>(share * kWidth);
        std::fprintf(stderr, "\r\033[K[%s%s] %3.0f %%  %s: %d tried, best %.1f us  ETA %.0f s",
                     std::string(done, '#').c_str(), std::string(kWidth - done, '-').c_str(), share * 100,
                     kernel.c_str(), tried, best, std::max(0.0, budget_ - elapsed()));
    }
    void line(const std::string &text) const {
        std::fprintf(stderr, "%s%s\n", terminal_ ? "\r\033[K" : "", text.c_str());
    }

  private:
    double budget_;
    Clock::time_point start_;
    bool terminal_;
};

networks::Program program_of(const TuningOptions &options) {
    return make_program(*networks::published_network(options.network, options.input, networks::kDefaultClasses));
}

class Search {
  public:
    explicit Search(TuningOptions options)
        : options_(std::move(options)),
          program_(program_of(options_)),
          compiler_(options_),
          trials_(options_, program_.graph,
                  options_.trial.empty() ? compiler_.program("kernel_trial").string() : options_.trial),
          record_(options_),
          progress_(options_.budget) {}

    void run() {
        const std::vector<TunedKernel> kernels = chosen_kernels();
        // What most of the time goes to comes first, and gets most of the budget.
        std::vector<std::pair<double, const TunedKernel *>> order;
        for (const TunedKernel &kernel : kernels) order.emplace_back(weight(kernel), &kernel);
        std::sort(order.rbegin(), order.rend());
        double left = 0;
        for (const auto &[share, kernel] : order) left += share;
        for (const auto &[share, kernel] : order) {
            if (interrupted()) break;
            const double now = progress_.elapsed();
            tune(*kernel, now + std::max(0.0, options_.budget - now) * share / left);
            left -= share;
        }
        report(kernels);
    }

  private:
    /// Those that the options name, or all.
    std::vector<TunedKernel> chosen_kernels() const {
        std::vector<TunedKernel> all = kernels_of(program_);
        if (options_.kernels.empty()) return all;
        std::vector<TunedKernel> chosen;
        for (const std::string &name : options_.kernels) {
            const auto call = std::ranges::find(program_.calls, name, &networks::Call::id);
            const int number = call != program_.calls.end() ? call->kernel : -1;
            const auto found = std::ranges::find_if(
                all, [&](const TunedKernel &kernel) { return kernel.number == number || kernel.key == name; });
            if (found == all.end()) {
                std::string names;
                for (const TunedKernel &kernel : all) names += (names.empty() ? "" : ", ") + kernel.name;
                throw std::runtime_error("unknown kernel '" + name + "': expected one of " + names);
            }
            chosen.push_back(*found);
        }
        return chosen;
    }

    /// About the multiply-adds of a kernel's calls; the square root, because small kernels need steps too.
    static double weight(const TunedKernel &kernel) { return std::sqrt(1 + kernel.calls * kernel.multiply_adds); }

    /// The best version so far, measured beside the default one; the latter comes first.
    std::vector<Version> start(const TunedKernel &kernel, const Version &oracle) {
        const Version first = compiler_.version(kernel, {});
        const Candidate numbers = record_.numbers(kernel.key);
        std::vector<Version> measured;
        if (!numbers.empty()) {
            const Version best = compiler_.version(kernel, numbers);
            measured = trials_.run(kernel, oracle, {first, best}, kConfirmMilliseconds);
            if (measured.size() < 2 && !interrupted()) {
                progress_.line(kernel.name + ": the tuned schedule fails, starting from the default");
            }
        }
        if (measured.size() < 2 && !interrupted()) {
            measured = trials_.run(kernel, oracle, {first, first}, kConfirmMilliseconds);
        }
        if (measured.size() < 2 && !interrupted()) {
            throw std::runtime_error(kernel.name + ": cannot be timed: " + trials_.failure());
        }
        return measured;
    }

    /// Leaves the best version's numbers in the record.
    void tune(const TunedKernel &kernel, double until) {
        const std::vector<Gene> genes = genes_of(kernel.shape, options_.target);
        const Version oracle = compiler_.oracle(kernel);
        const std::vector<Version> measured = start(kernel, oracle);
        if (interrupted()) return;
        const Version &first = measured[0];
        Version best = measured[1];
        best.relative = 1;
        record_.store(kernel.key, best.numbers, first.times, best.times);

        known_.clear();
        compiler_.start_over();
        std::vector<Version> parents = {best};
        int tried = 0;
        for (int idle = 0; idle < kPatience && progress_.elapsed() < until && !interrupted() && !genes.empty();) {
            progress_.show(kernel.name, tried, best.times.begin()->second);
            const std::vector<Candidate> children = offspring(genes, parents, tried == 0);
            if (children.empty()) break;
            tried += static_cast<int>(children.size());
            idle = step(kernel, oracle, first, children, best, parents) ? 0 : idle + 1;
        }
        progress_.line(summary(kernel, best, tried));
    }

    /// Whether one of the children is better than `best`, which it then is; the best of all are the next parents.
    bool step(const TunedKernel &kernel, const Version &oracle, const Version &first,
              const std::vector<Candidate> &children, Version &best, std::vector<Version> &parents) {
        std::vector<Version> versions = compiler_.compile(kernel, children);
        versions.insert(versions.begin(), best);
        versions = trials_.run(kernel, oracle, std::move(versions), kTrialMilliseconds);
        if (versions.size() < 2) return false;
        versions.erase(versions.begin());
        std::sort(versions.begin(), versions.end(), faster);
        const bool better = challenge(kernel, oracle, first, best, versions.front(), parents);
        parents.insert(parents.end(), versions.begin(), versions.end());
        std::sort(parents.begin(), parents.end(), faster);
        if (parents.size() > kParents) parents.resize(kParents);
        return better;
    }

    static bool faster(const Version &a, const Version &b) { return a.relative < b.relative; }

    /// Whether the fastest of a trial beats `best` again; then it takes its place, and `parents` are measured by it.
    bool challenge(const TunedKernel &kernel, const Version &oracle, const Version &first, Version &best,
                   Version &challenger, std::vector<Version> &parents) {
        if (challenger.relative >= kGain) return false;
        const std::vector<Version> again = trials_.run(kernel, oracle, {best, challenger, first}, kConfirmMilliseconds);
        if (again.size() < 3) return false;
        challenger = again[1];
        if (challenger.relative >= kGain) return false;
        for (Version &parent : parents) parent.relative /= challenger.relative;
        challenger.relative = 1;
        best = challenger;
        record_.store(kernel.key, best.numbers, again[2].times, best.times);
        return true;
    }

    /// New candidates: at first single genes of the best, then mixtures of the parents with mutations.
    std::vector<Candidate> offspring(const std::vector<Gene> &genes, const std::vector<Version> &parents,
                                     bool singles) {
        std::vector<Candidate> children;
        const auto add = [&](Candidate child) {
            if (known_.insert(Json(child).dump()).second) children.push_back(std::move(child));
        };
        for (int attempt = 0; attempt < 50 && children.size() < kBatch - 1; ++attempt) {
            const Candidate &mother = pick(parents).numbers;
            const Candidate &father = pick(parents).numbers;
            Candidate child = mother;
            if (!singles) {
                for (const Gene &gene : genes) {
                    if (random_() % 2 == 0) set(child, gene, part_of(father, gene));
                }
            }
            const Gene &mutant = pick(genes);
            set(child, mutant, pick(mutant.values));
            add(std::move(child));
        }
        return children;
    }

    /// The numbers of a candidate that belong to a gene.
    static Candidate part_of(const Candidate &from, const Gene &gene) {
        Candidate part;
        for (const auto &[name, value] : gene.values.back()) {
            if (const auto found = from.find(name); found != from.end()) part[name] = found->second;
        }
        return part;
    }
    static void set(Candidate &child, const Gene &gene, const Candidate &value) {
        for (const auto &[name, ignored] : gene.values.back()) child.erase(name);
        child.insert(value.begin(), value.end());
    }
    template <typename T>
    const T &pick(const std::vector<T> &from) {
        return from[random_() % from.size()];
    }

    static std::string summary(const TunedKernel &kernel, const Version &best, int tried) {
        std::string times;
        for (const auto &[count, time] : best.times) {
            char text[64];
            std::snprintf(text, sizeof text, "%s%.1f us (%s)", times.empty() ? "" : ", ", time, count.c_str());
            times += text;
        }
        return kernel.name + ": " + times + " after " + std::to_string(tried) +
               " versions: " + Json(best.numbers).dump();
    }

    void report(const std::vector<TunedKernel> &kernels) const {
        for (const int number : options_.threads) {
            const std::string count = std::to_string(number);
            const double before = record_.total(kernels, "default", count),
                         after = record_.total(kernels, "tuned", count);
            std::printf("%s, %s, %s thread(s): %.0f us by the default schedule, %.0f us tuned (%.2fx)\n",
                        options_.model.c_str(), std::string(options_.target.name).c_str(), count.c_str(), before, after,
                        before / after);
        }
        std::printf("%s\n", record_.path().c_str());
    }

    TuningOptions options_;
    networks::Program program_;
    TuningCompiler compiler_;
    TuningTrials trials_;
    TuningRecord record_;
    Progress progress_;
    std::set<std::string> known_;
    std::mt19937 random_{20180730};
};

}  // namespace

}  // namespace shufflenet::bench

int main(int argc, char **argv) {
    using namespace shufflenet::bench;
    try {
        const TuningOptions options = parse_tuning_options(argc, argv);
        handle_interrupts();
        Search(options).run();
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "autotune: error: " << error.what() << '\n';
        return 1;
    }
}
