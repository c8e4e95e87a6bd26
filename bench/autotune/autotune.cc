// Searches the numbers of a model's schedules, kernel by kernel, and writes them to schedules/tuned/<target>/.
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
#include <optional>
#include <random>
#include <set>
#include <stdexcept>

#include "networks/layers.h"
#include "tuning_record.h"
#include "tuning_trials.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

// Versions in one trial: enough to share the cost of a process, few enough to run in turn within milliseconds.
constexpr size_t kBatch = 9;
constexpr double kTrialMilliseconds = 60, kConfirmMilliseconds = 250;
// A win below this is noise.
constexpr double kGain = 0.995;
// A win that is worth another kernel for larger batches.
constexpr double kOwnKernelGain = 0.97;
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

class Search {
  public:
    explicit Search(const TuningOptions &options)
        : options_(options),
          network_(*find_network(options.network)),
          compiler_(options_),
          trials_(options_, options.trial.empty() ? compiler_.program("kernel_trial").string() : options.trial),
          record_(options),
          progress_(options.budget) {}

    void run() {
        const std::vector<Kernel> kernels = chosen_kernels();
        // What most of the time goes to comes first, and gets most of the budget.
        std::vector<std::pair<double, const Kernel *>> order;
        for (const Kernel &kernel : kernels) order.emplace_back(weight(kernel), &kernel);
        std::sort(order.rbegin(), order.rend());
        double left = 0;
        for (const auto &[share, kernel] : order) left += share;
        for (const auto &[share, kernel] : order) {
            if (interrupted()) break;
            const double now = progress_.elapsed();
            tune_all(*kernel, now + std::max(0.0, options_.budget - now) * share / left);
            left -= share;
        }
        report(kernels);
    }

  private:
    /// Those that the options name, or all.
    std::vector<Kernel> chosen_kernels() const {
        std::vector<Kernel> all = options_.device != nullptr
                                      ? device_kernels_of(network_, {options_.height, options_.width}, *options_.device)
                                      : kernels_of(network_);
        for (const std::string &name : options_.kernels) {
            if (std::ranges::none_of(all, [&](const Kernel &kernel) { return kernel.name == name; })) {
                std::string names;
                for (const Kernel &kernel : all) names += (names.empty() ? "" : ", ") + kernel.name;
                throw std::runtime_error("unknown kernel '" + name + "': expected one of " + names);
            }
        }
        if (options_.kernels.empty()) return all;
        std::erase_if(all,
                      [&](const Kernel &kernel) { return std::ranges::count(options_.kernels, kernel.name) == 0; });
        return all;
    }

    /// About the multiply-adds of a kernel's calls; the square root, because small kernels need steps too.
    double weight(const Kernel &kernel) const {
        if (options_.device != nullptr) return std::sqrt(device_flops(kernel));
        double flops = 0;
        for (const Layer &layer : network_layers(network_, {options_.height, options_.width}, kDefaultClasses)) {
            const std::string id(layer.id.view());
            const bool in_unit0 = id.find("_unit0_") != std::string::npos;
            const std::string stage = kernel.name.substr(0, 6);
            const bool mine =
                kernel.name.ends_with("_basic") ? id.starts_with(stage) && !in_unit0
                : kernel.name.starts_with("stage")
                    ? id.starts_with(stage) && in_unit0 && id.find(kernel.name.substr(12)) != std::string::npos
                    : id.starts_with(kernel.generator == "conv5_pool" ? "conv5" : kernel.generator);
            if (mine) flops += static_cast<double>(layer.flops());
        }
        return std::sqrt(flops);
    }

    /// Multiply-adds of a device's kernel in a run of one image.
    double device_flops(const Kernel &kernel) const {
        // A run calls its launches by the units that they belong to.
        std::string id = kernel.name;
        const auto rename = [&id](const std::string &from, const std::string &to) {
            if (const size_t at = id.find(from); at != std::string::npos) id.replace(at, from.size(), to);
        };
        rename("_down_", "_unit0_");
        rename("_basic_", "_unit1_");
        rename("_expand", "_branch2_expand");
        rename("_project", "_branch2_project");
        const bool fused = kernel.generator == "batched_branch2";
        const auto launches = device_kernels(network_, {options_.height, options_.width}, kDefaultClasses, 1,
                                             [fused](int, bool) { return fused; });
        const auto found = std::ranges::find_if(launches, [&](const DeviceKernel &k) { return k.id.view() == id; });
        return kernel.calls * static_cast<double>(found->multiply_adds);
    }

    /// A CPU's kernel for all threads together; a device's for the smallest batch, and then for each larger one, which
    /// has numbers of its own only if these are worth another kernel.
    void tune_all(const Kernel &kernel, double until) {
        if (options_.device == nullptr) {
            tune(kernel, 0, record_.numbers(kernel.name, 0), until);
            return;
        }
        std::optional<Version> used;
        auto batches = static_cast<double>(options_.batches.size());
        for (const int count : options_.batches) {
            if (interrupted()) return;
            const double now = progress_.elapsed();
            const double share = now + std::max(0.0, until - now) / batches--;
            trials_.judge_by({count});
            const int batch = used ? count : 0;
            const Candidate start = !used || options_.resume ? record_.numbers(kernel.name, batch) : used->numbers;
            const std::optional<Version> found = tune(kernel, batch, start, share);
            if (!found) return;
            used = used ? chosen(kernel, batch, *used, *found) : found;
        }
    }

