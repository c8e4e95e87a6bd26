// A graph in naive double precision: plain loops over c, y, x, one image at a time. Everything else is compared with
// this, so it is written to be obviously right, and only as fast as that allows.
#pragma once

#include <span>
#include <vector>

#include "networks/graph.h"

namespace shufflenet::reference {

/// One image's activations, CHW.
struct Tensor {
    int channels = 0, height = 0, width = 0;
    std::vector<double> data;

    Tensor() = default;
    Tensor(int c, int h, int w) : channels(c), height(h), width(w), data(size_t(c) * h * w) {}

    int pixels() const { return height * width; }
    size_t index(int c, int y, int x) const { return (size_t(c) * height + y) * width + x; }
    double &at(int c, int y, int x) { return data[index(c, y, x)]; }
    double at(int c, int y, int x) const { return data[index(c, y, x)]; }
    bool inside(int y, int x) const { return 0 <= y && y < height && 0 <= x && x < width; }
    std::span<double> plane(int c) { return std::span(data).subspan(index(c, 0, 0), pixels()); }
    std::span<const double> plane(int c) const { return std::span(data).subspan(index(c, 0, 0), pixels()); }
};

/// Weights (out, in / groups, ky, kx) and bias (out) of one layer, batch normalisation folded in; empty for layers
/// without weights.
struct LayerWeights {
    std::vector<double> weights;
    std::vector<double> bias;
};

/// Of NaN, NaN.
double activate(double value, const networks::Activation &activation);

/// Pixels of a side that a resized image's pixel is made of, and how much the second one counts.
struct Neighbours {
    int first, second;
    double share;
};
Neighbours neighbours(const networks::Resize &resize, int in, int out, int x);

/// What each layer computes of an image, `chw`; `layers`: one element a layer of the graph.
std::vector<Tensor> run_layers(const networks::Graph &graph, std::span<const LayerWeights> layers,
                               std::span<const float> chw);

/// The outputs of a graph, in order.
std::vector<Tensor> run(const networks::Graph &graph, std::span<const LayerWeights> layers, std::span<const float> chw);

}  // namespace shufflenet::reference
