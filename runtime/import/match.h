// Which layer of a traced graph is which row of a network's table.
#pragma once

#include <vector>

#include "canonical.h"
#include "trace.h"

namespace shufflenet::imports {

/// The network whose weights' shapes the graph has most of. Throws Refusal if it has none of any.
const Network &nearest_network(const Trace &trace);

/// A graph's layers as the rows of a network's table.
struct Matched {
    std::vector<SourceLayer> layers;  ///< In the order of network_layers().
    std::vector<int> row_of;          ///< The row of each traced layer.
    std::string logits;               ///< The output that the last layer makes.
};

/// Checks kernels, strides, pads and groups. Throws a Refusal that names the node that differs, and how.
Matched match_layers(const Trace &trace, const Network &network);

/// The same for the layers of a graph whose trace broke off: throws only if one of them differs.
void check_layers(const Trace &trace, const Network &network);

/// Where the graph has a feature: channel i of the tensor is torchvision's canonical[i].
struct FoundFeature {
    std::string tensor;
    std::vector<int> canonical;
};

/// Tensors of the graph that hold the network's features, in the order of Canonical::features; nothing where there is
/// none.
std::vector<std::optional<FoundFeature>> find_features(const Trace &trace, const Matched &matched,
                                                       const Canonical &canonical);

}  // namespace shufflenet::imports
