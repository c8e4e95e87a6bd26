// Layers that one kernel computes become one node.
#include <algorithm>
#include <map>
#include <stdexcept>

#include "plan.h"

namespace shufflenet::networks {

namespace {

[[noreturn]] void refuse(const Layer &layer, const std::string &what) {
    throw std::runtime_error("layer " + layer.id + " (" + std::string(layer.kind_name()) + "): " + what);
}

/// Whether a tensor is all of a layer's channels in their order.
bool is_whole(const Tensor &tensor, int layer, const Graph &graph) { return tensor == graph.tensor(layer); }

class Fuser {
  public:
    Fuser(const Graph &graph, const PlanOptions &options)
        : g_(graph),
          options_(options),
          node_of_(graph.layers.size(), -1),
          readers_(graph.layers.size()),
          taken_(graph.layers.size()) {
        for (int i = 0; i < count(); ++i) {
            for (const Tensor &tensor : g_.layers[i].in) note(tensor, i);
        }
        for (const Output &output : g_.outputs) note(output.tensor, count());
    }

    Nodes run() {
        for (int i = 0; i < count(); ++i) {
            if (!taken_[i]) start(i);
        }
        // A node is computed where its last layer was.
        std::ranges::stable_sort(drafts_, {}, [](const Node &node) { return node.layers.back(); });
        Nodes all;
        for (int n = 0; n < static_cast<int>(drafts_.size()); ++n) node_of_[drafts_[n].layers.back()] = n;
        for (Node &node : drafts_) {
            for (Tensor &tensor : node.in) tensor = in_nodes(tensor);
            all.nodes.push_back(std::move(node));
        }
        for (const Output &output : g_.outputs) all.outputs.push_back(in_nodes(output.tensor));
        return all;
    }

  private:
    int count() const { return static_cast<int>(g_.layers.size()); }
    void note(const Tensor &tensor, int reader) {
        for (const Channel &channel : tensor.channels) {
            if (channel.layer != kImage) readers_[channel.layer].insert(reader);
        }
    }

    /// The one layer that reads a layer's output; -1: several, or an output of the network.
    int only_reader(int layer) const {
        const std::set<int> &readers = readers_[layer];
        return readers.size() == 1 && *readers.begin() < count() ? *readers.begin() : -1;
    }

    Tensor in_nodes(const Tensor &tensor) const {
        Tensor mapped = tensor;
        for (Channel &channel : mapped.channels) {
            if (channel.layer != kImage) channel.layer = node_of_[channel.layer];
        }
        return mapped;
    }

    void add(KernelKind kind, const std::vector<int> &layers, const std::vector<Tensor> &in, int groups = 1) {
        const Layer &last = g_.layers[layers.back()];
        drafts_.push_back({.kind = kind,
                           .layers = layers,
                           .in = in,
                           .out_channels = last.out_channels,
                           .out = last.out,
                           .groups = groups});
        for (const int layer : layers) taken_[layer] = true;
    }

    void start(int number) {
        const Layer &layer = g_.layers[number];
        switch (layer.kind) {
        case LayerKind::kConvolution:
            return convolution(number, layer);
        case LayerKind::kMaxPool:
            return add(KernelKind::kMaxPool, {number}, layer.in);
        case LayerKind::kAveragePool:
            return add(KernelKind::kAveragePool, {number}, layer.in);
        case LayerKind::kGlobalPool:
            return add(KernelKind::kGlobalPool, {number}, layer.in);
        case LayerKind::kAdd:
            return add(KernelKind::kAdd, {number}, layer.in);
        case LayerKind::kLinear:
            return add(KernelKind::kLinear, {number}, layer.in);
        case LayerKind::kResize:
            return add(KernelKind::kResize, {number}, layer.in);
        case LayerKind::kSoftmax:
            return add(KernelKind::kSoftmax, {number}, layer.in);
        case LayerKind::kActivation:
            return add(KernelKind::kActivation, {number}, layer.in);
        case LayerKind::kCopy:
            return add(KernelKind::kCopy, {number}, layer.in);
        }
    }

