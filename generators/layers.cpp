#include "layers.h"

namespace shufflenet::generators {

using Halide::clamp;
using Halide::likely;
using Halide::max;
using Halide::reinterpret;
using Halide::select;
using Halide::strict_float;

namespace {

std::string part_name(const std::string &name, size_t part) { return part == 0 ? name : name + "_tail"; }

/// The dimensions of a Func, or where it is read.
template <typename T>
std::vector<T> with_group(std::vector<T> at, const std::vector<Var> &group) {
    at.insert(at.end(), group.begin(), group.end());
    return at;
}

}  // namespace

void sum_pixels(Func total, Var c, const Expr &value) {
    total(c) = 0.0F;
    total(c) = strict_float(total(c) + value);
}

// select() in this order, and strict: x86's maxps and minps then have the value as the operand that they return where
// the comparison fails, and ARM's fmax and fmin never lose it. max() would leave the order to the compiler.
Expr at_least(const Expr &value, float bound) { return strict_float(select(value < bound, bound, value)); }
Expr at_most(const Expr &value, float bound) { return strict_float(select(value > bound, bound, value)); }

Expr relu(Expr sum, Expr /*lane*/, Expr /*pixel*/) { return at_least(sum, 0.0F); }
Expr linear(Expr sum, Expr /*lane*/, Expr /*pixel*/) { return sum; }

Parameter buffer_of(const Blob &blob) {
    using Halide::Internal::Call;
    // A generator's input is a Func around its buffer.
    const Call *through = blob(0).as<Call>();
    return Halide::Internal::Function(through->func).values()[0].as<Call>()->param;
}

Expr packed(const ChannelPart &part, const Expr &c, int vec, const Expr &row, int rows) {
    // A part within one vector of the layout needs no division by it.
    if (part.lanes <= vec) return (part.first / vec * rows + row) * vec + c;
    return ((part.first / vec + c / vec) * rows + row) * vec + c % vec;
}

std::vector<Summands> gathered(int count, int fours, bool lane_operands, const Gather &read) {
    const int in_fours = lane_operands ? fours * kFour : 0;
    std::vector<Summands> groups;
    if (in_fours > 0) {
        groups.push_back({in_fours, kFour, [read](const Expr &k, const Expr &pixel) {
                              return read(k / kFour * kFour, k % kFour, pixel);
                          }});
    }
    if (in_fours < count) {
        groups.push_back({count - in_fours, 1,
                          [read, in_fours](const Expr &k, const Expr &pixel) { return read(in_fours + k, 0, pixel); }});
    }
    return groups;
}

Pointwise pointwise(const std::string &name, const PointwiseLayout &layout, const std::vector<ChannelPart> &parts,
                    int pixels, const Blob &blob, const std::vector<Summands> &in, Var c, Var p,
                    const Epilogue &epilogue, const std::vector<Var> &group) {
    Pointwise f{layout, pixels, {}, {}, {}, buffer_of(blob), false, group};
    for (const Summands &summands : in) {
        f.k.emplace_back(0, summands.count, name + "_k" + std::to_string(f.k.size()));
        f.side_by_side.push_back(summands.side_by_side);
    }
    Var k("k");
    const std::vector<Var> at = with_group<Var>({c, p}, group);
    for (const ChannelPart &part : parts) {
        const std::string id = part_name(name, f.parts.size());
        Func sum(id + "_sum"), out(id);
        std::vector<Func> operands;
        sum(at) = blob(layout.bias + part.first + c);
        int first = 0;
        for (size_t i = 0; i < in.size(); ++i) {
            const Expr weight = blob(layout.weights + packed(part, c, layout.vec, first + f.k[i], layout.k));
            Func operand(id + "_in" + std::to_string(i));
            operand(with_group<Var>({k, p}, group)) = in[i].at(k, p);
            sum(at) += weight * operand(with_group<Expr>({f.k[i], p}, group));
            operands.push_back(operand);
            first += in[i].count;
        }
        out(at) = epilogue(sum(at), part.first + c, p);
        f.parts.push_back({part, operands, sum, out});
    }
    return f;
}

void shuffle_with(Pointwise &f, const Activation &other, Var c, Var p) {
    for (Pointwise::Part &part : f.parts) {
        Func shuffled(part.out.name() + "_shuffled");
        shuffled(c, p) = select(c % 2 == 0, other(part.channels.first + c / 2, p), part.out(c / 2, p));
        part.out = shuffled;
    }
    f.shuffled = true;
}

Expr in_range(const Expr &at, int tap, int size, int out_size, int stride, int window) {
    const int padding = window / 2;
    Expr inside = Halide::Internal::const_true();
    if (tap < padding) inside = inside && at >= 0;
    if ((out_size - 1) * stride + tap - padding >= size) inside = inside && at < size;
    return inside;
}

namespace {

/// Calls visit(tap, whether the input has its pixel, the pixel's x and y) for every tap of a window over output (x, y).
template <typename Visit>
void for_each_tap(Size in_size, Size out_size, int stride, int window, Var x, Var y, Visit visit) {
    for (int ky = 0; ky < window; ++ky) {
        for (int kx = 0; kx < window; ++kx) {
            const Expr iy = y * stride + ky - window / 2;
            const Expr ix = x * stride + kx - window / 2;
            const Expr inside = in_range(iy, ky, in_size.height, out_size.height, stride, window) &&
                                in_range(ix, kx, in_size.width, out_size.width, stride, window);
            visit(ky * window + kx, inside, ix, iy);
        }
    }
}

/// The pixel of an image that is nearest to (x, y).
Expr nearest(Size size, const Expr &x, const Expr &y) {
    return clamp(y, 0, size.height - 1) * size.width + clamp(x, 0, size.width - 1);
}

/// Reads the nearest pixel where a window is beyond the border.
Window clamped(const Activation &in, Size size) {
    return [&in, size](const Expr &lane, const Expr &x, const Expr &y) { return in(lane, nearest(size, x, y)); };
}

/// The sum over a window of a plane, from `start`; `weight` is asked for each tap.
Expr window_sum(Expr start, const std::function<Expr(int tap)> &weight, const Window &in, Size in_size, Size out_size,
                int stride, Var c, Var x, Var y, int window) {
    Expr sum = std::move(start);
    const auto add = [&](int tap, const Expr &inside, const Expr &ix, const Expr &iy) {
        sum += weight(tap) * select(inside, likely(in(c, ix, iy)), 0.0F);
    };
    for_each_tap(in_size, out_size, stride, window, x, y, add);
    return sum;
}

/// A part of a depthwise convolution whose sum at (c, x, y) is `value`.
Depthwise::Part window_part(const std::string &id, const ChannelPart &part, const Expr &value, Size out_size, Var c,
                            Var x, Var y, Var p, const std::vector<Var> &group, const Epilogue &epilogue = linear) {
    Func rows(id + "_rows"), out(id);
    rows(with_group<Var>({c, x, y}, group)) = value;
    // Not in `rows`: what is strict in an epilogue would take the sum in, and its multiply-adds apart.
    const Expr sum = rows(with_group<Expr>({c, p % out_size.width, p / out_size.width}, group));
    out(with_group<Var>({c, p}, group)) = epilogue(sum, part.first + c, p);
    return {part, rows, out};
}

/// The sum of one output of a depthwise convolution.
Expr filtered(const WindowLayout &layout, const ChannelPart &part, Size in_size, Size out_size, int stride,
              const Blob &blob, const Window &in, Var c, Var x, Var y, int window) {
    const auto weight = [&](int tap) { return blob(layout.weights + packed(part, c, layout.vec, tap, layout.taps)); };
    return window_sum(blob(layout.bias + part.first + c), weight, in, in_size, out_size, stride, c, x, y, window);
}

}  // namespace

Expr depthwise_sum(const WindowLayout &layout, const ChannelPart &part, Size in_size, int stride, const Blob &blob,
                   const Window &in, Var c, Var x, Var y) {
    const Size out_size = stride == 2 ? halved(in_size) : in_size;
    return filtered(layout, part, in_size, out_size, stride, blob, in, c, x, y, 3);
}

Depthwise depthwise(const std::string &name, const WindowLayout &layout, const std::vector<ChannelPart> &parts,
                    Size in_size, int stride, const Blob &blob, const std::vector<Activation> &in, Var c, Var x, Var y,
                    Var p, const Epilogue &epilogue, const std::vector<Var> &group, int window) {
    const Size out_size = stride == 2 ? halved(in_size) : in_size;
    Depthwise f{layout, in_size, out_size, stride, {}, 1, group};
    for (const ChannelPart &part : parts) {
        const size_t number = f.parts.size();
        const Expr sum =
            filtered(layout, part, in_size, out_size, stride, blob, clamped(in[number], in_size), c, x, y, window);
        f.parts.push_back(window_part(part_name(name, number), part, sum, out_size, c, x, y, p, group, epilogue));
    }
    return f;
}

Depthwise average_pool(const std::string &name, const WindowLayout &layout, Size in_size, const Activation &in, Var c,
                       Var x, Var y, Var p, const std::vector<Var> &group) {
    const Size out_size = halved(in_size);
    const auto weight = [](int) -> Expr { return 1.0F / kTaps; };
    const Expr mean = window_sum(0.0F, weight, clamped(in, in_size), in_size, out_size, 2, c, x, y, 3);
    const ChannelPart all{0, layout.lanes, layout.vec};
    return {layout, in_size, out_size, 2, {window_part(name, all, mean, out_size, c, x, y, p, group)}};
}

namespace {

constexpr uint32_t kMagnitude = 0x7FFFFFFF, kInfinity = 0x7F800000;

/// The bits of a float without its sign. Of values that are not negative (-0 is none) they are in the values' order,
/// and what is not a number is beyond infinity.
Expr magnitude_bits(const Expr &value) { return reinterpret<uint32_t>(value) & Expr(kMagnitude); }

/// The greater of two floats, or the one that is not a number.
Expr max_or_nan(const Expr &a, const Expr &b) {
    return strict_float(select(b > a || magnitude_bits(b) > Expr(kInfinity), b, a));
}

/// 3x3 stride-2 maximum at (x, y). `conv` reads at (x, y) what magnitude_bits() made; as integers, because the maximum
/// of two floats, one of them not a number, takes more than one instruction.
Expr pooled(const std::function<Expr(Expr, Expr)> &conv, const Expr &x, const Expr &y) {
    Expr best;
    for (int ky = 0; ky < 3; ++ky) {
        for (int kx = 0; kx < 3; ++kx) {
            const Expr value = reinterpret<uint32_t>(conv(x * 2 + kx - 1, y * 2 + ky - 1));
            best = best.defined() ? max(best, value) : value;
        }
    }
    return reinterpret<float>(best);
}

Expr padded(const Image &image, Size size, const Expr &ix, const Expr &iy, const Expr &ci) {
    const Expr inside = ix >= 0 && ix < size.width && iy >= 0 && iy < size.height;
    return select(inside, likely(image(clamp(ix, 0, size.width - 1), clamp(iy, 0, size.height - 1), ci)), 0.0F);
}

/// A part of a stem whose pooled output is still to be defined.
Stem::Part convolved(const Stem &f, const std::string &name, const WindowLayout &layout, const ChannelPart &part,
                     bool pool, const Blob &blob, const Image &image, const Epilogue &epilogue,
                     const std::vector<Var> &group) {
    const size_t number = f.parts.size();
    Func sum(part_name(name + "_sum", number)), conv(part_name(name + "_conv", number)), out(part_name(name, number));
    const std::vector<Var> at = with_group<Var>({f.c, f.x, f.y}, group);
    const RDom &tap = f.tap;
    sum(at) = blob(layout.bias + part.first + f.c);
    const Expr weight = packed(part, f.c, layout.vec, (tap.z * 3 + tap.y) * 3 + tap.x, layout.taps);
    sum(at) += blob(layout.weights + weight) * padded(image, f.in, f.x * 2 + tap.x - 1, f.y * 2 + tap.y - 1, tap.z);
    const Expr value = epilogue(sum(at), part.first + f.c, f.y * f.conv_size.width + f.x);
    conv(at) = pool ? reinterpret<float>(magnitude_bits(value)) : value;
    return {part, sum, conv, out};
}

}  // namespace

Stem stem(const std::string &name, const WindowLayout &layout, const std::vector<ChannelPart> &parts, Size in_size,
          bool pool, const Blob &blob, const Image &image, Var c, Var x, Var y, Var p, const Epilogue &epilogue,
          const std::vector<Var> &group) {
    const Size half = halved(in_size);
    const Size out_size = pool ? halved(half) : half;
    Stem f{c, x, y, p, in_size, half, out_size, RDom({{0, 3}, {0, 3}, {0, 3}}, "tap"), {}};
    for (const ChannelPart &channels : parts) {
        Stem::Part part = convolved(f, name, layout, channels, pool, blob, image, epilogue, {});
        // Values are not negative, so repeating an edge value is as good as padding.
        const auto repeated = [&](const Expr &cx, const Expr &cy) {
            return part.conv(c, likely(clamp(cx, 0, half.width - 1)), likely(clamp(cy, 0, half.height - 1)));
        };
        part.out(with_group<Var>({c, p}, group)) = pool ? pooled(repeated, p % out_size.width, p / out_size.width)
                                                        : Expr(part.conv(c, p % half.width, p / half.width));
        f.parts.push_back(part);
    }
    return f;
}

Stem stem_rows(const std::string &name, const WindowLayout &layout, const std::vector<ChannelPart> &parts, Size in_size,
               const Blob &blob, const Image &image, Var c, Var x, Var y, Var p, const std::vector<Var> &group) {
    const Size half = halved(in_size);
    Stem f{c, x, y, p, in_size, half, halved(half), RDom({{0, 3}, {0, 3}, {0, 3}}, "tap"), {}};
    for (const ChannelPart &channels : parts) {
        Stem::Part part = convolved(f, name, layout, channels, true, blob, image, relu, group);
        // Values are not negative, so 0 is as good as padding.
        const auto masked = [&](const Expr &cx, const Expr &cy) {
            const Expr inside = cx >= 0 && cx < half.width && cy >= 0 && cy < half.height;
            return select(inside, part.conv(with_group<Expr>({c, cx, cy}, group)), 0.0F);
        };
        part.out(with_group<Var>({c, x, y}, group)) = pooled(masked, x, y);
        f.parts.push_back(part);
    }
    return f;
}

Depthwise pool(const std::string &name, WindowKind kind, int lanes, const std::vector<ChannelPart> &parts, Size in_size,
               int stride, int window, const std::vector<Activation> &in, Var c, Var x, Var y, Var p) {
    const Size out_size = stride == 2 ? halved(in_size) : in_size;
    Depthwise f{window_layout(0, 0, lanes, kPanelFloats), in_size, out_size, stride, {}};
    for (const ChannelPart &part : parts) {
        const size_t number = f.parts.size();
        // The window's own centre is never beyond the border.
        Expr best = in[number](c, y * stride * in_size.width + x * stride);
        Expr total = 0.0F, count = 0;
        const auto visit = [&](int, const Expr &inside, const Expr &ix, const Expr &iy) {
            const Expr value = likely(in[number](c, nearest(in_size, ix, iy)));
            // The nearest pixel is within the window too.
            best = max_or_nan(best, value);
            total += select(inside, value, 0.0F);
            count += select(inside, 1, 0);
        };
        for_each_tap(in_size, out_size, stride, window, x, y, visit);
        const Expr value = kind == WindowKind::kMax ? best : total / Halide::cast<float>(count);
        f.parts.push_back(window_part(part_name(name, number), part, value, out_size, c, x, y, p, {}));
    }
    return f;
}

Convolution convolution(const std::string &name, const PointwiseLayout &layout, const std::vector<ChannelPart> &parts,
                        int in_channels, int in_lanes, Size in_size, int window, int stride, const Blob &blob,
                        const Activation &in, Var c, Var x, Var y, Var p, const Epilogue &epilogue) {
    const int padding = window / 2;
    const Size out_size{(in_size.height - 1) / stride + 1, (in_size.width - 1) / stride + 1};
    Convolution f{layout,
                  in_lanes,
                  out_size,
                  Func(name + "_padded"),
                  RDom({{0, in_channels}, {0, window}, {0, window}}, name + "_tap"),
                  {}};
    const Expr iy = y - padding, ix = x - padding;
    const Expr pixel = clamp(iy, 0, in_size.height - 1) * in_size.width + clamp(ix, 0, in_size.width - 1);
    const Expr inside = iy >= 0 && iy < in_size.height && ix >= 0 && ix < in_size.width;
    f.padded(c, x, y) = select(inside, likely(in(c, pixel)), 0.0F);
    for (const ChannelPart &part : parts) {
        const std::string id = part_name(name, f.parts.size());
        Func sum(id + "_sum"), rows(id + "_rows"), out(id);
        const Expr row = (f.tap.z * window + f.tap.y) * in_channels + f.tap.x;
        sum(c, x, y) = blob(layout.bias + part.first + c);
        sum(c, x, y) += blob(layout.weights + packed(part, c, layout.vec, row, layout.k)) *
                        f.padded(f.tap.x, x * stride + f.tap.y, y * stride + f.tap.z);
        rows(c, x, y) = epilogue(sum(c, x, y), part.first + c, y * out_size.width + x);
        out(c, p) = rows(c, p % out_size.width, p / out_size.width);
        f.parts.push_back({part, sum, rows, out});
    }
    return f;
}

std::vector<Summands> Depthwise::summands(int channels, bool lane_operands) const {
    std::vector<Summands> all;
    for (const Part &part : parts) {
        const int count = std::min(part.channels.lanes, channels - part.channels.first);
        const Gather read = [out = part.out, dimension = group](const Expr &entry, const Expr &lanes,
                                                                const Expr &pixel) {
            return out(with_group<Expr>({entry + lanes, pixel}, dimension));
        };
        for (Summands &some : gathered(count, count / kFour, lane_operands, read)) all.push_back(std::move(some));
    }
    return all;
}

}  // namespace shufflenet::generators
