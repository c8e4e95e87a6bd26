// What an ONNX graph computes, found by running it on names instead of numbers.
//
// A tensor of activations is an array of channels, each known by the layer that made it; its height and width are one
// opaque axis. Splitting, shuffling and concatenating only move names, so any way of writing them (Reshape and
// Transpose, Slice, Gather, with shapes that are constants or computed) gives the same networks::Graph: for every layer
// which channels of which layers it reads, in which order.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "array.h"
#include "file_layer.h"
#include "networks/graph.h"
#include "node.h"

namespace shufflenet::imports {

/// What has been applied to a channel since its layer's sum of products: a set of bits, and above them the number of an
/// activation.
enum Applied { kBias = 1, kNorm = 2, kActivated = 4 };

/// A channel of one image of the batch.
struct TracedChannel {
    int image;
    networks::Channel of;
    int applied;
    bool operator==(const TracedChannel &) const = default;
};

/// Which axes a tensor of activations has behind those of `channels`.
enum class Plane { kNone, kFlat, kHeightWidth };

/// Zeros around an image that the next layer counts as its own padding.
struct Pads {
    int top = 0, left = 0, bottom = 0, right = 0;
    bool operator==(const Pads &) const = default;
    bool any() const { return *this != Pads{}; }
};

struct Activations {
    Array<TracedChannel> channels;
    Plane plane = Plane::kNone;
    Size size{1, 1};
    /// Where the tensor's axes are, in its order, counted as above: 0, 3, 2, 1 where columns come before rows and
    /// channels. Empty: as they are.
    std::vector<size_t> order{};
    Pads pads{};

    /// Axes behind those of channels.
    size_t pixel_axes() const { return plane == Plane::kNone ? 0 : plane == Plane::kFlat ? 1 : 2; }
    size_t rank() const { return channels.dims.size() + pixel_axes(); }
    /// Which of the axes above an axis of the tensor is.
    size_t own_axis(size_t axis) const { return order.empty() ? axis : order[axis]; }

    /// The shape as the graph sees it.
    Dims dims() const;
};

/// A value of the graph. Constants are numbers.
using Value = std::variant<Array<int64_t>, Array<float>, Activations>;
using ValuePtr = std::shared_ptr<const Value>;

struct Trace {
    std::string input;
    int64_t batch = 0;         ///< 0: any.
    std::optional<Size> size;  ///< Of the input; nothing: any.
    bool half = true;          ///< All weights are FLOAT16.
    /// The layers, in an order in which they can run, without names; and the file's outputs that are (N, C) or
    /// (N, C, H, W) as layers make them.
    networks::Graph graph;
    std::vector<FileLayer> layers;          ///< One for each of the graph's.
    std::vector<networks::Output> tensors;  ///< All (N, C, H, W) that are there while the graph runs.
};

/// The operator sets whose nodes are known here.
inline constexpr int64_t kOldestOpset = 7, kNewestOpset = 25;

/// Runs a graph of operator set `opset`; where its input may have any size it is run at `assumed`. Throws a Refusal
/// that names the node that is none of ShuffleNetV2's; `out` has the layers that came before it.
void trace_graph(const onnx::GraphProto &graph, int64_t opset, Size assumed, Trace *out);

}  // namespace shufflenet::imports
