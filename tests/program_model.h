// A program executed in naive double precision, kernel by kernel as networks/kernel.h describes them, from its tables
// and its packing alone: what a plan means, whatever code computes it.
#pragma once

#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "networks/program.h"
#include "reference/reference.h"

namespace shufflenet::tests {

/// Weights as a program packs them; `layers`: of all layers of its graph.
inline std::vector<double> packed(const networks::Program &program, std::span<const reference::LayerWeights> layers) {
    std::vector<double> weights(size_t(program.weight_floats));
    for (const networks::PackStep &step : program.packing) {
        const reference::LayerWeights &from = layers[step.layer];
        const networks::Layer &layer = program.graph.layers[step.layer];
        const WeightLayout &to = step.layout;
        const int taps = layer.window.kernel.pixels(), inputs = layer.group_channels();
        for (int co = 0; co < layer.out_channels; ++co) {
            const int group = step.lanes[co] / to.lanes, lane = step.lanes[co] % to.lanes;
            const int own = co / (layer.out_channels / layer.groups);
            weights.at(step.blob + to.bias + group * to.stride + lane) = from.bias[co];
            for (int i = 0; i < inputs; ++i) {
                const int input = step.order.empty() ? i : step.order.at(own * inputs + i);
                for (int tap = 0; tap < taps; ++tap) {
                    const int row = step.taps_last ? i * taps + tap : tap * inputs + i;
                    weights.at(step.blob + to.index(group, lane, row)) =
                        from.weights[(size_t(co) * inputs + input) * taps + tap];
                }
            }
        }
    }
    return weights;
}

class ProgramModel {
  public:
    ProgramModel(const networks::Program &program, std::span<const reference::LayerWeights> layers)
        : p_(program), weights_(packed(program, layers)) {}

    /// The outputs, in order; memory that nothing was written to is not a number.
    std::vector<reference::Tensor> run(std::span<const float> image) {
        constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
        image_.assign(image.begin(), image.end());
        arena_.assign(size_t(p_.arena_floats), kNothing);
        row_.assign(size_t(p_.row_floats), kNothing);
        written_.assign(p_.outputs.size(), {});
        for (const networks::Call &call : p_.calls) run_call(call);
        std::vector<reference::Tensor> outputs;
        for (size_t i = 0; i < p_.outputs.size(); ++i) outputs.push_back(output(i));
        return outputs;
    }

  private:
    using Kernel = networks::Kernel;
    using Kind = networks::KernelKind;

    /// One call's view: its table, its weights, where it reads.
    struct View {
        const Kernel &kernel;
        std::span<const int32_t> table;
        std::span<const double> weights;
        std::vector<WeightLayout> layouts;
        networks::TableLayout sections;
    };

    double bias(const View &v, int number, int group, int lane) const {
        return v.weights[v.layouts[number].bias + group * v.layouts[number].stride + lane];
    }
    double weight(const View &v, int number, int group, int lane, int row) const {
        return v.weights[v.layouts[number].index(group, lane, row)];
    }
    /// The channel that a table's entry finds, at a pixel.
    double channel(const View &v, int entry, int pixel) const {
        return arena_.at(size_t(v.table[entry]) + size_t(pixel) * kPlane);
    }
    /// Lane `lane` of the planes whose offsets start at `entry`.
    double plane_lane(const View &v, int entry, int lane, int pixel) const {
        return arena_.at(size_t(v.table[entry + lane / kPlane]) + size_t(pixel) * kPlane + lane % kPlane);
    }

    using Values = std::vector<std::vector<double>>;  ///< [lane][pixel]

    /// Visits the pixels of `in` below a window over output pixel `p`, as (tap, pixel).
    template <typename Visit>
    static void for_each_tap(const networks::Window &w, Size in, Size out, int p, Visit visit) {
        for (int ky = 0; ky < w.kernel.height; ++ky) {
            for (int kx = 0; kx < w.kernel.width; ++kx) {
                const int y = p / out.width * w.stride.height + ky - w.padding.height;
                const int x = p % out.width * w.stride.width + kx - w.padding.width;
                const bool inside = 0 <= y && y < in.height && 0 <= x && x < in.width;
                visit(ky * w.kernel.width + kx, inside ? y * in.width + x : -1);
            }
        }
    }

