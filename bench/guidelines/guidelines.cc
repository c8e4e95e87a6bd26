// The paper's experiments on this machine: G1 to G4, cells, units, networks. guidelines --help says how.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <ctime>
#include <filesystem>
#include <iostream>

#include "bench/common/child_process.h"
#include "bench/common/machine_info.h"
#include "bench/common/text_file.h"
#include "networks/targets.h"
#include "report.h"
#include "runtime/src/isa.h"

namespace shufflenet::bench {

namespace {

constexpr int kSchema = 2;
constexpr std::array kLists = {"tables", "decomposition", "networks"};

struct Options {
    std::string json, markdown, plots, from;
    std::vector<std::string> isas;
    bool quick = false, resume = false;
    MeasureOptions measure;
};

Options parse(int argc, char **argv) {
    Options options;
    CLI::App app(
        "Measures the experiments of the ShuffleNet V2 paper on this machine, prints their tables, and says of each\n"
        "guideline whether it holds. Every kernel's output is checked before it is timed.\n"
        "Elsewhere: copy this program to the machine, run it there with --json F, and make the report here with\n"
        "guidelines --from F --markdown M --plots DIR.");
    app.add_option("--json", options.json, "Write the figures to this file, after every part of the work");
    app.add_option("--markdown", options.markdown, "Write the tables to this file");
    app.add_option("--plots", options.plots, "Write charts to this folder, SVG and PNG (Python 3 with matplotlib)");
    app.add_option("--from", options.from, "Measure nothing: report what this JSON file has");
    app.add_option("--isa", options.isas, "Only these instruction sets")->delimiter(',');
    app.add_option("--threads", options.measure.threads, "Threads")->capture_default_str()->check(CLI::Range(1, 256));
    app.add_option("--rounds", options.measure.rounds, "Turns of each side")
        ->capture_default_str()
        ->check(CLI::Range(1, 1000));
    app.add_flag("--quick", options.quick, "The best instruction set, the first width, few rounds");
    app.add_flag("--resume", options.resume, "Keep what the file of --json has, measure the rest");
    try {
        app.parse(argc, argv);
        if (options.resume && options.json.empty()) throw CLI::RequiredError("--resume: --json");
    } catch (const CLI::ParseError &error) {
        const bool help = error.get_exit_code() == 0;
        if (help)
            app.exit(error);
        else
            std::cerr << "guidelines: error: " << error.what() << '\n';
        std::exit(help ? 0 : 2);
    }
    if (options.quick) options.measure.rounds = std::min(options.measure.rounds, 5);
    return options;
}

/// The instruction sets that are compiled in and that this CPU has, the best last.
std::vector<std::string> instruction_sets() {
    std::vector<std::string> all;
    for (const TargetSpec &target : kTargets) {
        const bool compiled =
            std::ranges::any_of(guideline_kernels(), [&](const GuidelineKernel &k) { return k.isa == target.name; });
        if (compiled && cpu_has(target.name)) all.emplace_back(target.name);
    }
    if (all.empty()) throw std::runtime_error("this CPU has none of the instruction sets that are compiled in");
    return all;
}

/// Those of them that are asked for.
std::vector<std::string> chosen_of(const std::vector<std::string> &all, const Options &options) {
    std::vector<std::string> chosen;
    for (const std::string &isa : options.isas) {
        if (std::ranges::find(all, isa) == all.end()) {
            throw std::runtime_error("--isa " + isa + ": not compiled in, or this CPU does not have it");
        }
        chosen.push_back(isa);
    }
    if (!chosen.empty()) return chosen;
    return options.quick ? std::vector<std::string>{all.back()} : all;
}

std::string today() {
    const std::time_t now = std::time(nullptr);
    char text[16];
    std::strftime(text, sizeof text, "%Y-%m-%d", std::localtime(&now));
    return text;
}

Json read_json(const std::string &path) {
    Json result = Json::parse(read_text(path), nullptr, false);
    const bool known = result.is_object() && result.value("schema", 0) == kSchema &&
                       std::ranges::all_of(kLists, [&](const char *list) { return result.contains(list); });
    if (!known) {
        throw std::runtime_error(path + ": expected a JSON object of schema " + std::to_string(kSchema));
    }
    return result;
}

/// What was measured before, if it was on this machine and with as many threads.
Json start(const Options &options) {
    Json fresh = {{"schema", kSchema},        {"machine", machine_name()},
                  {"date", today()},          {"threads", options.measure.threads},
                  {"quick", options.quick},   {"repeats", kRepeats},
                  {"tables", Json::array()},  {"decomposition", Json::array()},
                  {"networks", Json::array()}};
    if (!options.resume || !std::filesystem::exists(options.json)) return fresh;
    Json before = read_json(options.json);
    for (const char *key : {"machine", "threads", "quick", "repeats"}) {
        if (before.value(key, Json()) != fresh.at(key)) {
            throw std::runtime_error(options.json + ": --resume: \"" + key + "\" is not what it would be now, " +
                                     fresh.at(key).dump());
        }
    }
    return before;
}

/// One line on a terminal: a bar, and when it will be done.
class Progress {
  public:
    explicit Progress(size_t count) : count_(count), terminal_(isatty(STDERR_FILENO) != 0) {}
    ~Progress() {
        if (terminal_) std::fprintf(stderr, "\r\033[K");
    }
    Progress(const Progress &) = delete;
    Progress &operator=(const Progress &) = delete;

