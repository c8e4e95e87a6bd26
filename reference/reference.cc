#include "reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace shufflenet::reference {

namespace {

using networks::Channel;
using networks::Layer;
using networks::LayerKind;

/// Calls visit(ky, kx, y, x) for each tap of a window over output (oy, ox), with the pixel below it.
template <typename Visit>
void for_each_tap(const networks::Window &w, int oy, int ox, Visit visit) {
    for (int ky = 0; ky < w.kernel.height; ++ky) {
        for (int kx = 0; kx < w.kernel.width; ++kx) {
            visit(ky, kx, oy * w.stride.height + ky - w.padding.height, ox * w.stride.width + kx - w.padding.width);
        }
    }
}

Tensor empty_output(const Layer &layer) { return {layer.out_channels, layer.out.height, layer.out.width}; }

Tensor convolution(const Layer &layer, const Tensor &in, const LayerWeights &weights) {
    Tensor out = empty_output(layer);
    const int inputs = layer.group_channels(), outputs = layer.out_channels / layer.groups;
    const networks::Window &w = layer.window;
    for (int co = 0; co < out.channels; ++co) {
        for (int y = 0; y < out.height; ++y) {
            for (int x = 0; x < out.width; ++x) {
                double sum = weights.bias[co];
                for (int i = 0; i < inputs; ++i) {
                    const int ci = co / outputs * inputs + i;
                    const size_t first = (size_t(co) * inputs + i) * w.kernel.pixels();
                    for_each_tap(w, y, x, [&](int ky, int kx, int iy, int ix) {
                        if (!in.inside(iy, ix)) return;
                        sum += weights.weights[first + ky * w.kernel.width + kx] * in.at(ci, iy, ix);
                    });
                }
                out.at(co, y, x) = activate(sum, layer.activation);
            }
        }
    }
    return out;
}

/// The greater, or the one that is not a number.
double max_or_nan(double a, double b) { return b > a || std::isnan(b) ? b : a; }

/// One value of a pool.
double pooled(const Layer &layer, const Tensor &in, int c, int y, int x) {
    const bool max = layer.kind == LayerKind::kMaxPool;
    double value = max ? -std::numeric_limits<double>::infinity() : 0;
    int count = 0;
    for_each_tap(layer.window, y, x, [&](int, int, int iy, int ix) {
        if (!in.inside(iy, ix)) return;
        value = max ? max_or_nan(value, in.at(c, iy, ix)) : value + in.at(c, iy, ix);
        ++count;
    });
    if (max) return value;
    return value / (layer.counts_padding ? layer.window.kernel.pixels() : count);
}

Tensor pool(const Layer &layer, const Tensor &in) {
    Tensor out = empty_output(layer);
    for (int c = 0; c < out.channels; ++c) {
        for (int y = 0; y < out.height; ++y) {
            for (int x = 0; x < out.width; ++x) out.at(c, y, x) = pooled(layer, in, c, y, x);
        }
    }
    return out;
}

Tensor global_pool(const Layer &layer, const Tensor &in) {
    Tensor out = empty_output(layer);
    for (int c = 0; c < in.channels; ++c) {
        double sum = 0;
        for (const double value : in.plane(c)) sum += value;
        out.data[c] = sum / in.pixels();
    }
    return out;
}

Tensor add(const Layer &layer, Tensor a, const Tensor &b) {
    for (size_t i = 0; i < a.data.size(); ++i) a.data[i] = activate(a.data[i] + b.data[i], layer.activation);
    return a;
}

Tensor resize(const Layer &layer, const Tensor &in) {
    Tensor out = empty_output(layer);
    for (int c = 0; c < out.channels; ++c) {
        for (int y = 0; y < out.height; ++y) {
            const Neighbours rows = neighbours(layer.resize, in.height, out.height, y);
            for (int x = 0; x < out.width; ++x) {
                const Neighbours columns = neighbours(layer.resize, in.width, out.width, x);
                const auto mixed = [&](int row) {
                    const double first = in.at(c, row, columns.first), second = in.at(c, row, columns.second);
                    return first + (second - first) * columns.share;
                };
                const double first = mixed(rows.first), second = mixed(rows.second);
                out.at(c, y, x) = first + (second - first) * rows.share;
            }
        }
    }
    return out;
}

Tensor softmax(Tensor in) {
    for (int p = 0; p < in.pixels(); ++p) {
        double most = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int c = 0; c < in.channels; ++c) most = std::max(most, in.plane(c)[p]);
        for (int c = 0; c < in.channels; ++c) sum += in.plane(c)[p] = std::exp(in.plane(c)[p] - most);
        for (int c = 0; c < in.channels; ++c) in.plane(c)[p] /= sum;
    }
    return in;
}

