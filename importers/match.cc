#include "match.h"

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <utility>

#include "recognise.h"

namespace shufflenet::imports {

namespace {

using networks::Channel;
using networks::kImage;
using networks::Layer;
using networks::LayerKind;

/// Convolutions of the graph that have the shape of one of the network's, each of those counted once.
int matching_convolutions(const Trace &trace, const networks::Graph &network) {
    std::map<Dims, int> left;
    for (const Layer &layer : network.layers) {
        if (layer.kind != LayerKind::kConvolution) continue;
        const Size kernel = layer.window.kernel;
        ++left[{layer.out_channels, layer.group_channels(), kernel.height, kernel.width}];
    }
    int matches = 0;
    for (size_t i = 0; i < trace.layers.size(); ++i) {
        if (trace.graph.layers[i].kind != LayerKind::kConvolution) continue;
        const auto found = left.find(trace.layers[i].weight->dims);
        if (found == left.end() || found->second == 0) continue;
        --found->second;
        ++matches;
    }
    return matches;
}

std::string_view kind_text(LayerKind kind) {
    switch (kind) {
    case LayerKind::kConvolution:
        return "a convolution";
    case LayerKind::kMaxPool:
        return "a max-pool";
    case LayerKind::kAveragePool:
        return "an average pool";
    case LayerKind::kGlobalPool:
        return "a global average pool";
    case LayerKind::kLinear:
        return "a fully connected layer";
    case LayerKind::kAdd:
        return "an addition";
    case LayerKind::kResize:
        return "a resize";
    case LayerKind::kSoftmax:
        return "a softmax";
    case LayerKind::kActivation:
        return "an activation";
    case LayerKind::kCopy:
        return "a copy";
    }
    return "";
}

std::string size_text(Size size) { return std::to_string(size.height) + "x" + std::to_string(size.width); }

Dims pads_of(const Layer &layer) {
    const auto [height, width] = layer.window.padding;
    return {height, width, height, width};
}

/// How a layer of the file differs from the network's; empty: it does not. Weights have a check of their own.
std::string difference(const Layer &found, const Dims &pads, const Layer &expected) {
    if (found.kind != expected.kind) {
        return "is " + std::string(kind_text(found.kind)) + ", expected " + std::string(kind_text(expected.kind));
    }
    if (found.kind == LayerKind::kGlobalPool || found.kind == LayerKind::kLinear) return {};
    const networks::Window &window = found.window, &wanted = expected.window;
    if (window.kernel != wanted.kernel) {
        return "has kernel " + size_text(window.kernel) + ", expected " + size_text(wanted.kernel);
    }
    if (window.stride != wanted.stride) {
        return "has stride " + size_text(window.stride) + ", expected " + size_text(wanted.stride);
    }
    if (pads != pads_of(expected)) {
        return "has pads " + message::shape_text(pads) + ", expected " + message::shape_text(pads_of(expected));
    }
    if (const Size size = window_size(window, found.in.front().size); found.out != size) {
        return "has an output of " + size_text(found.out) + ", expected " + size_text(size) + " (ceil_mode)";
    }
    if (found.groups == expected.groups) return {};
    return "has " + std::to_string(found.groups) + " groups, expected " + std::to_string(expected.groups);
}

/// Whether layers that differ are most likely meant to be the same.
bool is_similar(const Layer &found, const Layer &expected) {
    return found.kind == expected.kind && (found.groups > 1) == (expected.groups > 1);
}

class Matcher {
  public:
    Matcher(const Trace &trace, const networks::Graph &network)
        : trace_(trace), network_(network), number_of_(trace.layers.size(), kNone) {}

    Matched run() {
        for (const Layer &layer : network_.layers) match(layer);
        check_rest();
        return renumbered();
    }

    /// Until no layer is left.
    void run_to_end() {
        try {
            for (const Layer &layer : network_.layers) match(layer);
        } catch (const Missing &) {
            return;
        }
    }

  private:
    static constexpr int kNone = -2;

    /// No layer is left that could be the next.
    class Missing : public Refusal {
      public:
        using Refusal::Refusal;
    };

    /// The network's number of a layer of the file; kNone: not matched yet.
    int number_of(int layer) const { return layer == kImage ? kImage : number_of_[layer]; }
    std::string difference_of(int found, const Layer &expected) const {
        return difference(trace_.graph.layers[found], trace_.layers[found].pads, expected);
    }
    std::vector<int> candidates(const Layer &expected) const;
    void match(const Layer &expected);
    void check_rest() const;
    networks::Tensor renumbered(networks::Tensor tensor) const;
    Matched renumbered() const;

