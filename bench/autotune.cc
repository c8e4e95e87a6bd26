// Searches the numbers of a model's schedules, kernel by kernel, and writes them to schedules/tuned/<target>/.
//
// The search is evolutionary, seeded by the hand-made schedule. A kernel has a handful of genes with few values each
// and little interaction (a register tile is good or bad almost whatever the blocking), so a step first varies single
// genes of the best, which finds what a random search finds with a fraction of the compilations (a compilation costs
// as much as hundreds of timings), then crosses the good ones. Noise decides much on a shared machine, so versions
// run in turn in one process beside the best so far, and a winner must win again, in a longer trial, to be kept.
#include <CLI/CLI.hpp>

#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <future>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>

#include "child_process.h"
#include "machine_info.h"
#include "networks/layers.h"
#include "networks/targets.h"
#include "runtime/src/file.h"
#include "tuning_space.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;
namespace fs = std::filesystem;

// Twice the tests' tolerance for a whole network would let one kernel use up all of it; a kernel's sums are shorter.
constexpr double kTolerance = 5e-6;
// Versions in one trial: enough to share the cost of a process, few enough to run in turn within milliseconds.
constexpr size_t kBatch = 9;
constexpr double kTrialMilliseconds = 60, kConfirmMilliseconds = 250;
// A win below this is noise.
constexpr double kGain = 0.995;
constexpr int kParents = 4;
constexpr double kCompileSeconds = 120, kTrialSeconds = 120;
// Steps without a better version after which a kernel's remaining time goes to the others.
constexpr int kPatience = 3;

struct Options {
    std::string model, target, network, runner, output = SHUFFLENET_SOURCE_DIR "/schedules/tuned";
    int height = kDefaultCrop, width = kDefaultCrop;
    double budget = 300;
    bool resume = false;
    std::vector<int> threads = {1, 2};
    std::vector<std::string> kernels;
};

/// Undisturbed microseconds (5th percentile) by thread count.
using Times = std::map<std::string, double>;

struct Version {
    Candidate numbers;
    std::string symbol, object;
    Times times;
    /// Geometric mean, over thread counts, of the time over that of the best version in the same trial.
    double relative = 0;
};

/// The folder for generated files; gone at the end.
class Workshop {
  public:
    Workshop() {
        std::string pattern = (fs::temp_directory_path() / "shufflenet-autotune-XXXXXX").string();
        if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error(pattern + ": cannot be created");
        path_ = pattern;
    }
    ~Workshop() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    Workshop(const Workshop &) = delete;
    Workshop &operator=(const Workshop &) = delete;
    const fs::path &path() const { return path_; }

  private:
    fs::path path_;
};

