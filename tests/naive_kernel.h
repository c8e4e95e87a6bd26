// What a kernel has to compute, naively and in double precision, and how far off floats may be.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "networks/kernel.h"
#include "reference/reference.h"
#include "runtime/src/element.h"

namespace shufflenet::naive {

using networks::Kernel;
using networks::KernelKind;

/// A value, and a bound of the error of a computation in floats that gets there.
struct Value {
    double value = 0, error = 0;
};

/// Half of the distance from 1 to the next float, and a little for products of errors.
inline constexpr double kRound = 0x1p-24 * 1.01;

/// An element of packed weights.
inline float element_at(std::span<const float> weights, const WeightLayout &layout, int index) {
    if (layout.element == Element::kF32) return weights[index];
    return load_element<int16_t>(std::as_bytes(weights).data(), index);
}

/// A sum of products. Whatever the order, n summands round n times at most, each time by no more than the share
/// kRound of the magnitudes that there are; so do n products that are not part of a multiply-add.
class Sum {
  public:
    explicit Sum(double start) : value_(start), magnitude_(std::abs(start)) {}
    void add(double weight, const Value &x) {
        value_ += weight * x.value;
        magnitude_ += std::abs(weight * x.value);
        error_ += std::abs(weight) * x.error;
        ++count_;
    }
    Value result() const { return {value_, error_ + (2 * count_ + 1) * kRound * magnitude_}; }

  private:
    double value_, magnitude_, error_ = 0;
    int count_ = 0;
};

inline Value plus(const Value &a, const Value &b) {
    return {a.value + b.value, a.error + b.error + kRound * (std::abs(a.value) + std::abs(b.value))};
}
inline Value scaled(const Value &a, double by) {
    return {a.value * by, a.error * std::abs(by) + 2 * kRound * std::abs(a.value * by)};
}

/// No activation makes an error greater, but a slope is one more product.
inline Value activated(const Value &x, const networks::Activation &activation) {
    using Kind = networks::Activation::Kind;
    switch (activation.kind) {
    case Kind::kRelu:
        return {x.value < 0 ? 0 : x.value, x.error};
    case Kind::kRelu6:
        return {x.value < 0 ? 0 : x.value > 6 ? 6 : x.value, x.error};
    case Kind::kLeakyRelu:
        return {x.value < 0 ? x.value * activation.slope : x.value, x.error + 2 * kRound * std::abs(x.value)};
    case Kind::kSigmoid: {
        // Its slope is a quarter at most; the exponential is good to a few units in the last place.
        const double value = 1 / (1 + std::exp(-x.value));
        return {value, x.error / 4 + 8 * kRound * value};
    }
    case Kind::kNone:
        break;
    }
    return x;
}

/// A tensor of one image: (lane, pixel).
struct Lanes {
    int lanes = 0;
    Size size;
    std::vector<Value> values;
    Lanes(int count, Size of) : lanes(count), size(of), values(size_t(count) * of.pixels()) {}
    Value &at(int lane, int pixel) { return values[size_t(pixel) * lanes + lane]; }
    const Value &at(int lane, int pixel) const { return values[size_t(pixel) * lanes + lane]; }
};

/// Visits the pixels of `in` that a window sees at output (x, y): visit(tap, pixel).
template <typename Visit>
void for_each_pixel(const networks::Window &w, Size in, int x, int y, Visit visit) {
    for (int ky = 0; ky < w.kernel.height; ++ky) {
        for (int kx = 0; kx < w.kernel.width; ++kx) {
            const int iy = y * w.stride.height - w.padding.height + ky;
            const int ix = x * w.stride.width - w.padding.width + kx;
            if (iy < 0 || iy >= in.height || ix < 0 || ix >= in.width) continue;
            visit(ky * w.kernel.width + kx, iy * in.width + ix);
        }
    }
}

inline Lanes max_pool(const Lanes &in, const networks::Window &w, Size out_size) {
    Lanes out(in.lanes, out_size);
    for (int p = 0; p < out_size.pixels(); ++p) {
        for (int lane = 0; lane < in.lanes; ++lane) {
            Value best{-std::numeric_limits<double>::infinity(), 0};
            for_each_pixel(w, in.size, p % out_size.width, p / out_size.width, [&](int, int pixel) {
                const Value &v = in.at(lane, pixel);
                // What is not a number is the greatest.
                if (v.value > best.value || std::isnan(v.value)) best.value = v.value;
                best.error = std::max(best.error, v.error);
            });
            out.at(lane, p) = best;
        }
    }
    return out;
}

/// A kernel's operands, as in memory.
class Operands {
  public:
    Operands(const Kernel &kernel, const std::vector<float> &in, const std::vector<int> &table,
             const std::vector<float> &weights)
        : k_(kernel),
          layouts_(networks::weight_layouts(kernel)),
          tables_(networks::table_layout(kernel)),
          in_(in),
          table_(table),
          weights_(weights) {}

