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

/// A 1x1 convolution. `sum` starts from the bias and has one update for each group of summands; `out` applies ReLU.
struct Pointwise {
    struct Part {
        ChannelPart channels;
        std::vector<Func> in;  ///< (k, p): the summands of each group.
        Func sum, out;
    };
    PointwiseLayout layout;
    int pixels;
    std::vector<RDom> k;            ///< Of each group of summands.
    std::vector<int> side_by_side;  ///< Of each group: see Summands.
    std::vector<Part> parts;
    Parameter blob;         ///< The packed weights' buffer.
    bool shuffled = false;  ///< Whether `out` has two lanes for each channel: see shuffle_with().
};

Pointwise pointwise(const std::string &name, const PointwiseLayout &layout, const std::vector<ChannelPart> &parts,
                    int pixels, const Blob &blob, const std::vector<Summands> &in, Var c, Var p);

/// Concat with as many channels of `other`, and channel shuffle: lane 2i of `out` is other(i), lane 2i + 1 the
/// convolution's channel i.
void shuffle_with(Pointwise &f, const Activation &other, Var c, Var p);

/// Whether input coordinate `at`, reached with tap `tap` (0 to 2) of a 3-wide window with padding 1, is in [0, size);
/// constant true where the shapes make it so.
Expr in_range(const Expr &at, int tap, int size, int out_size, int stride);

/// A 3x3 depthwise convolution with padding 1, without ReLU (torchvision's units have none there).
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

    /// What a pointwise convolution sums over: `channels` of the parts, in groups of fours and of what is left for a
    /// machine with lane operands.
    std::vector<Summands> summands(int channels, bool lane_operands) const;
};

/// `in[i]` reads what part i is computed from.
Depthwise depthwise(const std::string &name, const WindowLayout &layout, const std::vector<ChannelPart> &parts,
                    Size in_size, int stride, const Blob &blob, const std::vector<Activation> &in, Var c, Var x, Var y,
                    Var p);

}  // namespace shufflenet::generators
