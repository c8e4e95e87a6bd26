// The network that a model is compiled from, as its library carries it.
#pragma once

#include <map>
#include <stdexcept>

#include "networks/graph_text.h"
#include "shufflenet/descriptor.h"

namespace shufflenet {

inline const networks::Graph &graph_of(const shufflenet_descriptor &model) {
    static std::map<const char *, networks::Graph> cache;
    const char *text = model.program->graph;
    auto [entry, fresh] = cache.try_emplace(text);
    if (fresh) entry->second = networks::graph_from_text(text);
    return entry->second;
}

/// The same network with another number of classes, as a weight file may have.
inline networks::Graph graph_with_classes(const shufflenet_descriptor &model, int classes) {
    networks::Graph graph = graph_of(model);
    networks::Layer &last = graph.layers.back();
    networks::Output &output = graph.outputs.at(0);
    if (last.kind != networks::LayerKind::kLinear) throw std::invalid_argument("a network without classes");
    last.out_channels = classes;
    output.tensor = graph.tensor(static_cast<int>(graph.layers.size()) - 1);
    return graph;
}

}  // namespace shufflenet
