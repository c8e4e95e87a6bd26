// Any network of an ONNX file, operator by operator, as a graph with weights of its own.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "networks/graph.h"
#include "shufflenet/status.h"

namespace shufflenet {

/// A network out of a file.
struct ImportedNetwork {
    networks::Graph graph;               ///< Outputs have the file's names.
    std::vector<std::byte> safetensors;  ///< Its weights, F32; batch normalisation is folded into them.
};

/// `name` is what messages call the file. `size`: of the input, where it is not the file's own; a file that leaves it
/// open needs it. Whatever the bytes, the answer is a network or a kBadInput that names the node that cannot be
/// computed, and why; on an error `out` is unchanged.
Status import_onnx(std::span<const std::byte> file, const std::string &name, std::optional<Size> size,
                   ImportedNetwork *out);

}  // namespace shufflenet
