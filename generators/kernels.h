// What each kernel hands to its schedule: a plain struct of named Funcs.
#pragma once

#include <variant>

#include "layers.h"

namespace shufflenet::generators {

/// A unit: 1x1, depthwise and 1x1 convolution; the output is the last one's.
struct Unit {
    Var c, x, y, p;
    Pointwise pw1;
    Depthwise dw;
    Pointwise pw2;
};

/// A unit without its first convolution.
struct Separable {
    Var c, x, y, p;
    Depthwise dw;
    Pointwise pw;
};

/// A 1x1 convolution followed by the global average pool. One part.
struct PooledPointwise {
    Var c, p;
    Pointwise pw;
    RDom pixel;
    Func total;  ///< (c), or (c, group): sum over pixels.
    Func out;    ///< (lane, p, plane, group): mean.
    PlaneVars planes;
};

/// The global average pool of planes.
struct GlobalPool {
    PlaneVars planes;
    int count;  ///< Of planes.
    RDom pixel;
    Func total;  ///< (lane, plane)
    Func out;    ///< (lane, p, plane, group)
};

/// What is computed of planes element by element: (lane, p, plane, group).
struct PlaneByPlane {
    PlaneVars planes;
    Var p;
    Func out;
};

/// Softmax over the channels of each pixel.
struct Softmax {
    PlaneVars planes;
    Var c, p;
    RDom k;      ///< Lanes, those of whole planes.
    Func in;     ///< (lane, p): what is read; far below everything in lanes without a channel.
    Func most;   ///< (p)
    Func value;  ///< (lane, p): exp(in - most)
    Func sum;    ///< (p)
    Func out;    ///< (lane, p, plane, group)
};

/// The fully connected layer over a group of images: (class, image).
struct FullyConnected {
    Var c, n;
    WeightLayout layout;
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

}  // namespace shufflenet::generators
