// How a graph becomes a program, step by step: layers are fused into nodes (fuse.cc), channels get places (slots.cc),
// planes get memory (memory.cc), and all of it is written down (program.cc).
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "program.h"

namespace shufflenet::networks {

/// What one call computes. Tensors are as in a graph, but a channel's layer is the number of a node.
struct Node {
    KernelKind kind{};
    std::vector<int> layers{};  ///< Of the graph, in order; of a copy none, if the graph has no such layer.
    /// What it reads: of a convolution or unit with a shortcut, and of an addition, the other operand is the second.
    std::vector<Tensor> in{};
    int out_channels = 0;
    Size out{};
    int groups = 1;        ///< Of the output channels, each in planes of its own.
    std::string reason{};  ///< Of a copy that the graph does not have: what made it necessary.

    /// Whether operand `number` is read in whole planes, and output j lies in the lane where its channel j lies.
    bool tied(int number) const {
        switch (kind) {
        case KernelKind::kDepthwise:
        case KernelKind::kMaxPool:
        case KernelKind::kAveragePool:
        case KernelKind::kGlobalPool:
        case KernelKind::kAdd:
        case KernelKind::kResize:
        case KernelKind::kActivation:
            return true;
        case KernelKind::kUnit:
        case KernelKind::kPointwise:
        case KernelKind::kConvolution:
            return number == 1;
        default:
            return false;
        }
    }
    /// Whether it can write its channels in any order.
    bool free() const { return !tied(0); }
    /// Whether a channel that it reads counts for it by its plane alone.
    bool reads_planes(int number, const Graph &graph) const {
        return tied(number) || (kind == KernelKind::kUnit && number == 0 && graph.layers[layers[0]].depthwise());
    }
};

/// Nodes in order of execution, and the outputs in their terms.
struct Nodes {
    std::vector<Node> nodes;
    std::vector<Tensor> outputs;
};

/// Throws std::runtime_error, naming the layer, where no kernel computes it.
Nodes fuse(const Graph &graph, const PlanOptions &options);

/// Where the channels of a node lie: lane `lane` of its output, counted over its planes, group after group.
struct Places {
    std::vector<std::vector<int>> lane;  ///< Of each node and output channel.
    std::vector<int> planes;             ///< Of each node: planes of one group.
    std::vector<int> lanes;              ///< Of each node: lanes of one group that are used, at least.
    /// Of each node and plane, the planes of its tied operands: (node, plane), one an operand. Empty where there is
    /// none.
    std::vector<std::vector<std::vector<std::pair<int, int>>>> operands;
};

/// Inserts copies into `nodes` where a channel cannot lie where all who read it want it.
Places place_channels(const Graph &graph, Nodes *nodes);

/// Offsets of each node's output in the arena, in floats, and the arena's size. `resident[i]`: whether node i's output
/// is in the arena at all.
struct Memory {
    std::vector<int> offset;
    int floats = 0;
};
Memory allocate(const Nodes &nodes, const Places &places, const std::vector<bool> &resident);

}  // namespace shufflenet::networks
