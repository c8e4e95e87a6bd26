// The ABI between packer and kernels: packed weights, offset tables and the arena, in floats.
//
// Where things lie depends on the network, the input size and `vec`, the floats that lie side by side (a panel); not on
// the instruction set or on tuning. Generators index with these offsets, the runtime packs with them. Which lanes a
// kernel computes depends on the machine's vectors too.
//
// Activations are NHWC with the channels of a block padded to whole vectors ("lanes"); the padding holds zeros.
#pragma once

#include "network.h"
#include "stage_plan.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Sections of a blob and of the arena start at cache-line boundaries: 16 floats.
inline constexpr int kLineFloats = 16;

/// The panel that kernels and runtime use: the longest vector, and a cache line, so that shorter vectors stream it too.
inline constexpr int kPanelFloats = 16;

/// Taps of a 3x3 window.
inline constexpr int kTaps = 9;

/// Images whose pooled features are kept for one pass over the fully connected layer's weights.
inline constexpr int kImageGroup = 8;

/// Panels of classes that lie side by side in the fully connected layer's weights.
inline constexpr int kFcPanels = 4;

/// A run of channels that is computed with vectors of one length.
struct ChannelPart {
    int first, lanes, vec;
};

/// Shortest vector that a remainder is computed with, in floats: one 128-bit register.
inline constexpr int kShortestVector = 4;

/// Whole vectors of `vec` floats, then the remainder, where less than that holds it: in one vector of a power of two,
/// because a core that does two 256-bit or one 512-bit multiply-add a cycle computes half of a vector in half the time;
/// or else in several of `machine_vec`, the floats of a register.
constexpr std::vector<ChannelPart> channel_parts(int channels, int vec, int machine_vec) {
    const int whole = channels / vec * vec;
    const int rest = channels - whole;
    int lanes = kShortestVector;
    while (lanes < rest) lanes *= 2;
    int length = lanes;
    if (const int several = round_up(rest, machine_vec); several < lanes) {
        lanes = several;
        length = machine_vec;
    }
    if (rest == 0 || lanes >= vec) return {{0, round_up(channels, vec), vec}};
    if (whole == 0) return {{0, lanes, length}};
    return {{0, whole, vec}, {whole, lanes, length}};
}

/// What parts depend on of a machine.
struct VectorUnit {
    int vec;                  ///< Floats of a register.
    bool wide_tiles = false;  ///< Whole vectors, so many that register tiles two or three vectors wide divide them.
};

constexpr VectorUnit vector_unit(int vec, int fma_units) { return {vec, vec == kPanelFloats && fma_units == 2}; }

/// A remainder's narrow vectors cost a core that begins two multiply-adds a cycle as much as whole ones, which share
/// their activations with the rest of a tile; the lanes of a block have room for them.
constexpr std::vector<ChannelPart> channel_parts(int channels, int vec, VectorUnit machine) {
    if (!machine.wide_tiles) return channel_parts(channels, vec, machine.vec);
    const int vectors = round_up(channels, vec) / vec;
    // By three the most; what that leaves, by two.
    const int by_two = vectors % 2 == 0 ? 0 : vectors % 3 == 0 ? 0 : vectors % 3 == 2 ? 2 : 4;
    const int first = vectors > by_two ? vectors - by_two : vectors;
    if (first == vectors) return {{0, vectors * vec, vec}};
    return {{0, first * vec, vec}, {first * vec, by_two * vec, vec}};
}

/// The stem's output channels, as its kernel computes them. Whole vectors are no faster here: 24 channels would be two.
constexpr std::vector<ChannelPart> stem_parts(const Network &n, int vec, VectorUnit machine) {
    return channel_parts(n.stem_channels, vec, machine.vec);
}

/// Lanes of a unit's two halves side by side, with room for whole vectors of each.
constexpr int shuffled_lanes(int branch_channels, int vec) { return 2 * round_up(branch_channels, vec); }

/// One part of whole vectors.
constexpr std::vector<ChannelPart> whole_vectors(int channels, int vec) { return {{0, round_up(channels, vec), vec}}; }

/// The parts as a kernel's two outputs; the second is empty where there is only one.
constexpr std::array<ChannelPart, 2> two_parts(const std::vector<ChannelPart> &parts) {
    return {parts[0], parts.size() > 1 ? parts[1] : ChannelPart{0, 0, parts[0].vec}};
}

/// A 1x1 convolution's weights: bias[lanes], then weights[lanes / vec][k][vec].
struct PointwiseLayout {
    int vec, k, lanes;
    int bias, weights;
    constexpr int end() const { return round_up(weights + lanes * k, kLineFloats); }
    /// `out` is the stored output lane, `i` the i-th summand in summation order.
    constexpr int weight_index(int out, int i) const { return weights + (out / vec * k + i) * vec + out % vec; }
};

constexpr PointwiseLayout pointwise_layout(int start, int k, int channels, int vec) {
    const int lanes = round_up(channels, vec);
    return {vec, k, lanes, start, start + round_up(lanes, kLineFloats)};
}

/// A windowed convolution (depthwise: taps = 9; stem: taps = 27): bias[lanes], then weights[lanes / vec][taps][vec].
struct WindowLayout {
    int vec, taps, lanes;
    int bias, weights;
    constexpr int end() const { return round_up(weights + lanes * taps, kLineFloats); }
    constexpr int weight_index(int lane, int tap) const {
        return weights + (lane / vec * taps + tap) * vec + lane % vec;
    }
};

constexpr WindowLayout window_layout(int start, int taps, int channels, int vec) {
    const int lanes = round_up(channels, vec);
    return {vec, taps, lanes, start, start + round_up(lanes, kLineFloats)};
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

/// Scratch of one thread, in bytes: a 1 MiB L2 cache, where intermediates are to stay. A kernel that needs more fails
/// when it runs; generators refuse tuned numbers that are sure to.
inline constexpr int kScratchBytes = 1 << 20;

/// Memory of one thread, in bytes: the activations of one image, and scratch.
constexpr int64_t arena_bytes(const Network &n, Size input) {
    return static_cast<int64_t>(sizeof(float)) * arena_layout(n, input, kPanelFloats).size + kScratchBytes;
}

/// Bytes that a unit keeps between its layers when it is computed as a whole: the depthwise output, all lanes, and one
/// vector of lanes of what the depthwise convolution reads.
constexpr int64_t unit_bytes(Size in, Size out, int lanes, int vec) {
    return static_cast<int64_t>(sizeof(float)) * (int64_t{out.pixels()} * lanes + int64_t{in.pixels()} * vec);
}
/// Whether a unit can be computed as a whole; otherwise it is computed in strips of rows.
constexpr bool fits_scratch(int64_t bytes) { return bytes <= kScratchBytes * 3 / 4; }

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
