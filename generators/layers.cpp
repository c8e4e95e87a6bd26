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

constexpr uint32_t kMagnitude = 0x7FFFFFFF, kInfinity = 0x7F800000;

/// The bits of a float without its sign. Of values that are not negative (-0 is none) they are in the values' order,
/// and what is not a number is beyond infinity.
Expr magnitude_bits(const Expr &value) { return reinterpret<uint32_t>(value) & Expr(kMagnitude); }

}  // namespace

void sum_pixels(Func total, const std::vector<Var> &at, const Expr &value) {
    total(at) = 0.0F;
    total(at) = strict_float(total(at) + value);
}

// select() in this order, and strict: x86's maxps and minps then have the value as the operand that they return where
// the comparison fails, and ARM's fmax and fmin never lose it. max() would leave the order to the compiler.
Expr at_least(const Expr &value, float bound) { return strict_float(select(value < bound, bound, value)); }
Expr at_most(const Expr &value, float bound) { return strict_float(select(value > bound, bound, value)); }

Expr exp_or_nan(const Expr &value) {
    return select(magnitude_bits(value) > Expr(kInfinity), value, Halide::exp(value));
}

Expr activated(const Expr &value, const networks::Activation &activation) {
    using Kind = networks::Activation::Kind;
    constexpr float kSix = 6.0F;
    switch (activation.kind) {
    case Kind::kRelu:
        return at_least(value, 0.0F);
    case Kind::kRelu6:
        return at_most(at_least(value, 0.0F), kSix);
    case Kind::kLeakyRelu:
        return strict_float(select(value < 0.0F, value * activation.slope, value));
    case Kind::kSigmoid:
        return 1.0F / (1.0F + exp_or_nan(-value));
    case Kind::kNone:
        break;
    }
    return value;
}

Epilogue epilogue(const networks::Activation &activation) {
    return [activation](const Expr &sum, const Expr &, const Expr &) { return activated(sum, activation); };
}

Expr linear(Expr sum, Expr /*lane*/, Expr /*pixel*/) { return sum; }

Parameter buffer_of(const Blob &blob) {
    using Halide::Internal::Call;
    // A generator's input is a Func around its buffer.
    const Call *through = blob(0).as<Call>();
    return Halide::Internal::Function(through->func).values()[0].as<Call>()->param;
}

Expr weight_at(const Blob &blob, const WeightLayout &layout, const ChannelPart &part, const Expr &c, const Expr &row) {
    const int panel = layout.panel;
    // A part within one panel needs no division by it.
    const Expr at = part.lanes <= panel ? (part.first / panel * layout.rows + row) * panel + c
                                        : ((part.first / panel + c / panel) * layout.rows + row) * panel + c % panel;
    return blob(layout.weights + at);
}

