// All that the written files say of a model.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"
#include "networks/program.h"

namespace shufflenet::compile {

struct Model {
    std::string name, network;
    networks::Program program;
    std::vector<CompiledTarget> targets;
    /// What is embedded: packed weights, or a weight file, and metadata.
    bool packed = false, weights = false, metadata = false;
    /// A weight file beside the library; empty: none.
    std::string weights_file;
};

/// Of the last linear layer, as built; 0: there is none.
int classes_of(const networks::Graph &graph);

/// Memory that the first thread takes: the activations of one image, a group's rows, and the scratch of the instruction
/// set that needs most.
int64_t arena_bytes(const networks::Program &program, const std::vector<CompiledTarget> &targets);

}  // namespace shufflenet::compile