std::string read_text(const fs::path &path) {
    std::vector<std::byte> bytes;
    if (const Status status = read_file(path.string(), &bytes); !status.ok())
        throw std::runtime_error(status.message());
    return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

void write_text(const fs::path &path, const std::string &text) {
    const Status status = write_file_atomically(path.string(), std::as_bytes(std::span(text)));
    if (!status.ok()) throw std::runtime_error(status.message());
}

/// Compiles versions of one kernel, several at a time.
class Compiler {
  public:
    Compiler(const Options &options, const TargetSpec &target, const fs::path &folder)
        : options_(options),
          target_(target),
          folder_(folder),
          programs_(fs::read_symlink("/proc/self/exe").parent_path()) {}

    /// The versions that compiled, without those whose machine code was seen before.
    std::vector<Version> compile(const Kernel &kernel, const std::vector<Candidate> &candidates) {
        std::vector<Version> compiled;
        const size_t at_once = std::max(1U, std::thread::hardware_concurrency());
        for (size_t first = 0; first < candidates.size() && !interrupted(); first += at_once) {
            std::vector<std::future<std::optional<Version>>> running;
            for (size_t i = first; i < std::min(candidates.size(), first + at_once); ++i) {
                running.push_back(std::async(std::launch::async, [&, i, number = ++count_] {
                    return compile_one(kernel, candidates[i], false, number);
                }));
            }
            for (auto &result : running) {
                std::optional<Version> version = result.get();
                if (version && seen_.insert(kernel.name + code_of(*version)).second)
                    compiled.push_back(std::move(*version));
            }
        }
        return compiled;
    }

    /// The version without a schedule: slow and right. Throws if it does not compile.
    Version oracle(const Kernel &kernel) {
        std::optional<Version> version = compile_one(kernel, {}, true, ++count_);
        if (!version) throw std::runtime_error(kernel.name + ": the reference does not compile: " + failure_);
        return *version;
    }
    Version plain(const Kernel &kernel, const Candidate &numbers) {
        std::optional<Version> version = compile_one(kernel, numbers, false, ++count_);
        if (!version) throw std::runtime_error(kernel.name + ": the starting schedule does not compile: " + failure_);
        return *version;
    }

    fs::path program(const std::string &name) const { return programs_ / name; }

  private:
    std::optional<Version> compile_one(const Kernel &kernel, const Candidate &numbers, bool oracle, int number) {
        // Every version has the same symbol, so that equal schedules are equal files.
        const fs::path folder = folder_ / std::to_string(number);
        fs::create_directories(folder);
        const fs::path tuned = folder / "tuned.json";
        write_text(tuned, Json{{"kernels", {{kernel.name, numbers}}}}.dump());
        std::vector<std::string> command = {
            program("shufflenet_generators").string(),
            "-g",
            kernel.generator,
            "-f",
            "kernel",
            "-o",
            folder.string(),
            "-e",
            "object",
            "target=" + std::string(target_.halide) + "-" + std::string(kKernelFeatures),
            "network=" + options_.network,
            "height=" + std::to_string(options_.height),
            "width=" + std::to_string(options_.width),
            "kernel=" + kernel.name,
            "tuned=" + tuned.string()};
        command.insert(command.end(), kernel.parameters.begin(), kernel.parameters.end());
        if (oracle) command.emplace_back("reference=true");
        ChildResult made = run_child(command, "", kCompileSeconds);
        const fs::path object = folder / "kernel.so";
        if (made.ok) {
            made = run_child({SHUFFLENET_CXX, "-shared", "-o", object.string(), (folder / "kernel.o").string()}, "",
                             kCompileSeconds);
        }
        if (!made.ok) {
            failure_ = made.failure;
            return std::nullopt;
        }
        return Version{numbers, "kernel", object.string(), {}, 0};
    }

    static std::string code_of(const Version &version) {
        return read_text(fs::path(version.object).replace_filename("kernel.o"));
    }

    const Options &options_;
    const TargetSpec &target_;
    fs::path folder_, programs_;
    std::set<std::string> seen_;
    std::atomic<int> count_{0};
    std::string failure_;
};

/// Runs versions of a kernel in turn, here or where the runner says.
class Trials {
  public:
    Trials(const Options &options, const fs::path &program) : options_(options) {
        if (!options.runner.empty())
            command_ = {"sh", "-c", options.runner + " " + program.string()};
        else
            command_ = {program.string()};
    }

    /// Fills in times, in order; versions that fail or compute something else are dropped. The first version is
    /// the one that `relative` refers to, and must not fail.
    std::vector<Version> run(const Kernel &kernel, const Version &oracle, std::vector<Version> versions,
                             double milliseconds) {
        const ChildResult child = ask(kernel, oracle, versions, milliseconds);
        if (child.ok) return judged(std::move(versions), Json::parse(child.output));
        failure_ = child.failure;
        if (interrupted() || versions.size() <= 2) return {};
        // One of them crashed or hung: each on its own beside the first.
        std::vector<Version> good;
        for (size_t i = 1; i < versions.size() && !interrupted(); ++i) {
            const std::vector<Version> pair = run(kernel, oracle, {versions[0], versions[i]}, milliseconds);
            if (pair.size() < 2) continue;
            if (good.empty()) good.push_back(pair[0]);
            good.push_back(pair[1]);
        }
        return good;
    }

    /// Why the last trial that failed did.
    const std::string &failure() const { return failure_; }

  private:
    ChildResult ask(const Kernel &kernel, const Version &oracle, const std::vector<Version> &versions,
                    double milliseconds) {
        Json objects = Json::array();
        std::string bytes;
        const auto append = [&](const Version &version) {
            const std::string object = read_text(version.object);
            objects.push_back({{"symbol", version.symbol}, {"bytes", object.size()}});
            bytes += object;
        };
        append(oracle);
        for (const Version &version : versions) append(version);
        const Json request = {{"network", options_.network},
                              {"height", options_.height},
                              {"width", options_.width},
                              {"isa", options_.target},
                              {"kernel", kernel.name},
                              {"threads", options_.threads},
                              {"milliseconds", milliseconds * static_cast<double>(versions.size())},
                              {"objects", objects}};
        return run_child(command_, request.dump() + "\n" + bytes, kTrialSeconds);
    }

    std::vector<Version> judged(std::vector<Version> versions, const Json &answer) {
        std::vector<Version> good;
        for (size_t i = 0; i < versions.size(); ++i) {
            const Json &trial = answer.at("trials").at(i);
            Version &version = versions[i];
            double logarithms = 0;
            for (const auto &[threads, times] : trial.at("microseconds").items()) {
                version.times[threads] = times.at("fast");
                logarithms += std::log(version.times[threads] / versions[0].times[threads]);
            }
            version.relative = std::exp(logarithms / static_cast<double>(version.times.size()));
            if (trial.at("error") <= kTolerance) {
                good.push_back(version);
            } else if (i == 0) {
                throw std::runtime_error("the starting schedule computes something else: error " +
                                         trial.at("error").dump());
            }
        }
        return good;
    }

    const Options &options_;
    std::vector<std::string> command_;
    std::string failure_;
};

/// The best numbers and figures of every kernel; on disk after each change.
class Record {
  public:
    Record(const Options &options) : path_(fs::path(options.output) / options.target / (options.model + ".json")) {
        if (options.resume && fs::exists(path_)) {
            root_ = Json::parse(read_text(path_), nullptr, false);
            if (!root_.is_object() || !root_.contains("kernels")) {
                throw std::runtime_error(path_.string() + ": --resume: expected a JSON object with \"kernels\"");
            }
        }
        root_["model"] = options.model;
        root_["network"] = options.network;
        root_["target"] = options.target;
        root_["input"] = {options.height, options.width};
        if (options.runner.empty())
            root_["machine"] = machine_name();
        else
            root_["machine"] = "by " + options.runner;
        if (!root_.contains("kernels")) root_["kernels"] = Json::object();
    }

    Candidate numbers(const std::string &kernel) const {
        if (!root_["kernels"].contains(kernel)) return {};
        return root_["kernels"][kernel].get<Candidate>();
    }

    /// `default_times`, `times`: of the hand-made schedule and of the best one, in turn in one process.
    void store(const std::string &kernel, const Candidate &numbers, const Times &default_times, const Times &times) {
        if (numbers.empty())
            root_["kernels"].erase(kernel);
        else
            root_["kernels"][kernel] = numbers;
        root_["microseconds"][kernel] = {{"default", rounded(default_times)}, {"tuned", rounded(times)}};
        fs::create_directories(path_.parent_path());
        write_text(path_, root_.dump(2) + "\n");
    }

    const fs::path &path() const { return path_; }

    /// Time of all kernels of one image.
    double total(const std::vector<Kernel> &kernels, const char *which, const std::string &threads) const {
        double sum = 0;
        for (const Kernel &kernel : kernels) {
            const Json &figures = root_.at("microseconds");
            if (figures.contains(kernel.name)) sum += kernel.calls * figures[kernel.name][which][threads].get<double>();
        }
        return sum;
    }

  private:
    static Json rounded(const Times &times) {
        Json result = Json::object();
        for (const auto &[threads, time] : times) result[threads] = std::round(time * 10) / 10;
        return result;
    }

    fs::path path_;
    Json root_ = Json::object();
};

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
    Search(const Options &options, const TargetSpec &target)
        : options_(options),
          target_(target),
          network_(*find_network(options.network)),
          compiler_(options, target, workshop_.path()),
          trials_(options, compiler_.program("kernel_trial")),
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
            tune(*kernel, now + std::max(0.0, options_.budget - now) * share / left);
            left -= share;
        }
        report(kernels);
    }

  private:
    /// Those that the options name, or all.
    std::vector<Kernel> chosen_kernels() const {
        std::vector<Kernel> all = kernels_of(network_);
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

    void tune(const Kernel &kernel, double until) {
        const std::vector<Gene> genes =
            genes_of(kernel, network_, {options_.height, options_.width}, target_.registers);
        const Version oracle = compiler_.oracle(kernel);
        const Version first = compiler_.plain(kernel, {});
        Version best = compiler_.plain(kernel, record_.numbers(kernel.name));
        std::vector<Version> measured = trials_.run(kernel, oracle, {first, best}, kConfirmMilliseconds);
        if (measured.size() < 2) {
            if (!interrupted()) progress_.line(kernel.name + ": the tuned schedule fails, starting from the default");
            best = first;
            measured = trials_.run(kernel, oracle, {first, best}, kConfirmMilliseconds);
        }
        if (interrupted()) return;
        if (measured.size() < 2) throw std::runtime_error(kernel.name + ": cannot be timed: " + trials_.failure());
        best = measured[1];
        record_.store(kernel.name, best.numbers, measured[0].times, best.times);

        known_.clear();
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
            if (versions.empty()) break;
            parents.insert(parents.end(), versions.begin() + 1, versions.end());
            std::sort(parents.begin(), parents.end(),
                      [](const Version &a, const Version &b) { return a.relative < b.relative; });
            if (parents.size() > kParents) parents.resize(kParents);
            ++idle;
            if (improve(kernel, oracle, first, best, parents.front())) idle = 0;
        }
        progress_.line(summary(kernel, best, tried));
    }

    /// Whether `challenger` beats `best` again; then it takes its place.
    bool improve(const Kernel &kernel, const Version &oracle, const Version &first, Version &best,
                 const Version &challenger) {
        if (challenger.relative >= kGain || challenger.numbers == best.numbers) return false;
        std::vector<Version> both = trials_.run(kernel, oracle, {best, challenger, first}, kConfirmMilliseconds);
        if (both.size() < 3 || both[1].relative >= kGain) return false;
        best = both[1];
        best.relative = 1;
        record_.store(kernel.name, best.numbers, both[2].times, best.times);
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
        for (const auto &[threads, time] : best.times) {
            char text[64];
            std::snprintf(text, sizeof text, "%s%.1f us (%s)", times.empty() ? "" : ", ", time, threads.c_str());
            times += text;
        }
        return kernel.name + ": " + times + " after " + std::to_string(tried) +
               " versions: " + Json(best.numbers).dump();
    }

    void report(const std::vector<Kernel> &kernels) {
        for (const int count : options_.threads) {
            const std::string threads = std::to_string(count);
            const double before = record_.total(kernels, "default", threads),
                         after = record_.total(kernels, "tuned", threads);
            std::printf("%s, %s, %s thread(s): %.0f us by the default schedule, %.0f us tuned (%.2fx)\n",
                        options_.model.c_str(), options_.target.c_str(), threads.c_str(), before, after,
                        before / after);
        }
        std::printf("%s\n", record_.path().c_str());
    }

    Options options_;
    const TargetSpec &target_;
    const Network &network_;
    Workshop workshop_;
    Compiler compiler_;
    Trials trials_;
    Record record_;
    Progress progress_;
    std::set<std::string> known_;
    std::mt19937 random_{20180730};
};

