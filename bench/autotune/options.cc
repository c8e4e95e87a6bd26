#include "options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <stdexcept>

#include "networks/catalog.h"

namespace shufflenet::bench {

namespace {

void add_options(CLI::App &app, TuningOptions &options, std::string &target) {
    app.add_option("--model", options.model, "Model: a published network, or any name with --network")->required();
    app.add_option("--target", target, "Instruction set, a row of networks/targets.h")->required();
    app.add_option("--network", options.network, "Network; default: the model's name");
    app.add_option("--height", options.input.height, "Input height in pixels; default: as published");
    app.add_option("--width", options.input.width, "Input width in pixels; default: as published");
    app.add_option("--budget", options.budget, "Seconds that the search may take")->capture_default_str();
    app.add_option("--threads", options.threads, "Thread counts to be fast at")->delimiter(',')->capture_default_str();
    app.add_option("--kernel", options.kernels,
                   "Only this kernel: a call of it, e.g. stage3_unit1_branch2, or its key; may be given several times");
    app.add_option("--output", options.output, "Folder of the tuned files")->capture_default_str();
    app.add_option("--runner", options.runner,
                   "Command that runs the timing program elsewhere: its path is appended, shared objects come on its\n"
                   "standard input. Example: --runner 'ssh board'");
    app.add_option("--trial", options.trial,
                   "Timing program of another build, where the runner finds it: for a target of another processor,\n"
                   "kernel_trial of that processor's preset");
    app.add_option("--compiler", options.compiler, "C++ compiler that assembles and links the target's kernels")
        ->capture_default_str();
    app.add_flag("--resume", options.resume, "Start from the tuned file instead of from the hand-made schedule");
}

/// Prints help or what is wrong, and exits, where the command line is not one.
void parse(CLI::App &app, int argc, char **argv) {
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
}

void find_network(TuningOptions &options) {
    if (options.network.empty()) options.network = options.model;
    const networks::PublishedNetwork *network = networks::find_published(options.network);
    if (network == nullptr) {
        std::string names;
        for (const networks::PublishedNetwork &row : networks::published_networks()) {
            if (!row.test) names += (names.empty() ? "" : ", ") + row.name;
        }
        throw std::runtime_error("unknown network '" + options.network + "': expected one of " + names);
    }
    if (options.input.height == 0) options.input.height = network->crop;
    if (options.input.width == 0) options.input.width = network->crop;
}

void find_target(TuningOptions &options, const std::string &name) {
    const TargetSpec *target = shufflenet::find_target(name);
    if (target == nullptr) {
        throw std::runtime_error("unknown target '" + name + "': expected one of " + target_names());
    }
    options.target = *target;
    if (target->processor != kProcessor && options.trial.empty()) {
        throw std::runtime_error("target '" + name + "' is for " + std::string(target->processor) +
                                 ": name its --trial program, --compiler and --runner");
    }
}

}  // namespace

TuningOptions parse_tuning_options(int argc, char **argv) {
    TuningOptions options;
    std::string target;
    CLI::App app(
        "Searches the numbers of the schedules of a model's kernels, and writes them to "
        "schedules/tuned/<target>.json,\n"
        "where the next build finds them: for these kernels, and for equal ones of any other model.");
    add_options(app, options, target);
    parse(app, argc, argv);
    find_network(options);
    find_target(options, target);
    if (options.budget <= 0) throw std::runtime_error("--budget: expected seconds above 0");
    if (options.input.height < 1 || options.input.width < 1) {
        throw std::runtime_error("--height, --width: expected pixels above 0");
    }
    if (options.threads.empty() || std::ranges::any_of(options.threads, [](int t) { return t < 1 || t > 256; })) {
        throw std::runtime_error("--threads: expected counts from 1 to 256");
    }
    return options;
}

}  // namespace shufflenet::bench