    /// The output's lanes, group after group, each in whole planes.
    Lanes result() const {
        switch (k_.kind) {
        case KernelKind::kStem:
            return stem();
        case KernelKind::kUnit:
            return unit();
        case KernelKind::kPointwise:
            return joined(pointwise(layouts_[0], k_.summands(), k_.lanes, k_.out, channels(k_.groups)));
        case KernelKind::kPooledPointwise: {
            const auto all = pointwise(layouts_[0], k_.summands(), k_.lanes, k_.in, channels(k_.groups));
            return mean(activated_all(all, k_.activation));
        }
        case KernelKind::kConvolution:
            return joined(convolution());
        case KernelKind::kDepthwise:
            return joined(depthwise(layouts_[0], planes(k_.in_planes), k_.out));
        case KernelKind::kMaxPool:
            return joined(max_pool(planes(k_.in_planes), k_.window, k_.out));
        case KernelKind::kAveragePool:
            return joined(average_pool());
        case KernelKind::kGlobalPool:
            return activated_all(mean(planes(k_.in_planes)), k_.activation);
        case KernelKind::kAdd:
            return added();
        case KernelKind::kResize:
            return resized();
        case KernelKind::kSoftmax:
            return softmax();
        case KernelKind::kActivation:
            return activated_all(planes(k_.in_planes), k_.activation);
        case KernelKind::kCopy:
            return copied();
        case KernelKind::kLinear:
            break;
        }
        return Lanes(0, {});
    }

    /// One image's outputs of a linear layer with so many classes.
    std::vector<Value> linear(int classes, int image) const {
        const int rows = k_.in_channels;
        const WeightLayout layout = linear_layout(rows, classes, k_.element);
        const int row_floats = k_.in_planes * kPlane;
        std::vector<Value> out;
        for (int j = 0; j < classes; ++j) {
            Sum sum(layout.has_factors() ? 0 : weights_[j]);
            for (int i = 0; i < rows; ++i) {
                const int at = k_.ordered ? table_[i] : i;
                sum.add(element_at(weights_, layout, layout.index(0, j, i)), {in_[size_t(image) * row_floats + at], 0});
            }
            Value value = sum.result();
            if (layout.has_factors()) value = plus(scaled(value, weights_[layout.lanes + j]), {weights_[j], 0});
            out.push_back(activated(value, k_.activation));
        }
        return out;
    }

  private:
    Value at(int offset, int pixel) const { return {in_.at(size_t(offset) + size_t(pixel) * kPlane), 0}; }

    /// Channels through the table, of all groups.
    Lanes channels(int groups) const {
        const int count = k_.in_channels / groups * groups;
        Lanes all(count, k_.in);
        for (int i = 0; i < count; ++i) {
            for (int p = 0; p < k_.in.pixels(); ++p) all.at(i, p) = at(table_[tables_.first_channel() + i], p);
        }
        return all;
    }
    Lanes planes(int count, int first = 0) const {
        Lanes all(count * kPlane, k_.in);
        for (int i = 0; i < count * kPlane; ++i) {
            for (int p = 0; p < k_.in.pixels(); ++p) all.at(i, p) = at(table_[first + i / kPlane] + i % kPlane, p);
        }
        return all;
    }

