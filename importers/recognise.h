// Which network a file of weights is of.
#pragma once

#include <optional>
#include <vector>

#include "graph_weights.h"
#include "networks/graph.h"
#include "networks/shufflenet_v2.h"
#include "runtime/src/safetensors.h"

namespace shufflenet {

/// The published networks, or only ShuffleNetV2.
enum class Family { kAll, kShuffleNetV2 };
std::vector<networks::Graph> published_graphs(Family family);

/// The published network that the file has all weights of, and nothing else.
std::optional<networks::Graph> exact_network(const Safetensors &file);

/// The same of a ShuffleNetV2 of any width and depth with torchvision's names, by its tensors' shapes, which do not
/// tell activations and strides.
std::optional<networks::ShuffleNetV2> guess_shufflenet_v2(const Safetensors &file);

/// The same of a graph without names, whose layers are in an order in which they can run.
std::optional<networks::ShuffleNetV2> guess_shufflenet_v2(const networks::Graph &graph);

/// One of the first two or, without any, the published network that the file resembles most.
networks::Graph nearest_network(const Safetensors &file);

}  // namespace shufflenet