/// A tensor's channels, from where they were computed.
Tensor gather(const networks::Tensor &tensor, const Tensor &image, const std::vector<Tensor> &values) {
    Tensor out(tensor.count(), tensor.size.height, tensor.size.width);
    for (int i = 0; i < tensor.count(); ++i) {
        const Channel &channel = tensor.channels[i];
        const Tensor &from = channel.layer == networks::kImage ? image : values[channel.layer];
        std::ranges::copy(from.plane(channel.index), out.plane(i).begin());
    }
    return out;
}

Tensor image_tensor(const networks::Graph &graph, std::span<const float> chw) {
    Tensor image(graph.image_channels, graph.input.height, graph.input.width);
    if (chw.size() != image.data.size()) throw std::invalid_argument("reference::run: size of the input");
    std::ranges::copy(chw, image.data.begin());
    return image;
}

std::vector<Tensor> values_of(const networks::Graph &graph, std::span<const LayerWeights> layers, const Tensor &image) {
    if (layers.size() != graph.layers.size())
        throw std::invalid_argument("reference::run: layers do not fit the graph");
    std::vector<Tensor> values;
    for (size_t i = 0; i < graph.layers.size(); ++i) {
        const Layer &layer = graph.layers[i];
        const Tensor in = gather(layer.in[0], image, values);
        switch (layer.kind) {
        case LayerKind::kConvolution:
        case LayerKind::kLinear:
            values.push_back(convolution(layer, in, layers[i]));
            break;
        case LayerKind::kMaxPool:
        case LayerKind::kAveragePool:
            values.push_back(pool(layer, in));
            break;
        case LayerKind::kGlobalPool:
            values.push_back(global_pool(layer, in));
            break;
        case LayerKind::kAdd:
            values.push_back(add(layer, in, gather(layer.in[1], image, values)));
            break;
        case LayerKind::kResize:
            values.push_back(resize(layer, in));
            break;
        case LayerKind::kSoftmax:
            values.push_back(softmax(in));
            break;
        case LayerKind::kActivation:
            values.push_back(in);
            for (double &value : values.back().data) value = activate(value, layer.activation);
            break;
        case LayerKind::kCopy:
            values.push_back(in);
            break;
        }
    }
    return values;
}

}  // namespace

Neighbours neighbours(const networks::Resize &resize, int in, int out, int x) {
    const networks::ResizePosition at = networks::resize_position(resize, in, out);
    const double position = double(at.scale * x + at.offset) / at.divisor;
    const int below = static_cast<int>(std::floor(position));
    const auto inside = [in](int pixel) { return std::clamp(pixel, 0, in - 1); };
    if (resize.mode == networks::Resize::Mode::kNearest) return {inside(below), inside(below), 0};
    return {inside(below), inside(below + 1), position - below};
}

double activate(double value, const networks::Activation &activation) {
    using Kind = networks::Activation::Kind;
    // Not a number is not below zero, and stays what it is.
    switch (activation.kind) {
    case Kind::kRelu:
        return value < 0 ? 0 : value;
    case Kind::kRelu6:
        return value < 0 ? 0 : value > 6 ? 6 : value;
    case Kind::kLeakyRelu:
        return value < 0 ? value * activation.slope : value;
    case Kind::kSigmoid:
        return 1 / (1 + std::exp(-value));
    case Kind::kNone:
        break;
    }
    return value;
}

std::vector<Tensor> run_layers(const networks::Graph &graph, std::span<const LayerWeights> layers,
                               std::span<const float> chw) {
    return values_of(graph, layers, image_tensor(graph, chw));
}

std::vector<Tensor> run(const networks::Graph &graph, std::span<const LayerWeights> layers,
                        std::span<const float> chw) {
    const Tensor image = image_tensor(graph, chw);
    const std::vector<Tensor> values = values_of(graph, layers, image);
    std::vector<Tensor> outputs;
    for (const networks::Output &output : graph.outputs) outputs.push_back(gather(output.tensor, image, values));
    return outputs;
}

}  // namespace shufflenet::reference
