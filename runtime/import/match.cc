#include "match.h"

#include <map>
#include <utility>

namespace shufflenet::imports {

namespace {

constexpr Size kAnyInput{kDefaultCrop, kDefaultCrop};

Dims weight_dims(const Layer &row) { return {row.out_channels, row.group_channels(), row.kernel(), row.kernel()}; }

/// Convolutions of the graph that have the shape of one of the network's, each row counted once.
int matching_convolutions(const Trace &trace, const Network &network) {
    std::map<Dims, int> rows;
    for (const Layer &row : network_layers(network, kAnyInput, kDefaultClasses)) {
        if (row.has_weights() && row.kind != LayerKind::kFullyConnected) ++rows[weight_dims(row)];
    }
    int matches = 0;
    for (const TracedLayer &layer : trace.layers) {
        if (layer.kind != TracedLayer::Kind::kConv) continue;
        const auto found = rows.find(layer.weight->dims);
        if (found == rows.end() || found->second == 0) continue;
        --found->second;
        ++matches;
    }
    return matches;
}

std::string_view kind_name(TracedLayer::Kind kind) {
    switch (kind) {
    case TracedLayer::Kind::kConv:
        return "a convolution";
    case TracedLayer::Kind::kMaxPool:
        return "a max-pool";
    case TracedLayer::Kind::kGlobalPool:
        return "a global average pool";
    case TracedLayer::Kind::kFullyConnected:
        return "a fully connected layer";
    }
    return "";
}

TracedLayer::Kind expected_kind(LayerKind kind) {
    switch (kind) {
    case LayerKind::kMaxPool:
        return TracedLayer::Kind::kMaxPool;
    case LayerKind::kGlobalPool:
        return TracedLayer::Kind::kGlobalPool;
    case LayerKind::kFullyConnected:
        return TracedLayer::Kind::kFullyConnected;
    default:
        return TracedLayer::Kind::kConv;
    }
}

std::string pair_text(const Dims &pair) { return std::to_string(pair[0]) + "x" + std::to_string(pair[1]); }

/// How a layer differs from its row; empty: it does not. Weights' shapes are the canonical form's business.
std::string difference(const TracedLayer &layer, const Layer &row, int stride) {
    const TracedLayer::Kind kind = expected_kind(row.kind);
    if (layer.kind != kind) {
        return "is " + std::string(kind_name(layer.kind)) + ", expected " + std::string(kind_name(kind));
    }
    if (kind == TracedLayer::Kind::kGlobalPool || kind == TracedLayer::Kind::kFullyConnected) return {};
    const int64_t side = row.kernel(), pad = side / 2;
    const Dims kernel = {side, side}, strides = {stride, stride}, pads = {pad, pad, pad, pad}, dense = {1, 1};
    if (layer.kernel != kernel) {
        return "has kernel " + pair_text(layer.kernel) + ", expected " + pair_text(kernel);
    }
    if (layer.strides != strides) return "has stride " + pair_text(layer.strides) + ", expected " + pair_text(strides);
    if (layer.pads != pads) {
        return "has pads " + message::shape_text(layer.pads) + ", expected " + message::shape_text(pads);
    }
    if (layer.dilations != dense) return "has dilations " + pair_text(layer.dilations) + ", expected none";
    if (kind == TracedLayer::Kind::kMaxPool) return {};
    const int64_t groups = row.kind == LayerKind::kDepthwise ? row.in_channels : 1;
    if (layer.groups != groups) {
        return "has " + std::to_string(layer.groups) + " groups, expected " + std::to_string(groups);
    }
    return {};
}

class Matcher {
  public:
    Matcher(const Trace &trace, const Network &network)
        : trace_(trace),
          network_(network),
          rows_(network_layers(network, kAnyInput, kDefaultClasses)),
          row_of_(trace.layers.size(), -1) {}

    Matched run() {
        take_all();
        std::string logits = check_rest();
        return {std::move(layers_), std::move(row_of_), std::move(logits)};
    }

    /// Until no layer is left.
    void run_to_end() {
        try {
            take_all();
        } catch (const Missing &) {
            return;
        }
    }

  private:
    /// No layer is left that could be the next row.
    class Missing : public Refusal {
      public:
        using Refusal::Refusal;
    };

    void take_all() {
        take(2);  // The stem: convolution and pool.
        take_next(2);
        for (const int units : network_.units) {
            for (int u = 0; u < units; ++u) take_unit(u == 0);
        }
        take(1);  // conv5, pool, fully connected
        take_next(1);
        take_next(1);
    }
    void take_unit(bool down) {
        if (down) {
            take(2);  // Branch 1: depthwise, pointwise.
            take_next(1);
        }
        take(1);  // Branch 2: pointwise, depthwise, pointwise.
        take_next(down ? 2 : 1);
        take_next(1);
    }

    /// The next row, which begins a branch: the first layer of its kind that reads what is matched already.
    void take(int stride) {
        const Layer &row = next_row();
        const TracedLayer *other = nullptr;
        for (const TracedLayer &layer : trace_.layers) {
            if (is_matched(layer) || !reads_matched(layer)) continue;
            if (is_of_kind(layer, row)) return match(layer, stride);
            if (other == nullptr) other = &layer;
        }
        if (other == nullptr) refuse_missing();
        match(*other, stride);
    }

    /// The next row, which reads the row before it.
    void take_next(int stride) {
        const auto before = static_cast<int>(layers_.size()) - 1;
        for (const TracedLayer &layer : trace_.layers) {
            if (is_matched(layer) || layer.inputs.empty() || row_of(layer.inputs.front()) != before) continue;
            return match(layer, stride);
        }
        refuse_missing();
    }