Func in_planes(const Func &out, Var p, const PlaneVars &planes, const std::vector<Var> &group) {
    const auto &[lane, plane, number] = planes;
    Func stored(out.name() + "_planes");
    std::vector<Expr> at = {plane * kPlane + lane, p};
    if (!group.empty()) at.emplace_back(number);
    stored(lane, p, plane, number) = out(at);
    return stored;
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

Pointwise pointwise(const std::string &name, const WeightLayout &layout, const std::vector<ChannelPart> &parts,
                    int pixels, const Blob &blob, const std::vector<Summands> &in, Var c, Var p,
                    const Epilogue &epilogue, const std::vector<Var> &group) {
    Pointwise f{layout, pixels, {}, {}, {}, buffer_of(blob), group};
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
            const Expr weight = weight_at(blob, layout, part, c, first + f.k[i]);
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

namespace {

/// Whether input coordinate `at`, reached with tap `tap` of a window, is in [0, size); constant true where the shapes
/// make it so.
Expr in_range(const Expr &at, int tap, int padding, int size, int out_size, int stride) {
    Expr inside = Halide::Internal::const_true();
    if (tap < padding) inside = inside && at >= 0;
    if ((out_size - 1) * stride + tap - padding >= size) inside = inside && at < size;
    return inside;
}

/// Calls visit(tap, whether the input has its pixel, the pixel's x and y) for every tap of a window over output (x, y).
template <typename Visit>
void for_each_tap(Size in, Size out, const networks::Window &w, Var x, Var y, Visit visit) {
    for (int ky = 0; ky < w.kernel.height; ++ky) {
        for (int kx = 0; kx < w.kernel.width; ++kx) {
            const Expr iy = y * w.stride.height + ky - w.padding.height;
            const Expr ix = x * w.stride.width + kx - w.padding.width;
            const Expr inside = in_range(iy, ky, w.padding.height, in.height, out.height, w.stride.height) &&
                                in_range(ix, kx, w.padding.width, in.width, out.width, w.stride.width);
            visit(ky * w.kernel.width + kx, inside, ix, iy);
        }
    }
}

/// The pixel of an image that is nearest to (x, y).
Expr nearest(Size size, const Expr &x, const Expr &y) {
    return clamp(y, 0, size.height - 1) * size.width + clamp(x, 0, size.width - 1);
}

/// The sum over a window, from `start`; `weight` is asked for each tap.
Expr window_sum(Expr start, const std::function<Expr(int tap)> &weight, const Activation &in, Size in_size,
                Size out_size, const networks::Window &window, Var c, Var x, Var y) {
    Expr sum = std::move(start);
    for_each_tap(in_size, out_size, window, x, y, [&](int tap, const Expr &inside, const Expr &ix, const Expr &iy) {
        // The nearest pixel where a window is beyond the border.
        sum += weight(tap) * select(inside, likely(in(c, nearest(in_size, ix, iy))), 0.0F);
    });
    return sum;
}

/// Adds a part whose value at (c, x, y) is `value`, before the epilogue.
void add_part(Depthwise &f, const std::string &name, const ChannelPart &part, const Expr &value, Var c, Var x, Var y,
              Var p, const Epilogue &epilogue) {
    const std::string id = part_name(name, f.parts.size());
    Func rows(id + "_rows"), out(id);
    rows(with_group<Var>({c, x, y}, f.group)) = value;
    // Not in `rows`: what is strict in an epilogue would take the sum in, and its multiply-adds apart.
    const int width = f.out_size.width;
    const Expr sum = rows(with_group<Expr>({c, p % width, p / width}, f.group));
    out(with_group<Var>({c, p}, f.group)) = epilogue(sum, part.first + c, p);
    f.parts.push_back({part, rows, out});
}

/// A pool of so many lanes without parts.
Depthwise pool_of(const std::vector<ChannelPart> &parts, Size in_size, const networks::Window &window) {
    const WeightLayout lanes{.lanes = parts.back().first + parts.back().lanes};
    return {lanes, in_size, networks::window_size(window, in_size), window, {}};
}

}  // namespace

Depthwise depthwise(const std::string &name, const WeightLayout &layout, const std::vector<ChannelPart> &parts,
                    Size in_size, const networks::Window &window, const Blob &blob, const std::vector<Activation> &in,
                    Var c, Var x, Var y, Var p, const Epilogue &epilogue, const std::vector<Var> &group) {
    Depthwise f{layout, in_size, networks::window_size(window, in_size), window, {}, 1, group};
    for (const ChannelPart &part : parts) {
        const auto weight = [&](int tap) { return weight_at(blob, layout, part, c, tap); };
        const Expr sum = window_sum(blob(layout.bias + part.first + c), weight, in[f.parts.size()], in_size, f.out_size,
                                    window, c, x, y);
        add_part(f, name, part, sum, c, x, y, p, epilogue);
    }
    return f;
}

namespace {

/// The greater of two floats, or the one that is not a number.
Expr max_or_nan(const Expr &a, const Expr &b) {
    return strict_float(select(b > a || magnitude_bits(b) > Expr(kInfinity), b, a));
}

/// The maximum over a window at (x, y) of what `at` reads, as `greater` has it.
Expr window_maximum(const networks::Window &w, const Expr &x, const Expr &y, const std::function<Expr(Expr, Expr)> &at,
                    const std::function<Expr(Expr, Expr)> &greater) {
    Expr best;
    for (int ky = 0; ky < w.kernel.height; ++ky) {
        for (int kx = 0; kx < w.kernel.width; ++kx) {
            const Expr ix = x * w.stride.width + kx - w.padding.width, iy = y * w.stride.height + ky - w.padding.height;
            const Expr value = at(ix, iy);
            best = best.defined() ? greater(best, value) : value;
        }
    }
    return best;
}

/// A stem's max-pool at (x, y). As integers where magnitude_bits() made `conv`, because the maximum of two floats, one
/// of them not a number, takes more than one instruction.
Expr pooled(const networks::Window &window, const Expr &x, const Expr &y, bool bits,
            const std::function<Expr(Expr, Expr)> &conv) {
    if (!bits) return window_maximum(window, x, y, conv, max_or_nan);
    const auto at = [&](const Expr &ix, const Expr &iy) { return reinterpret<uint32_t>(conv(ix, iy)); };
    return reinterpret<float>(window_maximum(window, x, y, at, [](const Expr &a, const Expr &b) { return max(a, b); }));
}

Expr padded(const Image &image, Size size, const Expr &ix, const Expr &iy, const Expr &ci) {
    const Expr inside = ix >= 0 && ix < size.width && iy >= 0 && iy < size.height;
    return select(inside, likely(image(clamp(ix, 0, size.width - 1), clamp(iy, 0, size.height - 1), ci)), 0.0F);
}

/// A part of a stem whose output is still to be defined.
Stem::Part convolved(const Stem &f, const std::string &name, const WeightLayout &layout, const ChannelPart &part,
                     bool bits, const Blob &blob, const Image &image, const networks::Activation &activation) {
    const size_t number = f.parts.size();
    Func sum(part_name(name + "_sum", number)), conv(part_name(name + "_conv", number)), out(part_name(name, number));
    const auto &[kernel, stride, padding] = f.window;
    const RDom &tap = f.tap;
    const std::vector<Var> at = with_group<Var>({f.c, f.x, f.y}, f.group);
    sum(at) = blob(layout.bias + part.first + f.c);
    const Expr weight = weight_at(blob, layout, part, f.c, (tap.z * kernel.height + tap.y) * kernel.width + tap.x);
    sum(at) += weight * padded(image, f.in, f.x * stride.width + tap.x - padding.width,
                               f.y * stride.height + tap.y - padding.height, tap.z);
    const Expr value = activated(sum(at), activation);
    conv(at) = bits ? reinterpret<float>(magnitude_bits(value)) : value;
    return {part, sum, conv, out};
}

}  // namespace

Stem stem(const std::string &name, const WeightLayout &layout, const std::vector<ChannelPart> &parts,
          const networks::Kernel &kernel, const Blob &blob, const Image &image, Var c, Var x, Var y, Var p,
          const std::vector<Var> &group) {
    const networks::Window &w = kernel.window;
    const Size size = networks::window_size(w, kernel.in);
    const bool bits = kernel.pools() && kernel.activation.non_negative();
    Stem f{c,
           x,
           y,
           p,
           w,
           kernel.in,
           size,
           kernel.out,
           RDom({{0, w.kernel.width}, {0, w.kernel.height}, {0, kernel.in_channels}}, "tap"),
           {},
           kernel.pools() ? kernel.pool.kernel.height : 1,
           group};
    for (const ChannelPart &channels : parts) {
        Stem::Part part = convolved(f, name, layout, channels, bits, blob, image, kernel.activation);
        // Of a maximum, repeating an edge value is as good as leaving out what is beyond the edge.
        const auto repeated = [&](const Expr &cx, const Expr &cy) {
            return part.conv(with_group<Expr>(
                {c, likely(clamp(cx, 0, size.width - 1)), likely(clamp(cy, 0, size.height - 1))}, group));
        };
        const int width = f.out_size.width;
        part.out(with_group<Var>({c, p}, group)) =
            kernel.pools() ? pooled(kernel.pool, p % width, p / width, bits, repeated)
                           : Expr(part.conv(with_group<Expr>({c, p % width, p / width}, group)));
        f.parts.push_back(part);
    }
    return f;
}

Depthwise max_pool(const std::string &name, const std::vector<ChannelPart> &parts, Size in_size,
                   const networks::Window &window, const std::vector<Activation> &in, Var c, Var x, Var y, Var p,
                   const Epilogue &epilogue) {
    Depthwise f = pool_of(parts, in_size, window);
    for (const ChannelPart &part : parts) {
        // The nearest pixel is within the window too.
        const auto repeated = [&](const Expr &ix, const Expr &iy) {
            return likely(in[f.parts.size()](c, nearest(in_size, ix, iy)));
        };
        add_part(f, name, part, window_maximum(window, x, y, repeated, max_or_nan), c, x, y, p, epilogue);
    }
    return f;
}

Depthwise average_pool(const std::string &name, const std::vector<ChannelPart> &parts, Size in_size,
                       const networks::Window &window, bool counts_padding, const std::vector<Activation> &in, Var c,
                       Var x, Var y, Var p, const Epilogue &epilogue) {
    Depthwise f = pool_of(parts, in_size, window);
    const float share = 1.0F / static_cast<float>(window.kernel.pixels());
    Expr count = 0;
    for_each_tap(in_size, f.out_size, window, x, y,
                 [&](int, const Expr &inside, const Expr &, const Expr &) { count += select(inside, 1, 0); });
    for (const ChannelPart &part : parts) {
        const auto weight = [&](int) -> Expr { return counts_padding ? share : 1.0F; };
        const Expr sum = window_sum(0.0F, weight, in[f.parts.size()], in_size, f.out_size, window, c, x, y);
        add_part(f, name, part, counts_padding ? sum : sum / Halide::cast<float>(count), c, x, y, p, epilogue);
    }
    return f;
}

Convolution convolution(const std::string &name, const WeightLayout &layout, const std::vector<ChannelPart> &parts,
                        int in_channels, int in_lanes, Size in_size, const networks::Window &window, const Blob &blob,
                        const Activation &in, Var c, Var x, Var y, Var p, const Epilogue &epilogue) {
    const auto &[kernel, stride, padding] = window;
    const Size out_size = networks::window_size(window, in_size);
    Convolution f{layout,
                  in_lanes,
                  in_size,
                  out_size,
                  window,
                  Func(name + "_padded"),
                  RDom({{0, in_channels}, {0, kernel.width}, {0, kernel.height}}, name + "_tap"),
                  {}};
    const Expr iy = y - padding.height, ix = x - padding.width;
    const Expr inside = iy >= 0 && iy < in_size.height && ix >= 0 && ix < in_size.width;
    f.padded(c, x, y) = select(inside, likely(in(c, nearest(in_size, ix, iy))), 0.0F);
    for (const ChannelPart &part : parts) {
        const std::string id = part_name(name, f.parts.size());
        Func sum(id + "_sum"), rows(id + "_rows"), out(id);
        const Expr row = (f.tap.z * kernel.width + f.tap.y) * in_channels + f.tap.x;
        sum(c, x, y) = blob(layout.bias + part.first + c);
        sum(c, x, y) += weight_at(blob, layout, part, c, row) *
                        f.padded(f.tap.x, x * stride.width + f.tap.y, y * stride.height + f.tap.z);
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