    void convolution(int number, const Layer &layer) {
        const auto from_image = [](const Channel &channel) { return channel.layer == kImage; };
        if (std::ranges::any_of(layer.in[0].channels, from_image)) return stem(number, layer);
        if (layer.depthwise()) {
            if (layer.out_channels != layer.in_channels()) refuse(layer, "has several outputs for a channel");
            const int last = options_.fuse ? last_of_unit(number) : -1;
            if (last >= 0) return add_with_sum(KernelKind::kUnit, {number, last}, layer.in[0]);
            return add(KernelKind::kDepthwise, {number}, layer.in);
        }
        if (!layer.window.pointwise()) {
            if (layer.groups > 1) refuse(layer, "has a window and groups, and is not depthwise");
            return add_with_sum(KernelKind::kConvolution, {number}, layer.in[0]);
        }
        const int reader = options_.fuse ? only_reader(number) : -1;
        if (!options_.expand_apart && reader >= 0 && g_.layers[reader].depthwise() && reads_each_once(reader, number)) {
            if (const int last = last_of_unit(reader); last >= 0) {
                return add_with_sum(KernelKind::kUnit, {number, reader, last}, layer.in[0]);
            }
        }
        const bool pooled = reader >= 0 && g_.layers[reader].kind == LayerKind::kGlobalPool && layer.groups == 1 &&
                            is_whole(g_.layers[reader].in[0], number, g_);
        if (pooled) return add(KernelKind::kPooledPointwise, {number, reader}, layer.in);
        add_with_sum(KernelKind::kPointwise, {number}, layer.in[0]);
    }

    void stem(int number, const Layer &layer) {
        std::vector<int> channels;
        for (const Channel &channel : layer.in[0].channels) channels.push_back(channel.index);
        std::ranges::sort(channels);
        const bool whole = layer.in_channels() == g_.image_channels && channels.back() == g_.image_channels - 1 &&
                           std::ranges::adjacent_find(channels) == channels.end();
        if (!whole || layer.groups > 1)
            refuse(layer, "reads the image, and not as one convolution of all its channels");
        const int pool = options_.fuse ? only_reader(number) : -1;
        if (pool >= 0 && g_.layers[pool].kind == LayerKind::kMaxPool && is_whole(g_.layers[pool].in[0], number, g_)) {
            const Window &window = g_.layers[pool].window;
            if (window.kernel == Size{3, 3} && window.padding == Size{1, 1}) {
                return add(KernelKind::kStem, {number, pool}, layer.in);
            }
        }
        add(KernelKind::kStem, {number}, layer.in);
    }

    /// Whether a layer reads each channel of another one, each once and nothing else.
    bool reads_each_once(int reader, int layer) const {
        std::vector<int> seen;
        for (const Channel &channel : g_.layers[reader].in[0].channels) {
            if (channel.layer != layer) return false;
            seen.push_back(channel.index);
        }
        std::ranges::sort(seen);
        return static_cast<int>(seen.size()) == g_.layers[layer].out_channels &&
               std::ranges::adjacent_find(seen) == seen.end();
    }

    /// The pointwise convolution that alone reads a depthwise one, all of it; -1: there is none.
    int last_of_unit(int depthwise) const {
        const int reader = only_reader(depthwise);
        if (reader < 0 || !g_.layers[reader].pointwise() || !reads_each_once(reader, depthwise)) return -1;
        return reader;
    }

    /// Appends a convolution whose sum with another tensor it computes too, if its last layer is only read by an
    /// addition.
    void add_with_sum(KernelKind kind, std::vector<int> layers, const Tensor &in) {
        const int last = layers.back();
        std::vector<Tensor> operands = {in};
        const int sum = options_.fuse ? only_reader(last) : -1;
        // Another node may have taken the addition, as the sum of two units.
        const bool free = sum >= 0 && !taken_[sum] && g_.layers[sum].kind == LayerKind::kAdd;
        if (free && g_.layers[last].activation == kNoActivation) {
            const std::vector<Tensor> &terms = g_.layers[sum].in;
            const int own = is_whole(terms[0], last, g_) ? 0 : 1;
            // The other term must not be this very layer.
            const auto reads_last = [&](const Channel &channel) { return channel.layer == last; };
            if (is_whole(terms[own], last, g_) && std::ranges::none_of(terms[1 - own].channels, reads_last)) {
                layers.push_back(sum);
                operands.push_back(terms[1 - own]);
            }
        }
        add(kind, layers, operands, g_.layers[last].groups);
    }

    const Graph &g_;
    PlanOptions options_;
    std::vector<int> node_of_;
    std::vector<std::set<int>> readers_;
    std::vector<Node> drafts_;
    std::vector<bool> taken_;
};

}  // namespace

Nodes fuse(const Graph &graph, const PlanOptions &options) { return Fuser(graph, options).run(); }

}  // namespace shufflenet::networks
