// The ABI between packer and kernels of a chain: packed weights, tensors and the arena, in floats.
//
// A tensor between steps is NHWC with channels in canonical order, so that a group of channels is a run of lanes.
#pragma once

#include "chain.h"
#include "layout.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Floats of a panel: 8 instead of 16 where that saves at least an eighth of the lanes. A core that does one 512-bit or
/// two 256-bit multiply-adds a cycle loses nothing by it.
constexpr int chain_panel(int channels) {
    constexpr int kHalf = kPanelFloats / 2;
    return round_up(channels, kHalf) * 8 <= round_up(channels, kPanelFloats) * 7 ? kHalf : kPanelFloats;
}

/// Lanes that are computed for so many channels.
constexpr int chain_lanes(int channels) { return round_up(channels, chain_panel(channels)); }

/// Lanes of a pixel of the tensor that a step leaves.
constexpr int out_lanes(const Step &s) { return chain_lanes(s.out_channels); }

/// The panel of a unit's last convolution: one that leaves no padding between groups, and none beyond the tensor.
constexpr int project_panel(const Step &s) {
    const int room = out_lanes(s) - (s.out_channels - s.projected());
    const int channels = s.projected() / s.project_groups;
    int panel = chain_panel(channels);
    while (s.project_groups > 1 ? channels % panel != 0 : round_up(channels, panel) > room) panel /= 2;
    return panel;
}

/// A unit's blob: its convolutions one after another, group after group, `*_stride` floats apart.
struct UnitLayout {
    PointwiseLayout expand{};
    WindowLayout depthwise{};
    PointwiseLayout project{};
    int expand_stride = 0, depthwise_stride = 0, project_stride = 0;
    int size = 0;
};

/// Channels between the first and the last convolution are in as many groups as the first has.
constexpr UnitLayout unit_layout(const Step &s) {
    const int middle = s.middle() / s.expand_groups;
    const int panel = chain_panel(middle);
    UnitLayout u;
    int at = 0;
    if (s.expanded > 0) {
        u.expand = pointwise_layout(at, s.in_channels / s.expand_groups, middle, panel);
        u.expand_stride = u.expand.end() - at;
        at += s.expand_groups * u.expand_stride;
    }
    u.depthwise = window_layout(at, kTaps, middle, panel);
    u.depthwise_stride = u.depthwise.end() - at;
    at += s.expand_groups * u.depthwise_stride;
    u.project = pointwise_layout(at, s.middle() / s.project_groups, s.projected() / s.project_groups, project_panel(s));
    u.project_stride = u.project.end() - at;
    u.size = at + s.project_groups * u.project_stride;
    return u;
}

/// A stem's weights; taps ordered (ci, ky, kx).
constexpr WindowLayout chain_stem_layout(const Step &s) {
    return window_layout(0, 3 * kTaps, s.out_channels, chain_panel(s.out_channels));
}

/// A head's convolution, in whole panels as conv5.
constexpr PointwiseLayout chain_head_layout(const Step &s) {
    return pointwise_layout(0, s.in_channels, s.expanded, kPanelFloats);
}

/// Floats of a step's blob.
constexpr int blob_size(const Step &s) {
    switch (s.kind) {
    case StepKind::kStem:
        return chain_stem_layout(s).end();
    case StepKind::kUnit:
        return unit_layout(s).size;
    case StepKind::kHead:
        return s.expanded > 0 ? chain_head_layout(s).end() : 0;
    case StepKind::kAveragePool:
        break;
    }
    return 0;
}

/// Where each step writes, in the arena of one image; pooled features of a group of images come last.
struct ChainArena {
    std::vector<int> out;
    int pooled = 0, pooled_stride = 0, size = 0;
};

constexpr ChainArena chain_arena(const Chain &chain) {
    // Two buffers in turn; a shortcut's average goes where the unit after it writes.
    std::array<int, 2> sizes{};
    std::vector<int> turn;
    const int steps = static_cast<int>(chain.steps.size());
    int now = 0;
    for (int i = 0; i < steps; ++i) {
        const Step &s = chain.steps[i];
        turn.push_back(now);
        if (s.kind == StepKind::kHead) continue;
        if (s.kind == StepKind::kAveragePool) continue;
        sizes[now] = std::max(sizes[now], round_up(out_lanes(s) * s.out.pixels(), kLineFloats));
        now = 1 - now;
    }
    ChainArena arena;
    for (const int buffer : turn) arena.out.push_back(buffer * sizes[0]);
    arena.pooled = sizes[0] + sizes[1];
    arena.pooled_stride = round_up(chain.features(), kLineFloats);
    arena.size = arena.pooled + kImageGroup * arena.pooled_stride;
    return arena;
}

/// Memory of one thread, in bytes: the activations of one image, and scratch.
constexpr int64_t arena_bytes(const Chain &chain) {
    return static_cast<int64_t>(sizeof(float)) * chain_arena(chain).size + kScratchBytes;
}

/// The fully connected layer, as ShuffleNetV2's.
constexpr PointwiseLayout fc_layout(const Chain &chain, int classes) {
    return pointwise_layout(0, chain.features(), classes, kPanelFloats * kFcPanels);
}

}  // namespace shufflenet
