// The networks in naive double precision: plain loops over c, y, x, one image at a time. Everything else is compared
// with this, so it is written to be obviously right, and only as fast as that allows.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <stdexcept>
#include <vector>

#include "networks/comparison.h"

namespace shufflenet::reference {

/// One image's activations, CHW.
struct Tensor {
    int channels = 0, height = 0, width = 0;
    std::vector<double> data;

    Tensor() = default;
    Tensor(int c, int h, int w) : channels(c), height(h), width(w), data(size_t(c) * h * w) {}

    int pixels() const { return height * width; }
    size_t index(int c, int y, int x) const { return (size_t(c) * height + y) * width + x; }
    double &at(int c, int y, int x) { return data[index(c, y, x)]; }
    double at(int c, int y, int x) const { return data[index(c, y, x)]; }
    /// The same, with `outside` for positions beyond the border.
    double padded(int c, int y, int x, double outside) const {
        const bool inside = 0 <= y && y < height && 0 <= x && x < width;
        return inside ? at(c, y, x) : outside;
    }
    std::span<double> plane(int c) { return std::span(data).subspan(index(c, 0, 0), pixels()); }
    std::span<const double> plane(int c) const { return std::span(data).subspan(index(c, 0, 0), pixels()); }
};

/// Weights (out, in / groups, ky, kx) and bias (out) of one row of network_layers(), batch normalisation folded in;
/// empty for rows without weights.
struct LayerWeights {
    std::vector<double> weights;
    std::vector<double> bias;
};

/// Output size of a 3x3 window with padding 1.
inline int strided(int size, int stride) { return (size - 1) / stride + 1; }

inline Tensor conv3x3(const Tensor &in, std::span<const double> weights, std::span<const double> bias, int out_channels,
                      int stride) {
    Tensor out(out_channels, strided(in.height, stride), strided(in.width, stride));
    for (int co = 0; co < out_channels; ++co) {
        for (int y = 0; y < out.height; ++y) {
            for (int x = 0; x < out.width; ++x) {
                double sum = bias[co];
                for (int ci = 0; ci < in.channels; ++ci) {
                    for (int ky = 0; ky < 3; ++ky) {
                        for (int kx = 0; kx < 3; ++kx) {
                            sum += weights[((size_t(co) * in.channels + ci) * 3 + ky) * 3 + kx] *
                                   in.padded(ci, y * stride + ky - 1, x * stride + kx - 1, 0.0);
                        }
                    }
                }
                out.at(co, y, x) = sum;
            }
        }
    }
    return out;
}

inline Tensor depthwise3x3(const Tensor &in, std::span<const double> weights, std::span<const double> bias,
                           int stride) {
    Tensor out(in.channels, strided(in.height, stride), strided(in.width, stride));
    for (int c = 0; c < in.channels; ++c) {
        for (int y = 0; y < out.height; ++y) {
            for (int x = 0; x < out.width; ++x) {
                double sum = bias[c];
                for (int ky = 0; ky < 3; ++ky) {
                    for (int kx = 0; kx < 3; ++kx) {
                        sum += weights[(size_t(c) * 3 + ky) * 3 + kx] *
                               in.padded(c, y * stride + ky - 1, x * stride + kx - 1, 0.0);
                    }
                }
                out.at(c, y, x) = sum;
            }
        }
    }
    return out;
}

/// A 1x1 convolution, in groups of channels.
inline Tensor pointwise(const Tensor &in, std::span<const double> weights, std::span<const double> bias,
                        int out_channels, int groups = 1) {
    Tensor out(out_channels, in.height, in.width);
    const int group_inputs = in.channels / groups, group_outputs = out_channels / groups;
    for (int co = 0; co < out_channels; ++co) {
        const std::span<double> to = out.plane(co);
        std::fill(to.begin(), to.end(), bias[co]);
        for (int ci = 0; ci < group_inputs; ++ci) {
            const std::span<const double> from = in.plane(co / group_outputs * group_inputs + ci);
            const double weight = weights[size_t(co) * group_inputs + ci];
            for (size_t p = 0; p < to.size(); ++p) to[p] += weight * from[p];
        }
    }
    return out;
}

inline Tensor relu(Tensor t) {
    // Not a number is not below zero, and stays what it is.
    for (double &value : t.data) value = value < 0 ? 0 : value;
    return t;
}

inline Tensor activate(Tensor t, Activation activation) {
    if (activation == Activation::kNone) return t;
    t = relu(std::move(t));
    if (activation == Activation::kRelu6) {
        for (double &value : t.data) value = value > 6 ? 6 : value;
    }
    return t;
}

inline Tensor add(Tensor a, const Tensor &b) {
    for (size_t i = 0; i < a.data.size(); ++i) a.data[i] += b.data[i];
    return a;
}

/// The padding is counted.
inline Tensor average_pool3x3s2(const Tensor &in) {
    const std::vector<double> ninths(size_t(in.channels) * 9, 1.0 / 9), zeros(in.channels);
    return depthwise3x3(in, ninths, zeros, 2);
}

/// The greater, or the one that is not a number.
inline double max_or_nan(double a, double b) { return b > a || std::isnan(b) ? b : a; }

inline Tensor max_pool3x3s2(const Tensor &in) {
    Tensor out(in.channels, strided(in.height, 2), strided(in.width, 2));
    const double nothing = -std::numeric_limits<double>::infinity();
    for (int c = 0; c < in.channels; ++c) {
        for (int y = 0; y < out.height; ++y) {
            for (int x = 0; x < out.width; ++x) {
                double largest = nothing;
                for (int ky = 0; ky < 3; ++ky) {
                    for (int kx = 0; kx < 3; ++kx) {
                        largest = max_or_nan(largest, in.padded(c, 2 * y + ky - 1, 2 * x + kx - 1, nothing));
                    }
                }
                out.at(c, y, x) = largest;
            }
        }
    }
    return out;
}

inline Tensor concat(const Tensor &a, const Tensor &b) {
    Tensor out(a.channels + b.channels, a.height, a.width);
    std::copy(a.data.begin(), a.data.end(), out.data.begin());
    std::copy(b.data.begin(), b.data.end(), out.data.begin() + static_cast<std::ptrdiff_t>(a.data.size()));
    return out;
}

/// The two halves of the channels.
inline std::array<Tensor, 2> split(const Tensor &in) {
    const int c = in.channels / 2;
    std::array<Tensor, 2> halves = {Tensor(c, in.height, in.width), Tensor(c, in.height, in.width)};
    for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < c; ++i) std::ranges::copy(in.plane(half * c + i), halves[half].plane(i).begin());
    }
    return halves;
}