    void run_call(const networks::Call &call) {
        const Kernel &kernel = p_.kernels[call.kernel];
        const networks::TableLayout sections = networks::table_layout(kernel);
        const View v{kernel, std::span(p_.tables).subspan(call.table, sections.size()),
                     std::span<const double>(weights_).subspan(size_t(call.weights)), networks::weight_layouts(kernel),
                     sections};
        switch (kernel.kind) {
        case Kind::kStem:
            return store(call, kernel, stem(v));
        case Kind::kUnit:
            return store(call, kernel, unit(v));
        case Kind::kPointwise:
        case Kind::kPooledPointwise:
        case Kind::kConvolution:
            return store(call, kernel, convolution(v));
        case Kind::kSoftmax:
            return store(call, kernel, softmax(v));
        case Kind::kLinear:
            written_.at(call.out) = linear(v);
            return;
        default:
            return store(call, kernel, planes(v));
        }
    }

    /// `values`: [group * lanes + lane][pixel].
    void store(const networks::Call &call, const Kernel &kernel, const Values &values) {
        std::vector<double> &memory = call.destination == networks::Destination::kRow ? row_ : arena_;
        const int pixels = kernel.out.pixels();
        for (int group = 0; group < kernel.groups; ++group) {
            for (int lane = 0; lane < kernel.lanes; ++lane) {
                const int plane = group * kernel.planes() + lane / kPlane;
                for (int p = 0; p < pixels; ++p) {
                    memory.at(size_t(call.out) + (size_t(plane) * pixels + p) * kPlane + lane % kPlane) =
                        values[size_t(group) * kernel.lanes + lane][p];
                }
            }
        }
    }

    Values stem(const View &v) const {
        const Kernel &k = v.kernel;
        const networks::Window &w = k.window;
        const Size size = networks::window_size(w, k.in);
        Values values(k.lanes);
        for (int lane = 0; lane < k.lanes; ++lane) {
            std::vector<double> conv(size.pixels());
            for (int p = 0; p < size.pixels(); ++p) {
                double sum = bias(v, 0, 0, lane);
                for (int ci = 0; ci < k.in_channels; ++ci) {
                    for_each_tap(w, k.in, size, p, [&](int tap, int pixel) {
                        if (pixel < 0) return;
                        sum += weight(v, 0, 0, lane, ci * w.kernel.pixels() + tap) * image_[ci * k.in.pixels() + pixel];
                    });
                }
                conv[p] = reference::activate(sum, k.activation);
            }
            values[lane] = k.pools() ? pooled(k.pool, size, k.out, conv, true, true) : conv;
        }
        return values;
    }

    static std::vector<double> pooled(const networks::Window &w, Size in, Size out, const std::vector<double> &values,
                                      bool max, bool counts_padding) {
        std::vector<double> result;
        for (int p = 0; p < out.pixels(); ++p) {
            double value = max ? -std::numeric_limits<double>::infinity() : 0;
            int count = 0;
            for_each_tap(w, in, out, p, [&](int, int pixel) {
                if (pixel < 0) return;
                value = max ? (values[pixel] > value || std::isnan(values[pixel]) ? values[pixel] : value)
                            : value + values[pixel];
                ++count;
            });
            result.push_back(max ? value : value / (counts_padding ? w.kernel.pixels() : count));
        }
        return result;
    }

    /// A depthwise convolution of lanes, each group of them with weights of its own.
    Values filtered(const View &v, int number, const Values &in, int groups) const {
        const Kernel &k = v.kernel;
        const int lanes = static_cast<int>(in.size()) / groups;
        Values values(in.size(), std::vector<double>(k.out.pixels()));
        for (size_t i = 0; i < in.size(); ++i) {
            const int group = static_cast<int>(i) / lanes, lane = static_cast<int>(i) % lanes;
            for (int p = 0; p < k.out.pixels(); ++p) {
                double sum = bias(v, number, group, lane);
                for_each_tap(k.window, k.in, k.out, p, [&](int tap, int pixel) {
                    if (pixel >= 0) sum += weight(v, number, group, lane, tap) * in[i][pixel];
                });
                values[i][p] = reference::activate(sum, k.kind == Kind::kUnit ? k.second : k.activation);
            }
        }
        return values;
    }