    const Layer &next_row() const { return rows_[layers_.size()]; }
    bool is_matched(const TracedLayer &layer) const { return row_of_[&layer - trace_.layers.data()] >= 0; }
    int row_of(const Channel &channel) const { return channel.layer == kImage ? kImage : row_of_[channel.layer]; }
    bool reads_matched(const TracedLayer &layer) const {
        if (layer.inputs.empty()) return false;
        const Channel &first = layer.inputs.front();
        return first.layer == kImage || row_of_[first.layer] >= 0;
    }
    static bool is_of_kind(const TracedLayer &layer, const Layer &row) {
        if (layer.kind != expected_kind(row.kind)) return false;
        return layer.kind != TracedLayer::Kind::kConv || (row.kind == LayerKind::kDepthwise) == (layer.groups > 1);
    }

    [[noreturn]] void refuse_missing() const {
        throw Missing("no node left for " + std::string(next_row().id.view()) + ", " +
                      std::string(to_string(next_row().kind)) + " with " + std::to_string(next_row().in_channels) +
                      " inputs and " + std::to_string(next_row().out_channels) + " outputs");
    }

    void match(const TracedLayer &layer, int stride) {
        const Layer &row = next_row();
        if (const std::string how = difference(layer, row, stride); !how.empty()) {
            throw Refusal(layer.node + ": " + how + " (" + std::string(row.id.view()) + ")");
        }
        SourceLayer &source = layers_.emplace_back();
        source.name = layer.node;
        source.weight = layer.weight;
        source.bias = layer.bias;
        source.norm = layer.norm;
        for (const Channel &channel : layer.inputs) {
            const int from = row_of(channel);
            if (from < 0 && channel.layer != kImage) {
                throw Refusal(layer.node + ": reads the output of " + trace_.layers[channel.layer].node +
                              ", which does not belong to its input (" + std::string(row.id.view()) + ")");
            }
            source.inputs.push_back({from, channel.channel, (channel.applied & kRelu) != 0});
        }
        row_of_[&layer - trace_.layers.data()] = static_cast<int>(layers_.size()) - 1;
    }

    /// Nothing may be left. The output of the graph that is the last layer's.
    std::string check_rest() const {
        for (const TracedLayer &layer : trace_.layers) {
            if (!is_matched(layer)) throw Refusal(layer.node + ": has no place in " + std::string(network_.name));
        }
        const auto last = static_cast<int>(layers_.size()) - 1;
        for (const TracedOutput &output : trace_.outputs) {
            if (is_logits(output.value, last)) return output.name;
        }
        throw Refusal("output '" + message::shortened(trace_.outputs.front().name) + "' has shape " +
                      message::shape_text(trace_.outputs.front().value.dims()) +
                      ", expected the fully connected layer's outputs, [N, classes], as they are");
    }
    bool is_logits(const Activations &value, int row) const {
        if (value.channels.dims.size() != 2 || value.plane != Plane::kNone) return false;
        const int64_t classes = value.channels.dims[1];
        for (size_t i = 0; i < value.channels.data.size(); ++i) {
            const Channel &channel = value.channels.data[i];
            const auto at = static_cast<int64_t>(i);
            if (row_of(channel) != row || channel.channel != at % classes || channel.image != at / classes ||
                channel.applied != trace_.layers[channel.layer].applied) {
                return false;
            }
        }
        return !value.channels.data.empty() && classes == trace_.layers[value.channels.data.front().layer].out_channels;
    }

    const Trace &trace_;
    const Network &network_;
    std::vector<Layer> rows_;
    std::vector<int> row_of_;
    std::vector<SourceLayer> layers_;
};

/// torchvision's number of each channel of the tensor, if that is the feature; otherwise nothing.
std::vector<int> feature_order(const Trace &trace, const Matched &matched, const Places &places,
                               const TracedTensor &tensor) {
    std::vector<int> order;
    for (const Channel &channel : tensor.channels) {
        if (channel.layer == kImage || channel.applied != (trace.layers[channel.layer].applied | kRelu)) return {};
        const std::vector<int> &there = places[matched.row_of[channel.layer]];
        if (there.empty() || there[channel.channel] < 0) return {};
        order.push_back(there[channel.channel]);
    }
    std::vector<int> sorted = order;
    std::sort(sorted.begin(), sorted.end());
    const bool distinct = std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
    int64_t channels = 0;
    for (const std::vector<int> &there : places) {
        channels += std::count_if(there.begin(), there.end(), [](int at) { return at >= 0; });
    }
    return distinct && std::ssize(order) == channels ? order : std::vector<int>{};
}

}  // namespace

const Network &nearest_network(const Trace &trace) {
    const Network *nearest = nullptr;
    int best = 0;
    for (const Network &network : kNetworks) {
        if (const int matches = matching_convolutions(trace, network); matches > best) {
            nearest = &network;
            best = matches;
        }
    }
    if (nearest == nullptr) throw Refusal("has no convolution of any ShuffleNetV2");
    return *nearest;
}

Matched match_layers(const Trace &trace, const Network &network) { return Matcher(trace, network).run(); }

void check_layers(const Trace &trace, const Network &network) { Matcher(trace, network).run_to_end(); }

std::vector<std::optional<FoundFeature>> find_features(const Trace &trace, const Matched &matched,
                                                       const Canonical &canonical) {
    std::vector<std::optional<FoundFeature>> found;
    for (const Places &places : canonical.features) {
        const auto there = std::find_if(trace.tensors.begin(), trace.tensors.end(), [&](const TracedTensor &tensor) {
            return !feature_order(trace, matched, places, tensor).empty();
        });
        found.emplace_back();
        if (there != trace.tensors.end()) {
            found.back() = {there->name, feature_order(trace, matched, places, *there)};
        }
    }
    return found;
}

}  // namespace shufflenet::imports