/// Channel shuffle: channel i of group g goes to i * groups + g.
inline Tensor shuffle(const Tensor &in, int groups = 2) {
    Tensor out(in.channels, in.height, in.width);
    const int group_channels = in.channels / groups;
    for (int g = 0; g < groups; ++g) {
        for (int i = 0; i < group_channels; ++i) {
            std::ranges::copy(in.plane(g * group_channels + i), out.plane(i * groups + g).begin());
        }
    }
    return out;
}

/// The mean of each channel.
inline std::vector<double> global_average(const Tensor &in) {
    std::vector<double> means;
    for (int c = 0; c < in.channels; ++c) {
        double sum = 0;
        for (const double value : in.plane(c)) sum += value;
        means.push_back(sum / in.pixels());
    }
    return means;
}

inline std::vector<double> fully_connected(std::span<const double> in, std::span<const double> weights,
                                           std::span<const double> bias) {
    std::vector<double> out(bias.begin(), bias.end());
    for (size_t o = 0; o < out.size(); ++o) {
        for (size_t i = 0; i < in.size(); ++i) out[o] += weights[o * in.size() + i] * in[i];
    }
    return out;
}

/// Rows of network_layers() that one unit has.
inline int unit_layers(bool down) { return down ? 5 : 3; }

/// Rows of network_layers() that one stage has.
inline int stage_layers(int units) { return unit_layers(true) + (units - 1) * unit_layers(false); }

/// Branch 1 of a downsampling unit; `layers`: depthwise, pointwise.
inline Tensor branch1(const Tensor &x, int channels, std::span<const LayerWeights> layers) {
    const Tensor depth = depthwise3x3(x, layers[0].weights, layers[0].bias, 2);
    return relu(pointwise(depth, layers[1].weights, layers[1].bias, channels));
}

/// Branch 2 of a unit; `layers`: pointwise, depthwise, pointwise.
inline Tensor branch2(const Tensor &x, int channels, int stride, std::span<const LayerWeights> layers) {
    const Tensor wide = relu(pointwise(x, layers[0].weights, layers[0].bias, channels));
    const Tensor depth = depthwise3x3(wide, layers[1].weights, layers[1].bias, stride);
    return relu(pointwise(depth, layers[2].weights, layers[2].bias, channels));
}

/// A downsampling or a basic unit (paper Figure 3 (d), (c)) with `channels` outputs per branch.
inline Tensor unit(const Tensor &x, bool down, int channels, std::span<const LayerWeights> layers) {
    if (down) {
        return shuffle(concat(branch1(x, channels, layers.first(2)), branch2(x, channels, 2, layers.subspan(2, 3))));
    }
    const auto [x1, x2] = split(x);
    return shuffle(concat(x1, branch2(x2, channels, 1, layers.first(3))));
}

inline Tensor stage(Tensor x, int units, int channels, std::span<const LayerWeights> layers) {
    for (int u = 0; u < units; ++u) {
        const bool down = u == 0;
        x = unit(x, down, channels, layers.first(unit_layers(down)));
        layers = layers.subspan(unit_layers(down));
    }
    return x;
}

