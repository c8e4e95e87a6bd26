// Layer functions: what each layer computes, as plain Funcs over (c, p): stored channel lane and pixel (row-major).
//
// A layer's output channels come in one or two parts, each with its own vector length (channel_parts() in
// networks/layout.h) and its own Funcs, in which c counts from the part's first lane.
#pragma once

#include <functional>

#include "halide_compat.h"
#include "layout.h"

namespace shufflenet::generators {

using Halide::Expr;
using Halide::Func;
using Halide::RDom;
using Halide::Var;

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

/// Index, within a blob's weights[lanes / vec][rows][vec], of row `row` at lane `c` of a part.
Expr packed(const ChannelPart &part, const Expr &c, int vec, const Expr &row, int rows);

/// Adds the values of all pixels to zero, one after another: a compiler may not add in another order, which would
/// depend on the schedule.
void sum_pixels(Func total, Var c, const Expr &value);

/// A value, or the bound that it is beyond. What is not a number stays that.
Expr at_least(const Expr &value, float bound);
Expr at_most(const Expr &value, float bound);

/// What a convolution's sum becomes at (lane, pixel).
using Epilogue = std::function<Expr(Expr sum, Expr lane, Expr pixel)>;
Expr relu(Expr sum, Expr lane, Expr pixel);
Expr linear(Expr sum, Expr lane, Expr pixel);

/// A 1x1 convolution. `sum` starts from the bias and has one update for each group of summands; `out` applies the
/// epilogue.
struct Pointwise {
    struct Part {
        ChannelPart channels;
        std::vector<Func> in;  ///< (k, p): the summands of each group.
        Func sum, out;
    };
    /// Of a group convolution: of one group.
    PointwiseLayout layout;
    int pixels;
    std::vector<RDom> k;            ///< Of each group of summands.
    std::vector<int> side_by_side;  ///< Of each group: see Summands.
    std::vector<Part> parts;
    Parameter blob;          ///< The packed weights' buffer.
    bool shuffled = false;   ///< Whether `out` has two lanes for each channel: see shuffle_with().
    std::vector<Var> group;  ///< Further dimensions, of groups or images; or nothing.
};

/// `group`: further dimensions of all Funcs, the last, which `blob`, `in` and `epilogue` may depend on; or nothing.
Pointwise pointwise(const std::string &name, const PointwiseLayout &layout, const std::vector<ChannelPart> &parts,
                    int pixels, const Blob &blob, const std::vector<Summands> &in, Var c, Var p,
                    const Epilogue &epilogue = relu, const std::vector<Var> &group = {});

/// Concat with as many channels of `other`, and channel shuffle: lane 2i of `out` is other(i), lane 2i + 1 the
/// convolution's channel i.
void shuffle_with(Pointwise &f, const Activation &other, Var c, Var p);

/// Whether input coordinate `at`, reached with tap `tap` of a `window` wide window with padding window / 2, is in
/// [0, size); constant true where the shapes make it so.
Expr in_range(const Expr &at, int tap, int size, int out_size, int stride, int window = 3);

/// What a window does with the channel below it.
enum class WindowKind { kDepthwise, kMax, kMean };

/// A depthwise convolution, or a pool, with a square window and padding: 3x3 by default.
struct Depthwise {
    struct Part {
        ChannelPart channels;
        Func rows;  ///< (c, x, y): rows and columns apart, so that borders fold to constants.
        Func out;   ///< (c, p): the same, as the pointwise convolution reads it.
    };
    WindowLayout layout;
    Size in_size, out_size;
    int stride;
    std::vector<Part> parts;
    int groups = 0;               ///< Extent of the dimension of groups; 0: there is none.
    std::vector<Var> group = {};  ///< As of Pointwise.

