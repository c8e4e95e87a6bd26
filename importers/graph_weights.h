// What a weight file of a graph must hold. For tools: the runtime reads the same from a program.
#pragma once

#include <vector>

#include "networks/graph.h"
#include "runtime/src/checkpoint.h"

namespace shufflenet {

/// A graph's layers with weights, in order, as weight files have them. Moves keep what needed() returned valid.
class GraphWeights {
  public:
    explicit GraphWeights(networks::Graph graph);
    GraphWeights(const GraphWeights &) = delete;  // The layers view the graph's names.
    GraphWeights(GraphWeights &&) = default;
    GraphWeights &operator=(const GraphWeights &) = delete;
    GraphWeights &operator=(GraphWeights &&) = default;
    ~GraphWeights() = default;

    const networks::Graph &graph() const { return graph_; }
    NeededWeights needed() const { return {graph_.name, layers_, any_classes_}; }

  private:
    networks::Graph graph_;
    std::vector<shufflenet_layer> layers_;
    bool any_classes_ = false;
};

/// Number of the graph's last layer with weights; -1: there is none.
int last_with_weights(const networks::Graph &graph);

/// Whether that is linear, and an output by itself: then a weight file decides its outputs.
bool any_classes(const networks::Graph &graph);

/// Gives such a layer, and the outputs that it is, so many outputs.
void set_classes(networks::Graph *graph, int classes);

}  // namespace shufflenet
