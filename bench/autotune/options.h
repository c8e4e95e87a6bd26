// What a search is asked for.
#pragma once

#include <string>
#include <vector>

#include "networks/size.h"
#include "networks/targets.h"

namespace shufflenet::bench {

/// The autotuner's command line; `budget` in seconds.
struct TuningOptions {
    std::string model, network, runner, output = SHUFFLENET_SOURCE_DIR "/schedules/tuned";
    /// For a target of another processor: what assembles and links its kernels, and the timing program built for it.
    std::string compiler = SHUFFLENET_CXX, trial;
    Size input;
    double budget = 300;
    bool resume = false;
    std::vector<int> threads = {1, 2};
    TargetSpec target{};
    /// Calls or keys of the kernels to search; none: all.
    std::vector<std::string> kernels;
};

/// Parses the command line; prints help or a usage error and exits itself. Throws std::runtime_error that names the
/// option for a value that cannot be.
TuningOptions parse_tuning_options(int argc, char **argv);

}  // namespace shufflenet::bench
