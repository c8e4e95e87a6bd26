// Which layer of a traced graph is which layer of a network.
#pragma once

#include <string>
#include <vector>

#include "trace.h"

namespace shufflenet::imports {

/// The ShuffleNetV2 whose convolutions the graph has: a published one, else one of any widths and depths, else the
/// published one whose convolutions it has most of. Throws Refusal if it has none of any.
networks::Graph nearest_network(const Trace &trace);

/// A traced graph in a network's terms: its layers in the network's order, all channels numbered by that.
struct Matched {
    networks::Graph graph;
    std::vector<FileLayer> layers;
    std::vector<networks::Output> tensors;  ///< As Trace::tensors.
};

/// Checks kinds, kernels, strides, pads and groups. Throws a Refusal that names the node that differs, and how.
Matched match_layers(const Trace &trace, const networks::Graph &network);

/// The same for the layers of a graph whose trace broke off: throws only if one of them differs.
void check_layers(const Trace &trace, const networks::Graph &network);

}  // namespace shufflenet::imports
