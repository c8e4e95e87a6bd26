#include "recognise.h"

#include <stdexcept>
#include <string>
#include <utility>

#include "networks/catalog.h"
#include "runtime/src/checkpoint.h"

namespace shufflenet {

namespace {

/// Weights do not depend on the input's size.
constexpr Size kAnyInput{224, 224};

/// Weight tensors of the network that the file has in the right shape. The class count is the file's business.
int matching_weights(const Safetensors &file, const GraphWeights &weights) {
    const NeededWeights needed = weights.needed();
    const std::string prefix = best_prefix(file, needed);
    int matches = 0;
    for (const shufflenet_layer &layer : needed.layers) {
        const Tensor *tensor = file.find(prefix + layer.module + ".weight");
        const std::vector<int64_t> shape = {layer.out_channels, layer.in_channels, layer.kernel_height,
                                            layer.kernel_width};
        if (tensor != nullptr && layer.linear == 0 && tensor->shape == shape) ++matches;
    }
    return matches;
}

std::optional<networks::Graph> guessed_network(const Safetensors &file) {
    const std::optional<networks::ShuffleNetV2> guess = guess_shufflenet_v2(file);
    if (!guess) return std::nullopt;
    try {
        networks::Graph graph = networks::shufflenet_v2(*guess, kAnyInput);
        if (is_state_dict(file, GraphWeights(graph).needed())) return graph;
    } catch (const std::invalid_argument &) {
        // Widths that there cannot be.
    }
    return std::nullopt;
}

/// Of each layer one that reads it; nullptr: none does.
std::vector<const networks::Layer *> readers_of(const networks::Graph &graph) {
    std::vector<const networks::Layer *> readers(graph.layers.size(), nullptr);
    for (const networks::Layer &layer : graph.layers) {
        for (const networks::Channel &channel : layer.in.front().channels) {
            if (channel.layer != networks::kImage) readers[channel.layer] = &layer;
        }
    }
    return readers;
}

bool reads_depthwise(const networks::Graph &graph, const networks::Layer &layer) {
    const int source = layer.in.front().channels.front().layer;
    return source != networks::kImage && graph.layers[source].depthwise();
}

}  // namespace

std::vector<networks::Graph> published_graphs(Family family) {
    std::vector<networks::Graph> graphs;
    for (const networks::PublishedNetwork &row : networks::published_networks()) {
        if (row.test || (row.comparison && family != Family::kAll)) continue;
        graphs.push_back(*networks::published_network(row.name, {row.crop, row.crop}, networks::kDefaultClasses));
    }
    return graphs;
}

std::optional<networks::Graph> exact_network(const Safetensors &file) {
    for (const networks::Graph &graph : published_graphs(Family::kAll)) {
        if (is_state_dict(file, GraphWeights(graph).needed())) return graph;
    }
    return std::nullopt;
}

std::optional<networks::ShuffleNetV2> guess_shufflenet_v2(const Safetensors &file) {
    const std::string first = "conv1.0.weight";
    const std::vector<std::string> prefixes = prefixes_of(file, first);
    const std::string prefix = prefixes.empty() || file.find(first) != nullptr ? "" : prefixes.front();
    /// Of that module; 0: there is none.
    const auto outputs_of = [&](const std::string &module) {
        const Tensor *weight = file.find(prefix + module + ".weight");
        const bool some = weight != nullptr && !weight->shape.empty() && weight->shape[0] <= kMaxClasses;
        return some ? static_cast<int>(weight->shape[0]) : 0;
    };
    networks::ShuffleNetV2 network;
    network.channels = {outputs_of("conv1.0")};
    for (int stage = 2;; ++stage) {
        const std::string name = "stage" + std::to_string(stage) + ".";
        int units = 0;
        while (outputs_of(name + std::to_string(units) + ".branch2.5") > 0) ++units;
        if (units == 0) break;
        network.units.push_back(units);
        network.channels.push_back(2 * outputs_of(name + "0.branch2.5"));
    }
    network.conv5 = outputs_of("conv5.0");
    network.classes = outputs_of("fc");
    return network.units.empty() ? std::nullopt : std::optional(network);
}

std::optional<networks::ShuffleNetV2> guess_shufflenet_v2(const networks::Graph &graph) {
    const std::vector<const networks::Layer *> readers = readers_of(graph);
    networks::ShuffleNetV2 network;
    int halved = 0;  // Depthwise layers with a stride: two in the first unit of a stage.
    for (size_t i = 0; i < graph.layers.size(); ++i) {
        const networks::Layer &layer = graph.layers[i], *reader = readers[i];
        if (network.channels.empty()) network.channels = {layer.out_channels};
        if (layer.kind == networks::LayerKind::kMaxPool) network.pool_stride = layer.window.stride;
        if (layer.kind == networks::LayerKind::kLinear) network.classes = layer.out_channels;
        const bool in_unit = reads_depthwise(graph, layer) || (reader != nullptr && reader->depthwise());
        if (layer.pointwise() && !in_unit) network.conv5 = layer.out_channels;
        if (!layer.depthwise() || reader == nullptr) continue;
        const bool has_stride = layer.window.stride != Size{1, 1};
        if (!has_stride && !network.units.empty()) ++network.units.back();
        if (!has_stride || halved++ % 2 == 0) continue;
        network.units.push_back(1);
        network.channels.push_back(2 * reader->out_channels);
    }
    return network.units.empty() ? std::nullopt : std::optional(network);
}

networks::Graph nearest_network(const Safetensors &file) {
    if (std::optional<networks::Graph> exact = exact_network(file)) return *std::move(exact);
    if (std::optional<networks::Graph> guessed = guessed_network(file)) return *std::move(guessed);
    std::vector<networks::Graph> graphs = published_graphs(Family::kAll);
    size_t nearest = 0;
    int best = 0;
    for (size_t i = 0; i < graphs.size(); ++i) {
        const int matches = matching_weights(file, GraphWeights(graphs[i]));
        if (matches <= best) continue;
        best = matches;
        nearest = i;
    }
    return std::move(graphs[nearest]);
}

}  // namespace shufflenet