inline Tensor stem(const Network &n, const Tensor &image, const LayerWeights &conv) {
    return max_pool3x3s2(relu(conv3x3(image, conv.weights, conv.bias, n.stem_channels, 2)));
}

/// A network's features and logits, in torchvision's channel order.
struct Result {
    std::array<Tensor, kStages> stages;
    Tensor conv5;
    std::vector<double> logits;
};

/// Runs one image. `layers`: one element per row of network_layers().
inline Result run(const Network &n, Size input, int classes, const std::vector<LayerWeights> &layers,
                  std::span<const float> chw_input) {
    Tensor image(3, input.height, input.width);
    if (chw_input.size() != image.data.size()) throw std::invalid_argument("reference::run: size of the input");
    std::ranges::copy(chw_input, image.data.begin());

    std::span<const LayerWeights> rest = layers;
    const auto take = [&rest](int rows) {
        const auto taken = rest.first(rows);
        rest = rest.subspan(rows);
        return taken;
    };
    Result r;
    Tensor x = stem(n, image, take(2)[0]);  // the pool's row is empty
    for (int s = 0; s < kStages; ++s) {
        x = stage(std::move(x), n.units[s], n.stage_channels[s] / 2, take(stage_layers(n.units[s])));
        r.stages[s] = x;
    }
    const LayerWeights &conv5 = take(2)[0];  // the pool's row is empty
    r.conv5 = relu(pointwise(x, conv5.weights, conv5.bias, n.conv5_channels));
    const LayerWeights &fc = take(1)[0];
    r.logits = fully_connected(global_average(r.conv5), fc.weights, fc.bias);
    if (!rest.empty() || r.logits.size() != static_cast<size_t>(classes)) {
        throw std::invalid_argument("reference::run: layers do not fit the network");
    }
    return r;
}

/// One step of a chain but an average pool, which its unit computes; `layers`: those of its rows that have weights.
inline Tensor chain_step(const Step &s, const Tensor &x, std::span<const LayerWeights *const> layers) {
    const auto last = [&](const Tensor &in, int channels, int groups) {
        return pointwise(in, layers.back()->weights, layers.back()->bias, channels, groups);
    };
    switch (s.kind) {
    case StepKind::kStem: {
        Tensor t = activate(conv3x3(x, layers[0]->weights, layers[0]->bias, s.out_channels, 2), s.activation);
        return s.pool ? max_pool3x3s2(t) : t;
    }
    case StepKind::kHead:
        return s.expanded > 0 ? activate(last(x, s.expanded, 1), s.expand_activation) : x;
    default:
        break;
    }
    Tensor t = x;
    if (s.expanded > 0) {
        t = activate(pointwise(x, layers[0]->weights, layers[0]->bias, s.expanded, s.expand_groups),
                     s.expand_activation);
        layers = layers.subspan(1);
    }
    t = activate(depthwise3x3(t, layers[0]->weights, layers[0]->bias, s.stride), s.depthwise_activation);
    // The authors' shuffle puts every `shuffle`-th channel together: ShuffleNetV2's with the other factor.
    t = last(shuffle(t, t.channels / s.shuffle), s.projected(), s.project_groups);
    if (s.shortcut == Shortcut::kAdd) t = add(std::move(t), x);
    t = activate(std::move(t), s.activation);
    return s.shortcut == Shortcut::kConcat ? concat(average_pool3x3s2(x), t) : t;
}

/// Logits of a chain for one image. `layers`: one element per row of chain_layers().
inline std::vector<double> run(const Chain &chain, int classes, const std::vector<LayerWeights> &layers,
                               std::span<const float> chw_input) {
    const Size input = chain.steps.front().in;
    Tensor x(3, input.height, input.width);
    if (chw_input.size() != x.data.size()) throw std::invalid_argument("reference::run: size of the input");
    std::ranges::copy(chw_input, x.data.begin());
    auto next = layers.begin();
    for (const Step &s : chain.steps) {
        std::vector<Layer> rows;
        detail::add_layers(rows, s, "");
        std::vector<const LayerWeights *> weights;
        for (const Layer &row : rows) {
            if (row.has_weights()) weights.push_back(&*next);
            ++next;
        }
        if (s.kind != StepKind::kAveragePool) x = chain_step(s, x, weights);
    }
    const LayerWeights &fc = *next++;
    std::vector<double> logits = fully_connected(global_average(x), fc.weights, fc.bias);
    if (next != layers.end() || logits.size() != static_cast<size_t>(classes)) {
        throw std::invalid_argument("reference::run: layers do not fit the network");
    }
    return logits;
}
inline std::vector<double> run(const Comparison &c, Size input, int classes, const std::vector<LayerWeights> &layers,
                               std::span<const float> chw_input) {
    return run(c.chain(input), classes, layers, chw_input);
}

}  // namespace shufflenet::reference
