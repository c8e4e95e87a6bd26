// What a search is asked for.
#pragma once

#include <string>
#include <vector>

#include "networks/devices.h"
#include "networks/network.h"
#include "networks/targets.h"

namespace shufflenet::bench {

/// The autotuner's command line; `budget` in seconds.
struct TuningOptions {
    std::string model, target, network, runner, output = SHUFFLENET_SOURCE_DIR "/schedules/tuned";
    /// For a target of another processor: what links its kernels, and the timing program built for it.
    std::string compiler = SHUFFLENET_CXX, trial;
    int height = kDefaultCrop, width = kDefaultCrop;
    double budget = 300;
    bool resume = false;
    std::vector<int> threads = {1, 2};
    /// Ascending; each has numbers of its own, which are for so many images and more.
    std::vector<int> batches = {1, 8, 64};
    /// What the target is: of a device, the one of its kind that this build compiles for.
    TargetSpec spec{};
    const DeviceSpec *device = nullptr;

    /// What a kernel should be fast at: threads of a CPU, or images at a time of a device.
    const std::vector<int> &counts() const { return device != nullptr ? batches : threads; }
    std::vector<std::string> kernels;
};

/// Parses the command line; prints help or a usage error and exits itself. Throws std::runtime_error that names the
/// option for a value that cannot be.
TuningOptions parse_tuning_options(int argc, char **argv);

}  // namespace shufflenet::bench
