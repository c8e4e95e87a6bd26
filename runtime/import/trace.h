// What an ONNX graph computes, found by running it on names instead of numbers.
//
// A tensor of activations is an array of channels, each known by the layer that made it; its height and width are one
// opaque axis. Splitting, shuffling and concatenating only move names, so any way of writing them (Reshape and
// Transpose, Slice, Gather, with shapes that are constants or computed) gives the same trace, and the trace tells for
// every convolution which channels of which layers it reads, in which order.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "array.h"
#include "canonical.h"
#include "networks/network.h"
#include "node.h"

namespace shufflenet::imports {

/// What has been applied to a channel since its layer's sum of products, as a set of bits.
enum Applied { kBias = 1, kNorm = 2, kRelu = 4 };

/// A channel of one image of the batch, as made by layers[layer]; kImage: the network's input.
struct Channel {
    int image, layer, channel, applied;
    bool operator==(const Channel &) const = default;
};

/// Which axes a tensor of activations has behind those of `channels`.
enum class Plane { kNone, kFlat, kHeightWidth };

struct Activations {
    Array<Channel> channels;
    Plane plane = Plane::kNone;
    Size size{1, 1};

    /// The shape as the graph sees it.
    Dims dims() const;
};

/// A value of the graph. Constants are numbers.
using Value = std::variant<Array<int64_t>, Array<float>, Activations>;
using ValuePtr = std::shared_ptr<const Value>;

/// A layer with weights, or a pool.
struct TracedLayer {
    enum class Kind { kConv, kMaxPool, kGlobalPool, kFullyConnected };
    Kind kind = Kind::kConv;
    std::string node;
    std::vector<Channel> inputs;  ///< Of the first image; the others' are the same.
    Size in{}, out{};
    Dims kernel, strides, dilations, pads;  ///< Of convolutions and max-pools; pads: top, left, bottom, right.
    int64_t groups = 1;
    int out_channels = 0;
    std::shared_ptr<const Array<float>> weight;  ///< (out, in / groups, ky, kx) or (out, in); nullptr: a pool.
    std::vector<float> bias;
    std::optional<Norm> norm;
    int applied = 0;  ///< Bias and norm by nodes of their own.
    bool is_read = false;
};

/// A tensor (N, C, H, W) that is there while the graph runs.
struct TracedTensor {
    std::string name;
    std::vector<Channel> channels;  ///< Of the first image.
    Size size;
};

struct TracedOutput {
    std::string name;
    Activations value;
};

struct Trace {
    std::string input;
    int64_t batch = 0;                ///< 0: any.
    std::optional<Size> size;         ///< Of the input; nothing: any.
    bool half = true;                 ///< All weights are FLOAT16.
    std::vector<TracedLayer> layers;  ///< In an order in which they can run.
    std::vector<TracedTensor> tensors;
    std::vector<TracedOutput> outputs;
};

/// The operator sets whose nodes are known here.
inline constexpr int64_t kOldestOpset = 9, kNewestOpset = 22;

/// Runs a graph of operator set `opset`; where its input may have any size it is run at `assumed`. Throws a Refusal
/// that names the node that is none of ShuffleNetV2's; `out` has what came before it.
void trace_graph(const onnx::GraphProto &graph, int64_t opset, Size assumed, Trace *out);

}  // namespace shufflenet::imports