Options parse(int argc, char **argv) {
    Options options;
    CLI::App app(
        "Searches the numbers of a model's schedules and writes them to schedules/tuned/<target>/<model>.json,\n"
        "where the next build finds them.");
    app.add_option("--model", options.model, "Model: the name of the file; a full-size network needs no --network")
        ->required();
    app.add_option("--target", options.target, "Instruction set: sse41, avx2 or avx512")->required();
    app.add_option("--network", options.network, "Network; default: the model's name");
    app.add_option("--height", options.height, "Input height in pixels")->capture_default_str();
    app.add_option("--width", options.width, "Input width in pixels")->capture_default_str();
    app.add_option("--budget", options.budget, "Seconds that the search may take")->capture_default_str();
    app.add_option("--threads", options.threads, "Thread counts to be fast at")->delimiter(',')->capture_default_str();
    app.add_option("--kernel", options.kernels, "Only this kernel, e.g. stage3_basic; may be given several times");
    app.add_option("--output", options.output, "Folder of the tuned files")->capture_default_str();
    app.add_option("--runner", options.runner,
                   "Command that runs the timing program elsewhere: its path is appended, shared objects come on its\n"
                   "standard input. Example: --runner 'ssh board'");
    app.add_flag("--resume", options.resume, "Start from the tuned file instead of from the hand-made schedule");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError &error) {
        const bool help = error.get_exit_code() == 0;
        if (help)
            app.exit(error);
        else
            std::cerr << "autotune: error: " << error.what() << '\n';
        std::exit(help ? 0 : 2);
    }
    if (options.network.empty()) options.network = options.model;
    if (find_network(options.network) == nullptr) {
        throw std::runtime_error("unknown network '" + options.network +
                                 "': expected shufflenet_v2_x0_5, x1_0, x1_5 or x2_0");
    }
    if (find_target(options.target) == nullptr) {
        throw std::runtime_error("unknown target '" + options.target + "': expected sse41, avx2 or avx512");
    }
    if (options.budget <= 0) throw std::runtime_error("--budget: expected seconds above 0");
    if (options.threads.empty() || std::ranges::any_of(options.threads, [](int t) { return t < 1 || t > 256; })) {
        throw std::runtime_error("--threads: expected counts from 1 to 256");
    }
    return options;
}

}  // namespace

}  // namespace shufflenet::bench

int main(int argc, char **argv) {
    using namespace shufflenet::bench;
    try {
        const Options options = parse(argc, argv);
        handle_interrupts();
        Search(options, *shufflenet::find_target(options.target)).run();
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "autotune: error: " << error.what() << '\n';
        return 1;
    }
}
