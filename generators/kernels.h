// What each kernel hands to its schedule: a plain struct of named Funcs.
#pragma once

#include <variant>

#include "layers.h"

namespace shufflenet::generators {

/// Branch 2 of a unit: pw1, dw, pw2; the output is pw2's.
struct Branch2 {
    Var c, x, y, p;
    Pointwise pw1;
    Depthwise dw;
    Pointwise pw2;
};

/// Branch 1 of a downsampling unit: dw, pw.
struct Branch1 {
    Var c, x, y, p;
    Depthwise dw;
    Pointwise pw;
};

/// conv5 alone (features), or followed by the global average pool. One part.
struct Conv5 {
    Var c, p;
    Pointwise pw;
};
struct Conv5Pool {
    Var c, p;
    Pointwise pw;
    RDom pixel;
    Func total;  ///< (c): sum over pixels.
    Func out;    ///< (c): mean.
};

/// The 3x3 stride-2 average of a unit's shortcut: a depthwise convolution alone.
struct AveragePool {
    Var c, x, y, p;
    Depthwise dw;
};

/// The global average pool of a tensor whose lanes are whole panels of `vec`.
struct GlobalPool {
    Var c;
    int lanes, vec;
    RDom pixel;
    Func total, out;  ///< (c)
};

/// A 1x1 convolution alone: branch 2's first.
struct Expand {
    Var c, p;
    Pointwise pw;
};

/// The fully connected layer over a group of images: (class, image).
struct FullyConnected {
    Var c, n;
    PointwiseLayout layout;
    int vec;
    RDom k;
    Func sum, out;
    Parameter blob;  ///< The packed weights' buffer.
    Expr images;     ///< How many there are.
};

/// One layer in a kernel of its own.
struct SingleLayer {
    Var c, x, y, p;
    Size out_size;
    std::variant<Pointwise, Depthwise, Convolution> layer;
};

/// An operation that moves or changes elements one by one, in a kernel of its own: (i) or (c, p), vectors along the
/// first.
struct ElementWise {
    Var c, p;
    bool pixels;  ///< Whether there is a p.
    int extent;   ///< Of the first dimension.
    Func out;
};

/// A block as a graph of steps, in order of execution.
struct WholeBlock {
    struct Step {
        /// A Func alone is an element-wise operation: (c, p).
        std::variant<Pointwise, Depthwise, Convolution, Func> layer;
        ChannelPart channels;      ///< Of its output.
        Size size;                 ///< Of its output.
        std::vector<int> readers;  ///< Steps that read the output.
        bool window = false;       ///< Whether one of them reads through a window.
        bool stored = false;       ///< Whether the output is one of the kernel's.
    };
    Var c, x, y, p;
    std::vector<Step> steps;
};

}  // namespace shufflenet::generators