    /// What a pointwise convolution sums over: `channels` of the parts, in groups of fours and of what is left for a
    /// machine with lane operands.
    std::vector<Summands> summands(int channels, bool lane_operands) const;
};

/// `in[i]` reads what part i is computed from. Without ReLU, as torchvision's units of ShuffleNetV2, if nothing else is
/// said. `group`: as of pointwise().
Depthwise depthwise(const std::string &name, const WindowLayout &layout, const std::vector<ChannelPart> &parts,
                    Size in_size, int stride, const Blob &blob, const std::vector<Activation> &in, Var c, Var x, Var y,
                    Var p, const Epilogue &epilogue = linear, const std::vector<Var> &group = {}, int window = 3);

/// Reads a tensor at (lane, x, y).
using Window = std::function<Expr(Expr, Expr, Expr)>;

/// One output of a 3x3 depthwise convolution: the part's lane `c` at (x, y). `in` is read at coordinates which are as
/// far out of the image as a window reaches; what it reads there does not count.
Expr depthwise_sum(const WindowLayout &layout, const ChannelPart &part, Size in_size, int stride, const Blob &blob,
                   const Window &in, Var c, Var x, Var y);

/// The 3x3 average with stride 2, padding counted as zeros, as a depthwise convolution; of `layout` only its lanes
/// count.
Depthwise average_pool(const std::string &name, const WindowLayout &layout, Size in_size, const Activation &in, Var c,
                       Var x, Var y, Var p, const std::vector<Var> &group);

/// A 3x3 stride-2 convolution over an image of three channels, and a 3x3 stride-2 max-pool or nothing.
struct Stem {
    struct Part {
        ChannelPart channels;
        Func sum;   ///< (c, x, y): the convolution's accumulator.
        Func conv;  ///< (c, x, y), with the epilogue; where a pool follows without a sign, for zeros have one, too.
        Func out;   ///< (c, p)
    };
    Var c, x, y, p;
    Size in, conv_size, out_size;
    RDom tap;  ///< (kx, ky, ci)
    std::vector<Part> parts;
};

/// Reads an image at (x, y, channel), all within it.
using Image = std::function<Expr(Expr, Expr, Expr)>;

/// With a max-pool, values after the epilogue must not be negative. `group`: as of pointwise(), of `out` alone.
Stem stem(const std::string &name, const WindowLayout &layout, const std::vector<ChannelPart> &parts, Size in_size,
          bool pool, const Blob &blob, const Image &image, Var c, Var x, Var y, Var p, const Epilogue &epilogue = relu,
          const std::vector<Var> &group = {});

/// The stem of many images, with ReLU and a max-pool; rows and columns are apart: `out` is (c, x, y, group). Where a
/// window of the pool is beyond the border `conv` is not clamped but masked: bounds are then the same for every row.
Stem stem_rows(const std::string &name, const WindowLayout &layout, const std::vector<ChannelPart> &parts, Size in_size,
               const Blob &blob, const Image &image, Var c, Var x, Var y, Var p, const std::vector<Var> &group);

/// A pool in the shape of a depthwise convolution; a mean leaves out what is beyond the border.
Depthwise pool(const std::string &name, WindowKind kind, int lanes, const std::vector<ChannelPart> &parts, Size in_size,
               int stride, int window, const std::vector<Activation> &in, Var c, Var x, Var y, Var p);

/// A dense convolution with a square window and padding, over a copy of its input that has zeros around it.
struct Convolution {
    struct Part {
        ChannelPart channels;
        Func sum;   ///< (c, x, y)
        Func rows;  ///< (c, x, y)
        Func out;   ///< (c, p): the same.
    };
    PointwiseLayout layout;  ///< Its summands are (ky, kx, ci).
    int in_lanes;            ///< That the input has, a whole number of vectors.
    Size out_size;
    Func padded;  ///< (ci, x, y)
    RDom tap;     ///< (ci, kx, ky)
    std::vector<Part> parts;
};

Convolution convolution(const std::string &name, const PointwiseLayout &layout, const std::vector<ChannelPart> &parts,
                        int in_channels, int in_lanes, Size in_size, int window, int stride, const Blob &blob,
                        const Activation &in, Var c, Var x, Var y, Var p, const Epilogue &epilogue);

}  // namespace shufflenet::generators
