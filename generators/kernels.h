// What each kernel hands to its schedule: a plain struct of named Funcs.
#pragma once

#include "layers.h"

namespace shufflenet::generators {

/// The stem: convolution over the NCHW image, max-pool.
struct Stem {
    struct Part {
        ChannelPart channels;
        Func sum;   ///< (c, x, y): the convolution's accumulator.
        Func conv;  ///< (c, x, y), ReLU applied.
        Func out;   ///< (c, p)
    };
    Var c, x, y, p;
    Size in, conv_size, out_size;
    RDom tap;  ///< (kx, ky, ci)
    std::vector<Part> parts;
};

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

}  // namespace shufflenet::generators