    Values unit(const View &v) const {
        const Kernel &k = v.kernel;
        const int depthwise = k.expands() ? 1 : 0;
        Values middle(size_t(k.middle_groups) * k.middle, std::vector<double>(k.in.pixels()));
        for (size_t i = 0; i < middle.size(); ++i) {
            const int group = static_cast<int>(i) / k.middle, lane = static_cast<int>(i) % k.middle;
            for (int p = 0; p < k.in.pixels(); ++p) {
                if (!k.expands()) {
                    middle[i][p] = plane_lane(v, 0, lane, p);
                    continue;
                }
                double sum = bias(v, 0, group, lane);
                for (int s = 0; s < k.summands(); ++s) {
                    sum += weight(v, 0, group, lane, s) *
                           channel(v, v.sections.first_channel() + group * k.summands() + s, p);
                }
                middle[i][p] = reference::activate(sum, k.first);
            }
        }
        return project(v, depthwise + 1, filtered(v, depthwise, middle, k.middle_groups));
    }

    Values project(const View &v, int number, const Values &in) const {
        const Kernel &k = v.kernel;
        const int group_lanes = round_up(k.middle, kPlane);
        Values values(size_t(k.groups) * k.lanes, std::vector<double>(k.out.pixels()));
        for (size_t i = 0; i < values.size(); ++i) {
            const int group = static_cast<int>(i) / k.lanes, lane = static_cast<int>(i) % k.lanes;
            for (int p = 0; p < k.out.pixels(); ++p) {
                double sum = bias(v, number, group, lane);
                for (int s = 0; s < k.last_summands; ++s) {
                    const int at = k.ordered ? v.table[v.sections.first_lane() + group * k.last_summands + s] : s;
                    sum += weight(v, number, group, lane, s) *
                           in[size_t(at) / group_lanes * k.middle + size_t(at) % group_lanes][p];
                }
                if (k.shortcut) sum += plane_lane(v, v.sections.first_addend() + group * k.planes(), lane, p);
                values[i][p] = reference::activate(sum, k.activation);
            }
        }
        return values;
    }

    Values convolution(const View &v) const {
        const Kernel &k = v.kernel;
        Values values(size_t(k.groups) * k.lanes);
        for (size_t i = 0; i < values.size(); ++i) {
            const int group = static_cast<int>(i) / k.lanes, lane = static_cast<int>(i) % k.lanes;
            const Size out = k.kind == Kind::kPooledPointwise ? k.in : k.out;
            double total = 0;
            for (int p = 0; p < out.pixels(); ++p) {
                double sum = bias(v, 0, group, lane);
                for_each_tap(k.window, k.in, out, p, [&](int tap, int pixel) {
                    for (int s = 0; pixel >= 0 && s < k.summands(); ++s) {
                        sum += weight(v, 0, group, lane, tap * k.summands() + s) *
                               channel(v, v.sections.first_channel() + group * k.summands() + s, pixel);
                    }
                });
                if (k.shortcut) sum += plane_lane(v, v.sections.first_addend() + group * k.planes(), lane, p);
                values[i].push_back(reference::activate(sum, k.activation));
                total += values[i].back();
            }
            if (k.kind == Kind::kPooledPointwise) values[i] = {total / out.pixels()};
        }
        return values;
    }

    std::vector<double> linear(const View &v) const {
        const Kernel &k = v.kernel;
        std::vector<double> values;
        for (int lane = 0; lane < k.lanes; ++lane) {
            double sum = bias(v, 0, 0, lane);
            for (int s = 0; s < k.in_channels; ++s) {
                sum += weight(v, 0, 0, lane, s) * row_.at(k.ordered ? size_t(v.table[s]) : size_t(s));
            }
            values.push_back(sum);
        }
        return values;
    }

