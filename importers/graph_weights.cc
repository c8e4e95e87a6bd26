#include "importers/graph_weights.h"

#include <algorithm>
#include <utility>

namespace shufflenet {

namespace {

shufflenet_layer layer_of(const networks::Layer &layer) {
    return {layer.module.c_str(),
            layer.norm.c_str(),
            layer.kind == networks::LayerKind::kLinear ? 1 : 0,
            layer.norm.empty() && layer.bias ? 1 : 0,
            layer.out_channels,
            layer.group_channels(),
            layer.window.kernel.height,
            layer.window.kernel.width};
}

}  // namespace

GraphWeights::GraphWeights(networks::Graph graph) : graph_(std::move(graph)), any_classes_(any_classes(graph_)) {
    for (const networks::Layer &layer : graph_.layers) {
        if (layer.has_weights()) layers_.push_back(layer_of(layer));
    }
}

int last_with_weights(const networks::Graph &graph) {
    auto layer = static_cast<int>(graph.layers.size()) - 1;
    while (layer >= 0 && !graph.layers[layer].has_weights()) --layer;
    return layer;
}

bool any_classes(const networks::Graph &graph) {
    const int last = last_with_weights(graph);
    if (last < 0 || graph.layers[last].kind != networks::LayerKind::kLinear) return false;
    const networks::Tensor tensor = graph.tensor(last);
    return std::ranges::find(graph.outputs, tensor, &networks::Output::tensor) != graph.outputs.end();
}

void set_classes(networks::Graph *graph, int classes) {
    const int last = last_with_weights(*graph);
    const networks::Tensor before = graph->tensor(last);
    graph->layers[last].out_channels = classes;
    for (networks::Output &output : graph->outputs) {
        if (output.tensor == before) output.tensor = graph->tensor(last);
    }
}

}  // namespace shufflenet
