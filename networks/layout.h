// The ABI between packer and kernels: packed weights, offset tables and the arena, in floats.
//
// Where things lie depends on the network, the input size and `vec`, the floats that lie side by side (a panel); not on
// the instruction set or on tuning. Generators index with these offsets, the runtime packs with them. Which lanes a
// kernel computes depends on the machine's vectors too.
//
// Activations are NHWC with the channels of a block padded to whole vectors ("lanes"); the padding holds zeros.
#pragma once

#include "network.h"
#include "panels.h"
#include "stage_plan.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// The stem's output channels, as its kernel computes them. Whole vectors are no faster here: 24 channels would be two.
constexpr std::vector<ChannelPart> stem_parts(const Network &n, int vec, VectorUnit machine) {
    return channel_parts(n.stem_channels, vec, machine.vec);
}

/// A tensor that is stored as blocks[block][pixel][lane]: a stage's buffer, or (one block) the stem's output.
struct BlockLayout {
    int vec, blocks, channels, pixels;
    constexpr int lanes() const { return round_up(channels, vec); }
    constexpr int block_stride() const { return round_up(lanes() * pixels, kLineFloats); }
    constexpr int size() const { return blocks * block_stride(); }
    /// Offset of a channel at pixel 0; the next pixel is lanes() further.
    constexpr int offset(Slot s) const { return s.block * block_stride() + s.index; }
};

constexpr BlockLayout stem_block(const Network &n, Size input, int vec) {
    return {vec, 1, n.stem_channels, stem_size(input).pixels()};
}

constexpr BlockLayout stage_block(const StageShape &s, int vec) {
    return {vec, s.units + 1, s.branch_channels, s.out.pixels()};
}

/// The tensor that a kernel reads: where it lies, which slot holds each channel, and how many fours its summation order
/// starts with.
struct StageInput {
    BlockLayout block;
    std::vector<Slot> slots;
    int fours;
    constexpr std::vector<int> order() const { return summation_order(slots, fours); }
};

constexpr StageInput stage_input(const Network &n, Size input, int number, int vec) {
    if (number == 2) return {stem_block(n, input, vec), dense_slots(n.stem_channels), n.stem_channels / kFour};
    const StageShape before = stage_shape(n, input, number - 1);
    const std::vector<Slot> slots = make_stage_plan(before.branch_channels, before.units).outputs;
    return {stage_block(before, vec), slots, count_fours(slots)};
}

/// Fours of the kernel of a stage's basic units: what every one of them has.
constexpr int basic_fours(const StagePlan &plan) {
    int fours = plan.branch_channels / kFour;
    for (int u = 1; u < plan.units; ++u) fours = std::min(fours, count_fours(plan.inputs[u]));
    return fours;
}

/// The tensor that conv5 reads: stage 4's output.
constexpr StageInput head_input(const Network &n, Size input, int vec) { return stage_input(n, input, 5, vec); }

/// Vectors of a block tensor that hold at least one of `slots`, as (block, first index), in memory order.
constexpr std::vector<Slot> live_vectors(const std::vector<Slot> &slots, int vec) {
    std::vector<Slot> vectors;
    for (const Slot &s : slots) vectors.push_back({s.block, s.index / vec * vec});
    std::sort(vectors.begin(), vectors.end());
    vectors.erase(std::unique(vectors.begin(), vectors.end()), vectors.end());
    return vectors;
}

/// Branch 2 of a unit: pointwise, depthwise (stride 1 or 2), pointwise.
struct Branch2Layout {
    PointwiseLayout pw1;
    WindowLayout dw;
    PointwiseLayout pw2;
    constexpr int size() const { return pw2.end(); }
};

constexpr Branch2Layout branch2_layout(int in_channels, int channels, int vec) {
    const PointwiseLayout pw1 = pointwise_layout(0, in_channels, channels, vec);
    const WindowLayout dw = window_layout(pw1.end(), kTaps, channels, vec);
    return {pw1, dw, pointwise_layout(dw.end(), channels, channels, vec)};
}

