// Layer functions: what each layer computes, as plain Funcs over (c, p): stored channel lane and pixel (row-major).
#pragma once

#include <Halide.h>

#include <functional>

#include "layout.h"

namespace shufflenet::generators {

using Halide::Expr;
using Halide::Func;
using Halide::RDom;
using Halide::Var;

/// Reads the packed blob of one kernel.
using Blob = std::function<Expr(Expr)>;
/// Reads an activation at (channel or summand, pixel).
using Activation = std::function<Expr(Expr, Expr)>;

/// A 1x1 convolution. `sum` accumulates over k (starting from the bias), `out` applies ReLU.
struct Pointwise {
    PointwiseLayout layout;
    int pixels;
    RDom k;
    Func sum, out;
};

Pointwise pointwise(const std::string &name, const PointwiseLayout &layout, int pixels, const Blob &blob,
                    const Activation &in, Var c, Var p);

/// Whether input coordinate `at`, reached with tap `tap` (0 to 2) of a 3-wide window with padding 1, is in [0, size);
/// constant true where the shapes make it so.
Expr in_range(const Expr &at, int tap, int size, int out_size, int stride);

/// A 3x3 depthwise convolution with padding 1, without ReLU (torchvision's units have none there).
struct Depthwise {
    WindowLayout layout;
    Size in_size, out_size;
    int stride;
    Func rows;  ///< (c, x, y): rows and columns apart, so that borders fold to constants.
    Func out;   ///< (c, p): the same, as the pointwise convolution reads it.
};

Depthwise depthwise(const std::string &name, const WindowLayout &layout, Size in, int stride, const Blob &blob,
                    const Activation &input, Var c, Var x, Var y, Var p);

}  // namespace shufflenet::generators