    Values softmax(const View &v) const {
        const Kernel &k = v.kernel;
        Values values(k.lanes, std::vector<double>(k.out.pixels()));
        for (int p = 0; p < k.out.pixels(); ++p) {
            double sum = 0;
            for (int lane = 0; lane < k.lanes; ++lane) {
                if (v.table[lane] >= 0) sum += values[lane][p] = std::exp(channel(v, lane, p));
            }
            for (int lane = 0; lane < k.lanes; ++lane) values[lane][p] /= sum;
        }
        return values;
    }

    /// A lane in the size of the output.
    static std::vector<double> resized(const Kernel &k, const std::vector<double> &in) {
        using reference::neighbours;
        std::vector<double> out;
        for (int p = 0; p < k.out.pixels(); ++p) {
            const auto y = neighbours(k.resize, k.in.height, k.out.height, p / k.out.width);
            const auto x = neighbours(k.resize, k.in.width, k.out.width, p % k.out.width);
            const auto row = [&](int at) {
                const double *const pixels = &in[size_t(at) * k.in.width];
                return pixels[x.first] * (1 - x.share) + pixels[x.second] * x.share;
            };
            out.push_back(row(y.first) * (1 - y.share) + row(y.second) * y.share);
        }
        return out;
    }

    Values planes(const View &v) const {
        const Kernel &k = v.kernel;
        Values values(k.lanes, std::vector<double>(k.out.pixels()));
        for (int lane = 0; lane < k.lanes; ++lane) {
            std::vector<double> in;
            for (int p = 0; p < k.in.pixels(); ++p) in.push_back(read_lane(v, lane, p));
            switch (k.kind) {
            case Kind::kDepthwise:
                values[lane] = filtered(v, 0, whole(v, in, lane), 1)[lane];
                break;
            case Kind::kMaxPool:
            case Kind::kAveragePool:
                values[lane] = pooled(k.window, k.in, k.out, in, k.kind == Kind::kMaxPool, k.counts_padding);
                break;
            case Kind::kGlobalPool:
                values[lane] = {0};
                for (const double value : in) values[lane][0] += value / k.in.pixels();
                break;
            case Kind::kAdd:
                for (int p = 0; p < k.out.pixels(); ++p) {
                    const double other = plane_lane(v, v.sections.first_addend(), lane, p);
                    values[lane][p] = reference::activate(in[p] + other, k.activation);
                }
                break;
            case Kind::kResize:
                values[lane] = resized(k, in);
                break;
            case Kind::kActivation:
                for (int p = 0; p < k.out.pixels(); ++p) values[lane][p] = reference::activate(in[p], k.activation);
                break;
            default:
                values[lane] = in;
                break;
            }
        }
        return values;
    }
    /// What a kernel of planes, or a copy, reads for one lane.
    double read_lane(const View &v, int lane, int pixel) const {
        if (v.kernel.kind != Kind::kCopy) return plane_lane(v, 0, lane, pixel);
        if (v.kernel.in_planes == 0) return channel(v, lane, pixel);
        const int32_t *entry = &v.table[size_t(lane / kPlane) * networks::kCopyEntries];
        const bool first = lane % kPlane < entry[networks::kFirstLanes];
        return arena_.at(size_t(entry[first ? networks::kFirstRun : networks::kSecondRun]) + lane % kPlane +
                         size_t(pixel) * kPlane);
    }
    /// All lanes, of which one matters.
    static Values whole(const View &v, const std::vector<double> &in, int lane) {
        Values all(v.kernel.lanes, std::vector<double>(in.size()));
        all[lane] = in;
        return all;
    }

    reference::Tensor output(size_t number) const {
        const networks::ProgramOutput &o = p_.outputs[number];
        reference::Tensor out(o.channels, o.size.height, o.size.width);
        if (o.offsets.empty()) {
            out.data = written_[number];
            return out;
        }
        for (int c = 0; c < o.channels; ++c) {
            for (int p = 0; p < out.pixels(); ++p) {
                out.plane(c)[p] = arena_.at(size_t(o.offsets[c]) + size_t(p) * kPlane);
            }
        }
        return out;
    }

    const networks::Program &p_;
    std::vector<double> weights_, image_, arena_, row_;
    std::vector<std::vector<double>> written_;
};

}  // namespace shufflenet::tests
