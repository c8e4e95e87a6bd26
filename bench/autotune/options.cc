#include "tuning_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <stdexcept>

#include "networks/targets.h"

namespace shufflenet::bench {

namespace {

/// Fills in what the target is.
void find_kind(TuningOptions &options) {
    if (const TargetSpec *target = find_target(options.target)) {
        options.spec = *target;
        return;
    }
    options.device = find_device(options.target);
    if (options.device == nullptr) {
        std::string devices;
        for (const DeviceSpec &device : kDevices) devices += ", " + std::string(device.name);
        throw std::runtime_error("unknown target '" + options.target + "': expected " + target_names() + devices);
    }
    const char *halide = options.target == "cuda" ? SHUFFLENET_HALIDE_CUDA : SHUFFLENET_HALIDE_OPENCL;
    options.spec = {options.device->name, kProcessor, kThreadFloats, 0, halide};
}

}  // namespace

TuningOptions parse_tuning_options(int argc, char **argv) {
    TuningOptions options;
    CLI::App app(
        "Searches the numbers of a model's schedules and writes them to schedules/tuned/<target>/<model>.json,\n"
        "where the next build finds them.");
    app.add_option("--model", options.model, "Model: the name of the file; a full-size network needs no --network")
        ->required();
    app.add_option("--target", options.target, "Instruction set or device, a row of networks/targets.h or devices.h")
        ->required();
    app.add_option("--network", options.network, "Network; default: the model's name");
    app.add_option("--height", options.height, "Input height in pixels")->capture_default_str();
    app.add_option("--width", options.width, "Input width in pixels")->capture_default_str();
    app.add_option("--budget", options.budget, "Seconds that the search may take")->capture_default_str();
    app.add_option("--threads", options.threads, "Thread counts to be fast at")->delimiter(',')->capture_default_str();
    app.add_option("--batches", options.batches,
                   "Of a device: images in a run to be fast at, each with numbers of its own")
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--kernel", options.kernels, "Only this kernel, e.g. stage3_basic; may be given several times");
    app.add_option("--output", options.output, "Folder of the tuned files")->capture_default_str();
    app.add_option("--runner", options.runner,
                   "Command that runs the timing program elsewhere: its path is appended, shared objects come on its\n"
                   "standard input. Example: --runner 'ssh board'");
    app.add_option("--trial", options.trial,
                   "Timing program of another build, where the runner finds it: for a target of another processor,\n"
                   "kernel_trial of that processor's preset");
    app.add_option("--compiler", options.compiler, "C++ compiler that links the target's kernels")
        ->capture_default_str();
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
    find_kind(options);
    if (options.spec.processor != kProcessor && options.trial.empty()) {
        throw std::runtime_error("target '" + options.target + "' is for " + std::string(options.spec.processor) +
                                 ": name its --trial program, --compiler and --runner");
    }
    if (options.budget <= 0) throw std::runtime_error("--budget: expected seconds above 0");
    if (options.threads.empty() || std::ranges::any_of(options.threads, [](int t) { return t < 1 || t > 256; })) {
        throw std::runtime_error("--threads: expected counts from 1 to 256");
    }
    if (options.batches.empty() || std::ranges::any_of(options.batches, [](int n) { return n < 1 || n > 1024; })) {
        throw std::runtime_error("--batches: expected counts from 1 to 1024");
    }
    std::ranges::sort(options.batches);
    options.batches.erase(std::unique(options.batches.begin(), options.batches.end()), options.batches.end());
    return options;
}

}  // namespace shufflenet::bench