    const Trace &trace_;
    const networks::Graph &network_;
    std::vector<int> number_of_;
    std::vector<int> taken_;  ///< The file's layer of each of the network's so far.
};

/// Layers that are left and read what this one reads, or begin to.
std::vector<int> Matcher::candidates(const Layer &expected) const {
    std::set<int> sources;
    for (const Channel &channel : expected.in.front().channels) sources.insert(channel.layer);
    std::vector<int> found;
    for (int i = 0; i < static_cast<int>(number_of_.size()); ++i) {
        if (number_of_[i] != kNone) continue;
        const std::vector<Channel> &inputs = trace_.graph.layers[i].in.front().channels;
        if (!inputs.empty() && sources.contains(number_of(inputs.front().layer))) found.push_back(i);
    }
    return found;
}

/// Takes the first layer that is the same, else the first that is similar, to say how it differs.
void Matcher::match(const Layer &expected) {
    const std::vector<int> all = candidates(expected);
    if (all.empty()) {
        throw Missing("no node left for " + expected.id + ", " + std::string(expected.kind_name()) + " with " +
                      std::to_string(expected.in_channels()) + " inputs and " + std::to_string(expected.out_channels) +
                      " outputs");
    }
    auto best = std::ranges::find_if(all, [&](int i) { return difference_of(i, expected).empty(); });
    if (best == all.end()) {
        best = std::ranges::find_if(all, [&](int i) { return is_similar(trace_.graph.layers[i], expected); });
    }
    const int found = best == all.end() ? all.front() : *best;
    if (const std::string how = difference_of(found, expected); !how.empty()) {
        throw Refusal(trace_.layers[found].name + ": " + how + " (" + expected.id + ")");
    }
    number_of_[found] = static_cast<int>(taken_.size());
    taken_.push_back(found);
}

void Matcher::check_rest() const {
    for (size_t i = 0; i < number_of_.size(); ++i) {
        if (number_of_[i] == kNone) throw Refusal(trace_.layers[i].name + ": has no place in " + network_.name);
    }
}

networks::Tensor Matcher::renumbered(networks::Tensor tensor) const {
    for (Channel &channel : tensor.channels) channel.layer = number_of(channel.layer);
    return tensor;
}

Matched Matcher::renumbered() const {
    Matched out;
    for (const int layer : taken_) {
        Layer &row = out.graph.layers.emplace_back(trace_.graph.layers[layer]);
        row.in.front() = renumbered(std::move(row.in.front()));
        out.layers.push_back(trace_.layers[layer]);
    }
    for (const networks::Output &output : trace_.graph.outputs) {
        out.graph.outputs.push_back({output.name, renumbered(output.tensor)});
    }
    for (const networks::Output &tensor : trace_.tensors) {
        out.tensors.push_back({tensor.name, renumbered(tensor.tensor)});
    }
    return out;
}

}  // namespace

namespace {

/// Whether the graph's convolutions are the network's.
bool fits(const Trace &trace, const networks::Graph &network) {
    const auto convolutions = [](const networks::Graph &graph) {
        return std::ranges::count(graph.layers, LayerKind::kConvolution, &Layer::kind);
    };
    const auto all = convolutions(trace.graph);
    return all == convolutions(network) && all == matching_convolutions(trace, network);
}

/// A network that nobody published.
std::optional<networks::Graph> guessed_network(const Trace &trace) {
    const std::optional<networks::ShuffleNetV2> guess = guess_shufflenet_v2(trace.graph);
    if (!guess) return std::nullopt;
    try {
        networks::Graph network = networks::shufflenet_v2(*guess, {224, 224});
        if (fits(trace, network)) return network;
    } catch (const std::invalid_argument &) {
        // Widths that there cannot be.
    }
    return std::nullopt;
}

}  // namespace

networks::Graph nearest_network(const Trace &trace) {
    std::optional<networks::Graph> nearest;
    int best = 0;
    for (networks::Graph &network : published_graphs(Family::kShuffleNetV2)) {
        const int matches = matching_convolutions(trace, network);
        if (matches <= best) continue;
        nearest = std::move(network);
        best = matches;
    }
    if (nearest && fits(trace, *nearest)) return *std::move(nearest);
    if (std::optional<networks::Graph> guessed = guessed_network(trace)) return *std::move(guessed);
    if (!nearest) throw Refusal("has no convolution of any ShuffleNetV2");
    return *std::move(nearest);
}

Matched match_layers(const Trace &trace, const networks::Graph &network) { return Matcher(trace, network).run(); }

void check_layers(const Trace &trace, const networks::Graph &network) { Matcher(trace, network).run_to_end(); }

}  // namespace shufflenet::imports
