#include "graph.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>
#include <stdexcept>

namespace shufflenet::networks {

namespace {

[[noreturn]] void fail(const Layer &layer, const std::string &what) {
    throw std::logic_error("layer " + layer.id + ": " + what);
}

std::string text(Size size) { return std::to_string(size.height) + "x" + std::to_string(size.width); }

}  // namespace

std::string to_string(const Activation &activation) {
    switch (activation.kind) {
    case Activation::Kind::kRelu:
        return "relu";
    case Activation::Kind::kRelu6:
        return "relu6";
    case Activation::Kind::kLeakyRelu: {
        std::array<char, 32> digits{};
        const auto *const end = std::to_chars(digits.data(), digits.data() + digits.size(), activation.slope).ptr;
        return "leaky_relu:" + std::string(digits.data(), static_cast<size_t>(end - digits.data()));
    }
    case Activation::Kind::kSigmoid:
        return "sigmoid";
    case Activation::Kind::kNone:
        break;
    }
    return "none";
}

bool parse_activation(std::string_view text, Activation *out) {
    for (const Activation &simple : {kNoActivation, kRelu, kRelu6, kSigmoid}) {
        if (text == to_string(simple)) {
            *out = simple;
            return true;
        }
    }
    constexpr std::string_view kLeaky = "leaky_relu:";
    if (!text.starts_with(kLeaky)) return false;
    const char *begin = text.data() + kLeaky.size(), *end = text.data() + text.size();
    float slope = 0;
    const auto [stop, error] = std::from_chars(begin, end, slope);
    if (error != std::errc() || stop != end || !std::isfinite(slope)) return false;
    *out = leaky_relu(slope);
    return true;
}

Size window_size(const Window &window, Size in) {
    const auto side = [](int size, int padding, int kernel, int stride) {
        return size + 2 * padding < kernel ? 0 : (size + 2 * padding - kernel) / stride + 1;
    };
    return {side(in.height, window.padding.height, window.kernel.height, window.stride.height),
            side(in.width, window.padding.width, window.kernel.width, window.stride.width)};
}

ResizePosition resize_position(const Resize &resize, int in, int out) {
    ResizePosition at{in, 0, out};
    if (resize.coordinates == Resize::Coordinates::kHalfPixel) {
        at = {2 * in, in - out, 2 * out};
    } else if (resize.coordinates == Resize::Coordinates::kAlignCorners) {
        at = out > 1 ? ResizePosition{in - 1, 0, out - 1} : ResizePosition{0, 0, 1};
    }
    if (resize.mode != Resize::Mode::kNearest) return at;
    // Halves are integers of twice the divisor.
    at = {2 * at.scale, 2 * at.offset, 2 * at.divisor};
    switch (resize.rounding) {
    case Resize::Rounding::kFloor:
        break;
    case Resize::Rounding::kPreferFloor:
        at.offset += at.divisor / 2 - 1;
        break;
    case Resize::Rounding::kPreferCeil:
        at.offset += at.divisor / 2;
        break;
    case Resize::Rounding::kCeil:
        at.offset += at.divisor - 1;
        break;
    }
    return at;
}

std::string_view Layer::kind_name() const {
    switch (kind) {
    case LayerKind::kConvolution:
        return depthwise() ? "depthwise" : window.pointwise() ? "pointwise" : "conv";
    case LayerKind::kMaxPool:
        return "max_pool";
    case LayerKind::kAveragePool:
        return "average_pool";
    case LayerKind::kGlobalPool:
        return "global_pool";
    case LayerKind::kLinear:
        return "fully_connected";
    case LayerKind::kAdd:
        return "add";
    case LayerKind::kResize:
        return "resize";
    case LayerKind::kSoftmax:
        return "softmax";
    case LayerKind::kActivation:
        return "activation";
    case LayerKind::kCopy:
        return "copy";
    }
    return "";
}

Tensor Graph::tensor(int layer) const {
    Tensor all;
    const bool image = layer == kImage;
    all.size = image ? input : layers.at(layer).out;
    const int count = image ? image_channels : layers.at(layer).out_channels;
    for (int i = 0; i < count; ++i) all.channels.push_back({layer, i});
    return all;
}

const Output *Graph::find_output(std::string_view output) const {
    const auto found = std::ranges::find(outputs, output, &Output::name);
    return found == outputs.end() ? nullptr : &*found;
}

Cost total_cost(const Graph &graph) {
    Cost total;
    for (const Layer &layer : graph.layers) {
        total.flops += layer.flops();
        total.mac += layer.mac();
        total.parameters += layer.parameters();
    }
    return total;
}

double mac_lower_bound(double hw, double flops) { return 2 * std::sqrt(hw * flops) + flops / hw; }

namespace {

void check_tensor(const Graph &graph, const Layer &layer, int number, const Tensor &tensor) {
    if (tensor.channels.empty()) fail(layer, "reads no channels");
    for (const Channel &channel : tensor.channels) {
        if (channel.layer >= number) fail(layer, "reads what is computed later");
        const bool image = channel.layer == kImage;
        const int count = image ? graph.image_channels : graph.layers[channel.layer].out_channels;
        const Size size = image ? graph.input : graph.layers[channel.layer].out;
        if (channel.index < 0 || channel.index >= count) fail(layer, "reads a channel that there is not");
        if (size != tensor.size) fail(layer, "reads channels of " + text(size) + " as " + text(tensor.size));
    }
}

void check_layer(const Graph &graph, int number) {
    const Layer &layer = graph.layers[number];
    const size_t operands = layer.kind == LayerKind::kAdd ? 2 : 1;
    if (layer.in.size() != operands) fail(layer, "expected " + std::to_string(operands) + " inputs");
    for (const Tensor &tensor : layer.in) check_tensor(graph, layer, number, tensor);
    const Tensor &in = layer.in.front();
    if (layer.out_channels < 1 || layer.out.pixels() < 1) fail(layer, "computes nothing");
    switch (layer.kind) {
    case LayerKind::kConvolution:
        if (layer.groups < 1 || in.count() % layer.groups != 0 || layer.out_channels % layer.groups != 0) {
            fail(layer, std::to_string(layer.groups) + " groups do not divide " + std::to_string(in.count()) + " and " +
                            std::to_string(layer.out_channels) + " channels");
        }
        break;
    case LayerKind::kAdd:
        if (layer.in[1].count() != in.count() || layer.in[1].size != in.size) fail(layer, "adds different shapes");
        [[fallthrough]];
    case LayerKind::kMaxPool:
    case LayerKind::kAveragePool:
    case LayerKind::kGlobalPool:
    case LayerKind::kResize:
    case LayerKind::kSoftmax:
    case LayerKind::kActivation:
    case LayerKind::kCopy:
        if (layer.out_channels != in.count()) fail(layer, "expected as many channels as it reads");
        break;
    case LayerKind::kLinear:
        if (in.size.pixels() != 1) fail(layer, "expected one pixel, found " + text(in.size));
        break;
    }
}

}  // namespace

void check(const Graph &graph) {
    std::set<std::string> ids;
    for (int i = 0; i < static_cast<int>(graph.layers.size()); ++i) {
        check_layer(graph, i);
        if (!ids.insert(graph.layers[i].id).second) fail(graph.layers[i], "there is another of this name");
    }
    std::set<std::string> names;
    if (graph.outputs.empty()) throw std::logic_error(graph.name + ": has no output");
    for (const Output &output : graph.outputs) {
        Layer reader;
        reader.id = "output " + output.name;
        check_tensor(graph, reader, static_cast<int>(graph.layers.size()), output.tensor);
        if (!names.insert(output.name).second) fail(reader, "there is another of this name");
    }
}

void remove_unread(Graph *graph) {
    std::vector<bool> read(graph->layers.size());
    const auto mark = [&](const Tensor &tensor) {
        for (const Channel &channel : tensor.channels) {
            if (channel.layer != kImage) read[channel.layer] = true;
        }
    };
    for (const Output &output : graph->outputs) mark(output.tensor);
    for (size_t i = graph->layers.size(); i-- > 0;) {
        if (!read[i]) continue;
        for (const Tensor &tensor : graph->layers[i].in) mark(tensor);
    }
    std::vector<int> number(graph->layers.size());
    std::vector<Layer> kept;
    for (size_t i = 0; i < read.size(); ++i) {
        number[i] = static_cast<int>(kept.size());
        if (read[i]) kept.push_back(std::move(graph->layers[i]));
    }
    const auto renumber = [&](Tensor &tensor) {
        for (Channel &channel : tensor.channels) {
            if (channel.layer != kImage) channel.layer = number[channel.layer];
        }
    };
    for (Layer &layer : kept) {
        for (Tensor &tensor : layer.in) renumber(tensor);
    }
    for (Output &output : graph->outputs) renumber(output.tensor);
    graph->layers = std::move(kept);
}

GraphBuilder::GraphBuilder(std::string name, Size input, int image_channels) {
    graph_.name = std::move(name);
    graph_.input = input;
    graph_.image_channels = image_channels;
}

Tensor GraphBuilder::append(Layer layer) {
    graph_.layers.push_back(std::move(layer));
    return graph_.tensor(static_cast<int>(graph_.layers.size()) - 1);
}

Tensor GraphBuilder::convolution(const std::string &id, const Module &module, const Tensor &in, int out_channels,
                                 const Window &window, const Activation &activation, int groups) {
    Layer layer{.kind = LayerKind::kConvolution, .id = id, .module = module.conv, .norm = module.norm};
    layer.bias = module.bias;
    layer.in = {in};
    layer.out_channels = out_channels;
    layer.out = window_size(window, in.size);
    layer.window = window;
    layer.groups = groups;
    layer.activation = activation;
    return append(std::move(layer));
}

Tensor GraphBuilder::pointwise(const std::string &id, const Module &module, const Tensor &in, int out_channels,
                               const Activation &activation, int groups) {
    return convolution(id, module, in, out_channels, {}, activation, groups);
}

Tensor GraphBuilder::depthwise(const std::string &id, const Module &module, const Tensor &in, const Window &window,
                               const Activation &activation) {
    return convolution(id, module, in, in.count(), window, activation, in.count());
}

namespace {

/// A layer of as many channels as it reads.
Layer pool_layer(LayerKind kind, const std::string &id, const Tensor &in, const Window &window, Size out) {
    Layer layer{.kind = kind, .id = id};
    layer.in = {in};
    layer.out_channels = in.count();
    layer.out = out;
    layer.window = window;
    return layer;
}

}  // namespace

Tensor GraphBuilder::max_pool(const std::string &id, const Tensor &in, const Window &window) {
    return append(pool_layer(LayerKind::kMaxPool, id, in, window, window_size(window, in.size)));
}

Tensor GraphBuilder::average_pool(const std::string &id, const Tensor &in, const Window &window, bool counts_padding) {
    Layer layer = pool_layer(LayerKind::kAveragePool, id, in, window, window_size(window, in.size));
    layer.counts_padding = counts_padding;
    return append(std::move(layer));
}

Tensor GraphBuilder::global_pool(const std::string &id, const Tensor &in) {
    return append(pool_layer(LayerKind::kGlobalPool, id, in, {}, {1, 1}));
}

Tensor GraphBuilder::linear(const std::string &id, const Module &module, const Tensor &in, int out_channels) {
    Layer layer{.kind = LayerKind::kLinear, .id = id, .module = module.conv};
    layer.bias = module.bias;
    layer.in = {in};
    layer.out_channels = out_channels;
    layer.out = {1, 1};
    return append(std::move(layer));
}

Tensor GraphBuilder::add(const std::string &id, const Tensor &a, const Tensor &b, const Activation &activation) {
    Layer layer{.kind = LayerKind::kAdd, .id = id};
    layer.in = {a, b};
    layer.out_channels = a.count();
    layer.out = a.size;
    layer.activation = activation;
    return append(std::move(layer));
}

Tensor GraphBuilder::resize(const std::string &id, const Tensor &in, Size out, const Resize &resize) {
    Layer layer = pool_layer(LayerKind::kResize, id, in, {}, out);
    layer.resize = resize;
    return append(std::move(layer));
}

Tensor GraphBuilder::softmax(const std::string &id, const Tensor &in) {
    return append(pool_layer(LayerKind::kSoftmax, id, in, {}, in.size));
}

Tensor GraphBuilder::activate(const std::string &id, const Tensor &in, const Activation &activation) {
    Layer layer = pool_layer(LayerKind::kActivation, id, in, {}, in.size);
    layer.activation = activation;
    return append(std::move(layer));
}

Tensor GraphBuilder::copy(const std::string &id, const Tensor &in) {
    return append(pool_layer(LayerKind::kCopy, id, in, {}, in.size));
}

Tensor GraphBuilder::concat(const std::vector<Tensor> &tensors) {
    Tensor all = tensors.at(0);
    for (size_t i = 1; i < tensors.size(); ++i) {
        if (tensors[i].size != all.size) throw std::logic_error("a concatenation of different sizes");
        all.channels.insert(all.channels.end(), tensors[i].channels.begin(), tensors[i].channels.end());
    }
    return all;
}

Tensor GraphBuilder::slice(const Tensor &in, int first, int count, int step) {
    Tensor part{{}, in.size};
    for (int i = 0; i < count; ++i) part.channels.push_back(in.channels.at(first + i * step));
    return part;
}

Tensor GraphBuilder::shuffle(const Tensor &in, int groups) {
    const int run = in.count() / groups;
    std::vector<int> order(in.channels.size());
    for (int i = 0; i < in.count(); ++i) order[i] = i % groups * run + i / groups;
    return permute(in, order);
}

Tensor GraphBuilder::permute(const Tensor &in, const std::vector<int> &order) {
    Tensor permuted{{}, in.size};
    for (const int from : order) permuted.channels.push_back(in.channels.at(from));
    return permuted;
}

void GraphBuilder::output(const std::string &name, const Tensor &tensor) { graph_.outputs.push_back({name, tensor}); }

Graph GraphBuilder::take() {
    check(graph_);
    remove_unread(&graph_);
    return std::move(graph_);
}

}  // namespace shufflenet::networks
