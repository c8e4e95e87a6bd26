#include "layers.h"

namespace shufflenet::generators {

using Halide::clamp;
using Halide::likely;
using Halide::max;
using Halide::select;

namespace {

std::string part_name(const std::string &name, size_t part) { return part == 0 ? name : name + "_tail"; }

}  // namespace

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
                    int pixels, const Blob &blob, const std::vector<Summands> &in, Var c, Var p) {
    Pointwise f{layout, pixels, {}, {}, {}, buffer_of(blob)};
    for (const Summands &group : in) {
        f.k.emplace_back(0, group.count, name + "_k" + std::to_string(f.k.size()));
        f.side_by_side.push_back(group.side_by_side);
    }
    Var k("k");
    for (const ChannelPart &part : parts) {
        const std::string id = part_name(name, f.parts.size());
        Func sum(id + "_sum"), out(id);
        std::vector<Func> operands;
        sum(c, p) = blob(layout.bias + part.first + c);
        int first = 0;
        for (size_t i = 0; i < in.size(); ++i) {
            const Expr weight = blob(layout.weights + packed(part, c, layout.vec, first + f.k[i], layout.k));
            Func operand(id + "_in" + std::to_string(i));
            operand(k, p) = in[i].at(k, p);
            sum(c, p) += weight * operand(f.k[i], p);
            operands.push_back(operand);
            first += in[i].count;
        }
        out(c, p) = max(sum(c, p), 0.0F);
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

Expr in_range(const Expr &at, int tap, int size, int out_size, int stride) {
    Expr inside = Halide::Internal::const_true();
    if (tap == 0) inside = inside && at >= 0;
    if (tap == 2 && (out_size - 1) * stride + 1 >= size) inside = inside && at < size;
    return inside;
}

Depthwise depthwise(const std::string &name, const WindowLayout &layout, const std::vector<ChannelPart> &parts,
                    Size in_size, int stride, const Blob &blob, const std::vector<Activation> &in, Var c, Var x, Var y,
                    Var p) {
    const Size out_size = stride == 2 ? halved(in_size) : in_size;
    Depthwise f{layout, in_size, out_size, stride, {}};
    for (const ChannelPart &part : parts) {
        const size_t number = f.parts.size();
        Func rows(part_name(name, number) + "_rows"), out(part_name(name, number));
        Expr sum = blob(layout.bias + part.first + c);
        for (int ky = 0; ky < 3; ++ky) {
            for (int kx = 0; kx < 3; ++kx) {
                const Expr iy = y * stride + ky - 1;
                const Expr ix = x * stride + kx - 1;
                const Expr inside = in_range(iy, ky, in_size.height, out_size.height, stride) &&
                                    in_range(ix, kx, in_size.width, out_size.width, stride);
                const Expr pixel = clamp(iy, 0, in_size.height - 1) * in_size.width + clamp(ix, 0, in_size.width - 1);
                const Expr weight = blob(layout.weights + packed(part, c, layout.vec, ky * 3 + kx, layout.taps));
                sum += weight * select(inside, likely(in[number](c, pixel)), 0.0F);
            }
        }
        rows(c, x, y) = sum;
        out(c, p) = rows(c, p % out_size.width, p / out_size.width);
        f.parts.push_back({part, rows, out});
    }
    return f;
}

std::vector<Summands> Depthwise::summands(int channels, bool lane_operands) const {
    std::vector<Summands> groups;
    for (const Part &part : parts) {
        const int count = std::min(part.channels.lanes, channels - part.channels.first);
        const Gather read = [out = part.out](const Expr &entry, const Expr &lanes, const Expr &pixel) {
            return out(entry + lanes, pixel);
        };
        for (Summands &group : gathered(count, count / kFour, lane_operands, read)) groups.push_back(std::move(group));
    }
    return groups;
}

}  // namespace shufflenet::generators
