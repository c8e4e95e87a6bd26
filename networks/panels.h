// Panels of packed weights, and how channels are computed: the ABI between packer and kernels, as far as it is common
// to all kernels.
//
// Where things lie does not depend on the instruction set or on tuning; which lanes a kernel computes depends on the
// machine's vectors, too.
#pragma once

#include <array>
#include <vector>

#include "size.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Sections of a blob and of the arena start at cache-line boundaries: 16 floats.
inline constexpr int kLineFloats = 16;

/// The panel that kernels and runtime use: the longest vector, and a cache line, so that shorter vectors stream it too.
inline constexpr int kPanelFloats = 16;

/// Channels of a plane of activations: a panel of weights computes them, and a cache line holds them.
inline constexpr int kPlane = kPanelFloats;

/// Planes of a group that hold so many of its lanes.
constexpr int planes_of(int lanes) { return (lanes + kPlane - 1) / kPlane; }

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

/// Scratch of one thread, in bytes: a 1 MiB L2 cache, where intermediates are to stay. A kernel that needs more fails
/// when it runs; generators refuse tuned numbers that are sure to.
inline constexpr int kScratchBytes = 1 << 20;

/// Bytes that a unit keeps between its layers when it is computed as a whole: the depthwise output, all lanes, and one
/// vector of lanes of what the depthwise convolution reads.
constexpr int64_t unit_bytes(Size in, Size out, int lanes, int vec) {
    return static_cast<int64_t>(sizeof(float)) * (int64_t{out.pixels()} * lanes + int64_t{in.pixels()} * vec);
}
/// Whether a unit can be computed as a whole; otherwise it is computed in strips of rows.
constexpr bool fits_scratch(int64_t bytes) { return bytes <= kScratchBytes * 3 / 4; }

}  // namespace shufflenet::inline SHUFFLENET_ABI