/// Branch 1 of a downsampling unit: depthwise (stride 2) over the live vectors, then pointwise.
/// Its table: offset[vectors] of each live vector, then lane[in_channels] among them, in memory order.
struct Branch1Layout {
    WindowLayout dw;
    PointwiseLayout pw;
    constexpr int vectors() const { return dw.lanes / dw.vec; }
    constexpr int table_size() const { return vectors() + pw.k; }
    constexpr int size() const { return pw.end(); }
};

constexpr Branch1Layout branch1_layout(int live_vectors, int in_channels, int channels, int vec) {
    const WindowLayout dw = window_layout(0, kTaps, live_vectors * vec, vec);
    return {dw, pointwise_layout(dw.end(), in_channels, channels, vec)};
}

/// The stem: 3x3 convolution over 3 input channels; taps ordered (ci, ky, kx).
constexpr WindowLayout stem_layout(const Network &n, int vec) {
    return window_layout(0, 3 * kTaps, n.stem_channels, vec);
}

/// conv5; its table is the offset of each input channel in memory order.
constexpr PointwiseLayout conv5_layout(const Network &n, int vec) {
    return pointwise_layout(0, n.stage_channels[kStages - 1], n.conv5_channels, vec);
}

/// Floats from one image's pooled features to the next one's.
constexpr int pooled_stride(const Network &n) { return round_up(n.conv5_channels, kLineFloats); }

/// The fully connected layer: a pointwise layout whose "vector" is a panel of kFcPanels vectors.
constexpr PointwiseLayout fc_layout(const Network &n, int classes, int vec) {
    return pointwise_layout(0, n.conv5_channels, classes, vec * kFcPanels);
}

/// Offsets of the tensors of one image in the arena; none overlap, so that features can be viewed after a run.
struct ArenaLayout {
    int stem;
    std::array<int, kStages> stage;
    int conv5;
    int pooled;
    int size;
};

constexpr ArenaLayout arena_layout(const Network &n, Size input, int vec) {
    ArenaLayout a{};
    int at = 0;
    const auto take = [&at](int64_t floats) {
        const int offset = at;
        at += static_cast<int>(round_up(floats, static_cast<int64_t>(kLineFloats)));
        return offset;
    };
    a.stem = take(stem_block(n, input, vec).size());
    for (int s = 0; s < kStages; ++s) a.stage[s] = take(stage_block(stage_shape(n, input, s + 2), vec).size());
    a.conv5 = take(static_cast<int64_t>(head_size(n, input).pixels()) * conv5_layout(n, vec).lanes);
    a.pooled = take(int64_t{kImageGroup} * pooled_stride(n));
    a.size = at;
    return a;
}

/// Memory of one thread, in bytes: the activations of one image, and scratch.
constexpr int64_t arena_bytes(const Network &n, Size input) {
    return static_cast<int64_t>(sizeof(float)) * arena_layout(n, input, kPanelFloats).size + kScratchBytes;
}

namespace detail {

/// In strips, the layers of a strip cannot be shared by two outputs, so that the channels are one part.
constexpr std::vector<ChannelPart> unit_parts(int channels, int vec, VectorUnit machine, int64_t bytes) {
    return fits_scratch(bytes) ? channel_parts(channels, vec, machine) : whole_vectors(channels, vec);
}

}  // namespace detail

/// Output channels of branch 2, as its kernel computes them.
constexpr std::vector<ChannelPart> branch2_parts(const StageShape &s, bool down, int vec, VectorUnit machine) {
    const Size in = down ? s.in : s.out;
    return detail::unit_parts(s.branch_channels, vec, machine,
                              unit_bytes(in, s.out, round_up(s.branch_channels, vec), vec));
}

/// Output channels of branch 1 of the downsampling unit, as its kernel computes them.
constexpr std::vector<ChannelPart> branch1_parts(const Network &n, Size input, int number, int vec,
                                                 VectorUnit machine) {
    const StageShape s = stage_shape(n, input, number);
    const auto vectors = static_cast<int>(live_vectors(stage_input(n, input, number, vec).slots, vec).size());
    return detail::unit_parts(s.branch_channels, vec, machine, unit_bytes({}, s.out, vectors * vec, 0));
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
