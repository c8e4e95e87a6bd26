// The command line of shufflenet_compile.
#pragma once

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "importers/lower.h"
#include "networks/devices.h"
#include "networks/graph.h"
#include "networks/targets.h"
#include "networks/weight_layout.h"

namespace shufflenet::compile {

/// Bad usage: exit status 2. Anything else that is thrown is bad input: 1.
class UsageError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

enum class Mode {
    kModel,          ///< Writes objects, descriptor and header.
    kCheck,          ///< Says what would be compiled.
    kListKernels,    ///< Lists the kernels.
    kHalideRuntime,  ///< Writes what all models need of Halide's runtime.
};

/// What the weights are for, beside being copied.
enum class Embed { kNo, kPacked, kHalf };

struct Options {
    Mode mode = Mode::kModel;
    std::string name, network;
    std::string onnx;                                 ///< In place of a network and its weights.
    std::shared_ptr<const ImportedNetwork> imported;  ///< What that file holds.
    std::vector<int> units, channels;
    std::optional<int> conv5, classes;
    std::optional<networks::Activation> activation;
    std::optional<Size> pool_stride;
    std::vector<std::string> outputs;
    Size input{224, 224};
    bool has_input = false;  ///< Whether it was said.
    /// In the order of kTargets, whatever order they were given in: it is the order of dispatch.
    std::vector<const TargetSpec *> targets;
    std::vector<const DeviceSpec *> devices;  ///< In the order of kDevices.
    int cuda_capability = 70;
    std::string processor;
    std::string weights, metadata, tuned;
    Embed embed = Embed::kNo;
    Element linear = Element::kF32;  ///< Of the last linear layer's weights.
    std::string output, depfile;
    int jobs = 0;  ///< 0: one for each processor.
    bool quiet = false, reference = false, asan = false;
    std::string abi;  ///< Of the runtime; empty: this program's.
    std::string cxx, ar;
    /// Of kModel: objects and the descriptor's source instead of a library. Of kHalideRuntime: all of it, as it is.
    bool objects = false, whole = false;
    std::vector<std::string> runtime, include;
};

/// Throws UsageError. Nothing: help was asked for, and printed.
std::optional<Options> parse_options(int argc, char **argv);

}  // namespace shufflenet::compile