    /// Of the version of smaller batches and this one's own, the one that it gets.
    Version chosen(const Kernel &kernel, int batch, const Version &smaller, const Version &own) {
        const std::vector<Version> measured = trials_.run(
            kernel, compiler_.oracle(kernel), {smaller, own, compiler_.version(kernel, {})}, kConfirmMilliseconds);
        const bool differ = smaller.numbers != own.numbers;
        if (measured.size() < 3 || (differ && measured[1].relative < kOwnKernelGain)) return own;
        record_.store(kernel.name, batch, {}, measured[2].times, measured[0].times);
        return smaller;
    }

    /// The best version that was found, whose numbers are in the record; nothing: the search was interrupted before
    /// there was one.
    std::optional<Version> tune(const Kernel &kernel, int batch, const Candidate &start, double until) {
        const Size input{options_.height, options_.width};
        const std::vector<Gene> genes = options_.device != nullptr ? device_genes_of(kernel, network_, input)
                                                                   : genes_of(kernel, network_, input, options_.spec);
        const Version oracle = compiler_.oracle(kernel);
        const Version first = compiler_.version(kernel, {});
        Version best = compiler_.version(kernel, start);
        std::vector<Version> measured = trials_.run(kernel, oracle, {first, best}, kConfirmMilliseconds);
        if (measured.size() < 2) {
            if (!interrupted()) progress_.line(kernel.name + ": the tuned schedule fails, starting from the default");
            best = first;
            measured = trials_.run(kernel, oracle, {first, best}, kConfirmMilliseconds);
        }
        if (interrupted()) return {};
        if (measured.size() < 2) throw std::runtime_error(kernel.name + ": cannot be timed: " + trials_.failure());
        best = measured[1];
        best.relative = 1;
        record_.set_device(trials_.device());
        record_.store(kernel.name, batch, best.numbers, measured[0].times, best.times);

        known_.clear();
        compiler_.start_over();
        std::vector<Version> parents = {best};
        int tried = 0;
        for (int idle = 0; idle < kPatience && progress_.elapsed() < until && !interrupted() && !genes.empty();) {
            progress_.show(kernel.name, tried, best.times.begin()->second);
            const std::vector<Candidate> children = offspring(genes, parents, tried == 0);
            if (children.empty()) break;
            std::vector<Version> versions = compiler_.compile(kernel, children);
            tried += static_cast<int>(children.size());
            versions.insert(versions.begin(), best);
            versions = trials_.run(kernel, oracle, std::move(versions), kTrialMilliseconds);
            ++idle;
            if (versions.size() < 2) continue;
            versions.erase(versions.begin());
            std::sort(versions.begin(), versions.end(), faster);
            if (challenge(kernel, batch, oracle, first, best, versions.front(), parents)) idle = 0;
            parents.insert(parents.end(), versions.begin(), versions.end());
            std::sort(parents.begin(), parents.end(), faster);
            if (parents.size() > kParents) parents.resize(kParents);
        }
        progress_.line(summary(kernel, best, tried));
        return best;
    }

    static bool faster(const Version &a, const Version &b) { return a.relative < b.relative; }

    /// Whether the fastest of a trial beats `best` again; then it takes its place, and `parents` are measured by it.
    bool challenge(const Kernel &kernel, int batch, const Version &oracle, const Version &first, Version &best,
                   Version &challenger, std::vector<Version> &parents) {
        if (challenger.relative >= kGain) return false;
        const std::vector<Version> again = trials_.run(kernel, oracle, {best, challenger, first}, kConfirmMilliseconds);
        if (again.size() < 3) return false;
        challenger = again[1];
        if (challenger.relative >= kGain) return false;
        for (Version &parent : parents) parent.relative /= challenger.relative;
        challenger.relative = 1;
        best = challenger;
        record_.store(kernel.name, batch, best.numbers, again[2].times, best.times);
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

    static std::string summary(const Kernel &kernel, const Version &best, int tried) {
        std::string times;
        for (const auto &[count, time] : best.times) {
            char text[64];
            std::snprintf(text, sizeof text, "%s%.1f us (%s)", times.empty() ? "" : ", ", time, count.c_str());
            times += text;
        }
        return kernel.name + ": " + times + " after " + std::to_string(tried) +
               " versions: " + Json(best.numbers).dump();
    }

    void report(const std::vector<Kernel> &kernels) {
        const char *unit = options_.device != nullptr ? "image(s)" : "thread(s)";
        for (const int number : options_.counts()) {
            const std::string count = std::to_string(number);
            const double before = record_.total(kernels, "default", count),
                         after = record_.total(kernels, "tuned", count);
            std::printf("%s, %s, %s %s: %.0f us by the default schedule, %.0f us tuned (%.2fx)\n",
                        options_.model.c_str(), options_.target.c_str(), count.c_str(), unit, before, after,
                        before / after);
        }
        std::printf("%s\n", record_.path().c_str());
    }

    TuningOptions options_;
    const Network &network_;
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
