// Layer functions: what each layer computes, as plain Funcs over (c, p): stored channel lane and pixel (row-major).
//
// A layer's output channels come in one or two parts, each with its own vector length (channel_parts() in
// networks/panels.h) and its own Funcs, in which c counts from the part's first lane.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "generators/halide_compat.h"
#include "networks/kernel.h"

namespace shufflenet::generators {

using Halide::Expr;
using Halide::Func;
using Halide::RDom;
using Halide::Var;

/// Neighbours that one 128-bit vector holds: what a processor that multiplies by a lane of a vector wants to load.
inline constexpr int kFour = 4;

/// Reads the packed blob of one kernel.
using Blob = std::function<Expr(Expr)>;
/// Reads an activation at (channel, summand or lane; pixel).
using Activation = std::function<Expr(Expr, Expr)>;

/// The buffer that a blob's reads end in.
Parameter buffer_of(const Blob &blob);

/// Some of the summands of a 1x1 convolution, read at (index within these, pixel). `side_by_side` of them, starting at
/// every multiple of that, are neighbours in memory.
struct Summands {
    int count, side_by_side;
    Activation at;
};

/// Reads an activation at (table entry, lanes further; pixel).
using Gather = std::function<Expr(Expr, Expr, Expr)>;

/// Summands that are found through a table whose order starts with so many fours (summation_order()). A machine without
/// lane operands gains nothing from fours: one group.
std::vector<Summands> gathered(int count, int fours, bool lane_operands, const Gather &read);

/// Reads the weight of row `row` for lane `c` of a part.
Expr weight_at(const Blob &blob, const WeightLayout &layout, const ChannelPart &part, const Expr &c, const Expr &row);

/// Adds the values of all pixels to zero, one after another: a compiler may not add in another order, which would
/// depend on the schedule.
void sum_pixels(Func total, const std::vector<Var> &at, const Expr &value);

/// A value, or the bound that it is beyond. What is not a number stays that.
Expr at_least(const Expr &value, float bound);
Expr at_most(const Expr &value, float bound);

/// What a convolution's sum becomes at (lane, pixel).
using Epilogue = std::function<Expr(Expr sum, Expr lane, Expr pixel)>;
Expr linear(Expr sum, Expr lane, Expr pixel);
/// exp(value), or the value where it is not a number: exp() would make something of it.
Expr exp_or_nan(const Expr &value);

/// The activation of a value. What is not a number stays that.
Expr activated(const Expr &value, const networks::Activation &activation);
Epilogue epilogue(const networks::Activation &activation);

/// The dimensions of a tensor that is stored in planes: (lane within the plane, p, plane, group).
struct PlaneVars {
    Var lane{"lane"}, plane{"plane"}, group{"output_group"};
};

/// Replaces each part's output (c, p), or (c, p, group), by what is stored of it: (lane, p, plane, group).
template <typename Layer>
void store_in_planes(Layer &f, Var p, const std::vector<Var> &group = {});
Func in_planes(const Func &out, Var p, const PlaneVars &planes, const std::vector<Var> &group);

/// A 1x1 convolution. `sum` starts from the bias and has one update for each group of summands; `out` applies the
/// epilogue.
struct Pointwise {
    struct Part {
        ChannelPart channels;
        std::vector<Func> in;  ///< (k, p): the summands of each group.
        Func sum, out;
    };
    WeightLayout layout;
    int pixels;
    std::vector<RDom> k;            ///< Of each group of summands.
    std::vector<int> side_by_side;  ///< Of each group: see Summands.
    std::vector<Part> parts;
    Parameter blob;                        ///< The packed weights' buffer.
    std::vector<Var> group;                ///< Further dimensions, of groups or images; or nothing.
    std::optional<PlaneVars> planes = {};  ///< Of a kernel's output, which is stored().
};

/// `group`: further dimensions of all Funcs, the last, which `blob`, `in` and `epilogue` may depend on; or nothing.
Pointwise pointwise(const std::string &name, const WeightLayout &layout, const std::vector<ChannelPart> &parts,
                    int pixels, const Blob &blob, const std::vector<Summands> &in, Var c, Var p,
                    const Epilogue &epilogue, const std::vector<Var> &group = {});

/// A depthwise convolution, or a pool.
struct Depthwise {
    struct Part {
        ChannelPart channels;
        Func rows;  ///< (c, x, y): rows and columns apart, so that borders fold to constants.
        Func out;   ///< (c, p): the same, as the pointwise convolution reads it.
    };
    WeightLayout layout;  ///< Of a pool only its lanes.
    Size in_size, out_size;
    networks::Window window;
    std::vector<Part> parts;
    int groups = 1;
    std::vector<Var> group = {};           ///< As of Pointwise.
    std::optional<PlaneVars> planes = {};  ///< As of Pointwise.

