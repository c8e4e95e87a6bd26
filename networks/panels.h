// Panels of packed weights, and how channels are computed: the ABI between packer and kernels, as far as it is common
// to all kernels.
//
// Where things lie does not depend on the instruction set or on tuning; which lanes a kernel computes depends on the
// machine's vectors, too.
#pragma once

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

/// One part of whole vectors.
constexpr std::vector<ChannelPart> whole_vectors(int channels, int vec) { return {{0, round_up(channels, vec), vec}}; }

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