    /// `done` of the count are done, `measured` of them in this run.
    void show(size_t done, size_t measured, const std::string &name) const {
        if (!terminal_) return;
        const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
        constexpr size_t kWidth = 24;
        const size_t filled = kWidth * done / count_;
        std::string bar = std::string(filled, '#') + std::string(kWidth - filled, '.');
        std::fprintf(stderr, "\r\033[K[%s] %zu/%zu  %s", bar.c_str(), done, count_, name.c_str());
        if (measured > 0) {
            std::fprintf(stderr, "  ETA %.0f s",
                         elapsed / static_cast<double>(measured) * static_cast<double>(count_ - done));
        }
    }

  private:
    size_t count_;
    bool terminal_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

bool is_done(const Json &result, const std::string &name) {
    return std::ranges::any_of(kLists, [&](const char *list) {
        return std::ranges::any_of(result.at(list), [&](const Json &set) { return set.at("set") == name; });
    });
}

void save(const Options &options, Json &result) {
    result["verdicts"] = verdicts_of(result);
    if (!options.json.empty()) write_text(options.json, result.dump(1) + "\n");
}

Json measure(const Options &options) {
    Json result = start(options);
    const std::vector<std::string> all = instruction_sets(), isas = chosen_of(all, options);
    std::vector<MeasuredSet> sets = table_sets(options.quick ? 1 : 3, isas);
    const auto append = [&sets](const std::vector<MeasuredSet> &more) {
        sets.insert(sets.end(), more.begin(), more.end());
    };
    // Whole networks are compiled for the best one.
    if (!options.quick && isas.back() == all.back()) {
        append(decomposition_sets(all.back()));
        append(network_sets());
    }
    const Progress progress(sets.size());
    size_t measured = 0;
    for (size_t i = 0; i < sets.size() && !interrupted(); ++i) {
        if (is_done(result, sets[i].name)) continue;
        progress.show(i, measured++, sets[i].name);
        Json set = {{"set", sets[i].name}};
        set.update(sets[i].measure(options.measure));
        result[sets[i].list].push_back(set);
        save(options, result);
    }
    save(options, result);
    return result;
}

void plot(const Options &options, const Json &result) {
    std::filesystem::create_directories(options.plots);
    const std::vector<std::string> command = {
        "/usr/bin/python3", SHUFFLENET_SOURCE_DIR "/bench/guidelines/plot_guidelines.py", "-", options.plots};
    const ChildResult child = run_child(command, result.dump(), 300);
    if (!child.ok) throw std::runtime_error("--plots " + options.plots + ": " + child.failure);
}

int run(int argc, char **argv) {
    const Options options = parse(argc, argv);
    handle_interrupts();
    const Json result = options.from.empty() ? measure(options) : read_json(options.from);
    if (interrupted()) {
        std::cerr << "guidelines: interrupted" << (options.json.empty() ? "" : "; --resume goes on") << '\n';
        return 1;
    }
    const std::string tables = markdown_of(result);
    std::cout << tables;
    if (!options.markdown.empty()) write_text(options.markdown, tables);
    if (!options.plots.empty()) plot(options, result);
    return 0;
}

}  // namespace

}  // namespace shufflenet::bench

int main(int argc, char **argv) {
    try {
        return shufflenet::bench::run(argc, argv);
    } catch (const std::exception &error) {
        std::cerr << "guidelines: error: " << error.what() << '\n';
        return 1;
    }
}
