// A graph as text, one line a layer: what a library carries of its network, for tools (info, verify), and what a graph
// is compared by.
#pragma once

#include <string>
#include <string_view>

#include "graph.h"

namespace shufflenet::networks {

/// graph_from_text() gives an equal graph.
std::string graph_to_text(const Graph &graph);

/// Throws std::invalid_argument, with the number of the line, on what graph_to_text() does not write.
Graph graph_from_text(std::string_view text);

}  // namespace shufflenet::networks
