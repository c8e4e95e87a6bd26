// The program that follows from a graph: a constant list of kernel calls over one arena. Everything is resolved: the
// runtime, on whatever machine, walks it and knows no network.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernel.h"

namespace shufflenet::networks {

/// Where a call writes.
enum class Destination : uint8_t {
    kArena,  ///< At `out` floats.
    kRow,    ///< The image's row of the input of the calls that are for a group of images.
    kOutput  ///< Straight to the caller's memory of output number `out`.
};

struct Call {
    std::string id;       ///< For messages and logs: "stage2_unit0_branch2".
    int kernel = 0;       ///< In Program::kernels.
    int table = 0;        ///< First entry in Program::tables, a whole number of lines.
    int64_t weights = 0;  ///< First float in the packed weights.
    Destination destination{};
    int out = 0;
    std::vector<int> layers{};  ///< Of the graph, in order.
};

/// How one layer's weights are packed: where each output channel and each summand go.
struct PackStep {
    int layer = 0;     ///< In the graph.
    int64_t blob = 0;  ///< First float of the kernel's blob in the packed weights; `layout` counts from there.
    WeightLayout layout;
    /// Of each output channel: group * layout.lanes + lane.
    std::vector<int> lanes;
    /// Of each group of the layer: the input channel of the group that is its i-th summand, group after group. Empty:
    /// in their own order. Rows of a convolution with a window are (ky, kx, summand), of a stem (summand, ky, kx).
    std::vector<int> order;
    bool taps_last = false;  ///< A stem's order of rows.
};

/// A value that a run returns.
struct ProgramOutput {
    std::string name;
    int channels = 0;
    Size size{};
    /// Of each channel: its offset in the arena at pixel 0; the next pixel is kPlane further. Empty: calls write it to
    /// the caller's memory, [image][channel].
    std::vector<int32_t> offsets;
};

struct Program {
    Graph graph;
    std::vector<Kernel> kernels;
    std::vector<Call> calls;
    int image_calls = 0;        ///< The first of the calls are for one image; the others for a group of images.
    int arena_floats = 0;       ///< Activations of one image.
    int row_floats = 0;         ///< Floats of a row: a whole number of lines. 0: there are no calls for groups.
    int64_t weight_floats = 0;  ///< Packed weights, those of a last linear layer as built.
    std::vector<int32_t> tables;
    std::vector<PackStep> packing;  ///< In the order of the graph's layers with weights.
    std::vector<ProgramOutput> outputs;

    /// What a plan is judged by.
    struct Copy {
        int call = 0;
        int64_t bytes = 0;
        std::string reason;
    };
    std::vector<Copy> copies;
    int64_t bytes_moved() const;
};

struct PlanOptions {
    /// Layers become one kernel where one computes them; otherwise each is a kernel of its own.
    bool fuse = true;
    /// A unit's first convolution is a kernel of its own: a device has more threads than a unit's rows would occupy.
    bool expand_apart = false;
    /// Of the last linear layer's weights: floats, or integers of 16 bits. It is bound by reading them.
    Element linear = Element::kF32;
};

/// Throws std::runtime_error, naming the layer, where a graph has what no kernel computes.
Program make_program(const Graph &graph, const PlanOptions &options = {});

}  // namespace shufflenet::networks
