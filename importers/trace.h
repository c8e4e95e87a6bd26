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

/// What has been applied to a channel since its layer's sum of products, as a set of bits.
enum Applied { kBias = 1, kNorm = 2, kRelu = 4 };

/// A channel of one image of the batch.
struct TracedChannel {
    int image;
    networks::Channel of;
    int applied;
    bool operator==(const TracedChannel &) const = default;
};

/// Which axes a tensor of activations has behind those of `channels`.
enum class Plane { kNone, kFlat, kHeightWidth };

struct Activations {
    Array<TracedChannel> channels;
    Plane plane = Plane::kNone;
    Size size{1, 1};

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
inline constexpr int64_t kOldestOpset = 9, kNewestOpset = 22;

/// Runs a graph of operator set `opset`; where its input may have any size it is run at `assumed`. Throws a Refusal
/// that names the node that is none of ShuffleNetV2's; `out` has the layers that came before it.
void trace_graph(const onnx::GraphProto &graph, int64_t opset, Size assumed, Trace *out);

}  // namespace shufflenet::imports