    /// What a pointwise convolution sums over: `channels` of the parts, in groups of fours and of what is left for a
    /// machine with lane operands.
    std::vector<Summands> summands(int channels, bool lane_operands) const;
};

/// `in[i]` reads what part i is computed from. `group`: as of pointwise().
Depthwise depthwise(const std::string &name, const WeightLayout &layout, const std::vector<ChannelPart> &parts,
                    Size in_size, const networks::Window &window, const Blob &blob, const std::vector<Activation> &in,
                    Var c, Var x, Var y, Var p, const Epilogue &epilogue, const std::vector<Var> &group = {});

/// Pools in the shape of a depthwise convolution.
Depthwise max_pool(const std::string &name, const std::vector<ChannelPart> &parts, Size in_size,
                   const networks::Window &window, const std::vector<Activation> &in, Var c, Var x, Var y, Var p,
                   const Epilogue &epilogue);
/// `counts_padding`: the mean of a whole window, in which what is beyond the border is zero; otherwise that of what
/// lies within.
Depthwise average_pool(const std::string &name, const std::vector<ChannelPart> &parts, Size in_size,
                       const networks::Window &window, bool counts_padding, const std::vector<Activation> &in, Var c,
                       Var x, Var y, Var p, const Epilogue &epilogue);

/// A convolution of an image, and a max-pool or nothing.
struct Stem {
    struct Part {
        ChannelPart channels;
        Func sum;   ///< (c, x, y): the convolution's accumulator.
        Func conv;  ///< (c, x, y), with the epilogue; see stem().
        Func out;   ///< (c, p)
    };
    Var c, x, y, p;
    networks::Window window;
    Size in, conv_size, out_size;
    RDom tap;  ///< (kx, ky, ci)
    std::vector<Part> parts;
    int pool_rows = 1;                     ///< Rows of `conv` that a row of the output is computed from.
    std::vector<Var> group = {};           ///< As of Pointwise.
    std::optional<PlaneVars> planes = {};  ///< As of Pointwise.
};

/// Reads an image at (x, y, channel), all within it.
using Image = std::function<Expr(Expr, Expr, Expr)>;

/// What is not negative after `activation` is pooled as integers, without its sign, for zeros have one, too. `group`:
/// as of pointwise().
Stem stem(const std::string &name, const WeightLayout &layout, const std::vector<ChannelPart> &parts,
          const networks::Kernel &kernel, const Blob &blob, const Image &image, Var c, Var x, Var y, Var p,
          const std::vector<Var> &group = {});

/// A dense convolution, over a copy of its input that has zeros around it.
struct Convolution {
    struct Part {
        ChannelPart channels;
        Func sum;   ///< (c, x, y)
        Func rows;  ///< (c, x, y)
        Func out;   ///< (c, p): the same.
    };
    WeightLayout layout;  ///< Its summands are (ky, kx, ci).
    int in_lanes;         ///< That the input has, a whole number of vectors.
    Size in_size, out_size;
    networks::Window window;
    Func padded;  ///< (ci, x, y)
    RDom tap;     ///< (ci, kx, ky)
    std::vector<Part> parts;
    std::optional<PlaneVars> planes = {};  ///< As of Pointwise.
};

Convolution convolution(const std::string &name, const WeightLayout &layout, const std::vector<ChannelPart> &parts,
                        int in_channels, int in_lanes, Size in_size, const networks::Window &window, const Blob &blob,
                        const Activation &in, Var c, Var x, Var y, Var p, const Epilogue &epilogue);

template <typename Layer>
void store_in_planes(Layer &f, Var p, const std::vector<Var> &group) {
    f.planes.emplace();
    for (auto &part : f.parts) part.out = in_planes(part.out, p, *f.planes, group);
}

}  // namespace shufflenet::generators