    /// Of each group `rows` neighbouring lanes of `in`; groups of the result are in whole planes.
    Lanes pointwise(const WeightLayout &w, int rows, int lanes, Size size, const Lanes &in) const {
        const int each = round_up(lanes, kPlane);
        Lanes out(w.groups * each, size);
        for (int p = 0; p < size.pixels(); ++p) {
            for (int g = 0; g < w.groups; ++g) {
                for (int j = 0; j < lanes; ++j) {
                    Sum sum(weights_[w.bias + g * w.stride + j]);
                    for (int i = 0; i < rows; ++i) sum.add(weights_[w.index(g, j, i)], in.at(g * rows + i, p));
                    out.at(g * each + j, p) = sum.result();
                }
            }
        }
        return out;
    }
    Lanes depthwise(const WeightLayout &w, const Lanes &in, Size size) const {
        Lanes out(in.lanes, size);
        const int each = in.lanes / w.groups;
        for (int p = 0; p < size.pixels(); ++p) {
            for (int lane = 0; lane < in.lanes; ++lane) {
                const int g = lane / each, j = lane % each;
                Sum sum(weights_[w.bias + g * w.stride + j]);
                for_each_pixel(k_.window, in.size, p % size.width, p / size.width,
                               [&](int tap, int pixel) { sum.add(weights_[w.index(g, j, tap)], in.at(lane, pixel)); });
                out.at(lane, p) = sum.result();
            }
        }
        return out;
    }
    Lanes stem() const {
        const Size size = networks::window_size(k_.window, k_.in);
        const WeightLayout &w = layouts_[0];
        const int taps = k_.window.kernel.pixels();
        Lanes conv(round_up(k_.lanes, kPlane), size);
        for (int p = 0; p < size.pixels(); ++p) {
            for (int j = 0; j < k_.lanes; ++j) {
                Sum sum(weights_[w.bias + j]);
                for_each_pixel(k_.window, k_.in, p % size.width, p / size.width, [&](int tap, int pixel) {
                    for (int c = 0; c < k_.in_channels; ++c) {
                        sum.add(weights_[w.index(0, j, c * taps + tap)], {in_[size_t(c) * k_.in.pixels() + pixel], 0});
                    }
                });
                conv.at(j, p) = activated(sum.result(), k_.activation);
            }
        }
        return k_.pools() ? max_pool(conv, k_.pool, k_.out) : conv;
    }
    Lanes unit() const {
        size_t next = 0;
        Lanes middle = k_.expands()
                           ? pointwise(layouts_[next++], k_.summands(), k_.middle, k_.in, channels(k_.middle_groups))
                           : planes(k_.in_planes);
        if (k_.expands()) middle = activated_all(middle, k_.first);
        middle = activated_all(depthwise(layouts_[next++], middle, k_.out), k_.second);
        const int rows = k_.ordered ? k_.last_summands : k_.middle;
        Lanes in(rows * k_.groups, k_.out);
        for (int i = 0; i < in.lanes; ++i) {
            const int lane = k_.ordered ? table_[tables_.first_lane() + i] : i;
            for (int p = 0; p < k_.out.pixels(); ++p) in.at(i, p) = middle.at(lane, p);
        }
        return joined(pointwise(layouts_[next], rows, k_.lanes, k_.out, in));
    }
    Lanes convolution() const {
        Lanes in = channels(1), out(round_up(k_.lanes, kPlane), k_.out);
        for (int p = 0; p < k_.out.pixels(); ++p) {
            for (int j = 0; j < k_.lanes; ++j) {
                Sum sum(weights_[layouts_[0].bias + j]);
                for_each_pixel(k_.window, k_.in, p % k_.out.width, p / k_.out.width, [&](int tap, int pixel) {
                    for (int c = 0; c < in.lanes; ++c) {
                        sum.add(weights_[layouts_[0].index(0, j, tap * in.lanes + c)], in.at(c, pixel));
                    }
                });
                out.at(j, p) = sum.result();
            }
        }
        return out;
    }
    Lanes average_pool() const {
        const Lanes in = planes(k_.in_planes);
        Lanes out(in.lanes, k_.out);
        for (int p = 0; p < k_.out.pixels(); ++p) {
            for (int lane = 0; lane < in.lanes; ++lane) {
                Sum sum(0);
                int count = 0;
                for_each_pixel(k_.window, in.size, p % k_.out.width, p / k_.out.width, [&](int, int pixel) {
                    sum.add(1, in.at(lane, pixel));
                    ++count;
                });
                const int divisor = k_.counts_padding ? k_.window.kernel.pixels() : count;
                out.at(lane, p) = scaled(sum.result(), 1.0 / divisor);
            }
        }
        return out;
    }
    Lanes resized() const {
        using reference::neighbours;
        const Lanes in = planes(k_.in_planes);
        Lanes out(in.lanes, k_.out);
        for (int p = 0; p < k_.out.pixels(); ++p) {
            const auto y = neighbours(k_.resize, k_.in.height, k_.out.height, p / k_.out.width);
            const auto x = neighbours(k_.resize, k_.in.width, k_.out.width, p % k_.out.width);
            for (int lane = 0; lane < in.lanes; ++lane) {
                const auto at = [&](int row, int column) { return in.at(lane, row * k_.in.width + column).value; };
                const auto mixed = [](double a, double b, double share) {
                    return share == 0 ? a : a + (b - a) * share;
                };
                const double top = mixed(at(y.first, x.first), at(y.first, x.second), x.share);
                const double value = mixed(top, mixed(at(y.second, x.first), at(y.second, x.second), x.share), y.share);
                // Values are one at most, and each of three steps rounds a difference, a product and a sum.
                const bool nearest = k_.resize.mode == networks::Resize::Mode::kNearest;
                out.at(lane, p) = {value, nearest ? 0 : 16 * kRound};
            }
        }
        return out;
    }
    Lanes softmax() const {
        Lanes out(round_up(k_.lanes, kPlane), k_.out);
        for (int p = 0; p < k_.out.pixels(); ++p) {
            double sum = 0;
            for (int lane = 0; lane < k_.lanes; ++lane) {
                const double value = table_[lane] < 0 ? 0 : std::exp(at(table_[lane], p).value);
                out.at(lane, p).value = value;
                sum += value;
            }
            for (int lane = 0; lane < k_.lanes; ++lane) {
                Value &value = out.at(lane, p);
                value.value /= sum;
                // The difference of two values up to one in magnitude rounds, and an exponential is good to a few
                // units.
                value.error = (16 + k_.lanes) * kRound * value.value;
            }
        }
        return out;
    }
    Lanes mean(const Lanes &in) const {
        Lanes out(in.lanes, {1, 1});
        for (int lane = 0; lane < in.lanes; ++lane) {
            Sum sum(0);
            for (int p = 0; p < in.size.pixels(); ++p) sum.add(1, in.at(lane, p));
            out.at(lane, 0) = scaled(sum.result(), 1.0 / in.size.pixels());
        }
        return out;
    }
    Lanes added() const {
        const Lanes a = planes(k_.in_planes), b = planes(k_.in_planes, tables_.first_addend());
        Lanes out(a.lanes, k_.out);
        for (size_t i = 0; i < out.values.size(); ++i) {
            out.values[i] = activated(plus(a.values[i], b.values[i]), k_.activation);
        }
        return out;
    }
    Lanes copied() const {
        Lanes out(round_up(k_.lanes, kPlane), k_.out);
        for (int lane = 0; lane < k_.lanes; ++lane) {
            for (int p = 0; p < k_.out.pixels(); ++p) out.at(lane, p) = at(table_[lane], p);
        }
        return out;
    }

    static Lanes activated_all(Lanes in, const networks::Activation &activation) {
        for (Value &value : in.values) value = activated(value, activation);
        return in;
    }
    /// With the shortcut, and the last activation.
    Lanes joined(Lanes sums) const {
        for (int lane = 0; k_.shortcut && lane < sums.lanes; ++lane) {
            const int offset = table_[tables_.first_addend() + lane / kPlane] + lane % kPlane;
            for (int p = 0; p < k_.out.pixels(); ++p) sums.at(lane, p) = plus(sums.at(lane, p), at(offset, p));
        }
        return activated_all(std::move(sums), k_.activation);
    }

    const Kernel &k_;
    std::vector<WeightLayout> layouts_;
    networks::TableLayout tables_;
    const std::vector<float> &in_;
    const std::vector<int> &table_;
    const std::vector<float> &weights_;
};

}  // namespace shufflenet::naive
