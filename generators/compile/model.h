// All that the written files say of a model.
#pragma once

#include <string>
#include <vector>

#include "devices.h"
#include "kernels.h"
#include "program_data.h"

namespace shufflenet::compile {

struct Model {
    std::string name, network;
    const ProgramData &data;
    const networks::Program &program() const { return data.source(); }
    std::vector<CompiledTarget> targets;
    /// Devices, and their program; null: there are none.
    const ProgramData *device_data = nullptr;
    std::vector<CompiledDevice> devices{};
    /// What is embedded: packed weights, or a weight file, and metadata.
    bool packed = false, weights = false, metadata = false;
    /// A weight file beside the library; empty: none.
    std::string weights_file;
};

/// Memory that the first thread takes: the activations of one image, a group's rows, and the scratch of the instruction
/// set that needs most.
int64_t arena_bytes(const networks::Program &program, const std::vector<CompiledTarget> &targets);

}  // namespace shufflenet::compile
