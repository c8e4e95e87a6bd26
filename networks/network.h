// WHAT a network is: the published tables of ShuffleNetV2 and the shapes that follow from them.
// Header-only, constexpr, no I/O: generators, runtime, tests and benches all read shapes from here.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "shufflenet/version.h"
#include "size.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Number of stages built of units (paper Table 5: Stage2, Stage3, Stage4).
inline constexpr int kStages = 3;

/// Smallest and largest supported input height and width, in pixels.
inline constexpr int kMinInput = 32;
inline constexpr int kMaxInput = 1024;

/// Largest number of classes that a weight file may have.
inline constexpr int kMaxClasses = 100'000;

/// ImageNet channel statistics of torchvision's evaluation transform, RGB order, of values in [0, 1].
inline constexpr std::array<float, 3> kImageNetMean = {0.485F, 0.456F, 0.406F};
inline constexpr std::array<float, 3> kImageNetStd = {0.229F, 0.224F, 0.225F};

/// One ShuffleNetV2 network. Channel counts as in paper Table 5, torchvision's spelling of the name.
struct Network {
    std::string_view name;
    /// Units in stages 2, 3, 4; the first of each is the downsampling unit (stride 2).
    std::array<int, kStages> units;
    /// Output channels of conv1 (the stem).
    int stem_channels;
    /// Output channels C of stages 2, 3, 4; even, each branch has C/2.
    std::array<int, kStages> stage_channels;
    /// Output channels of conv5, the inputs of the fully connected layer.
    int conv5_channels;
    /// Short side that images are resized to before the centre crop (torchvision's weights' transforms).
    int default_resize;
};

/// Side of the square crop, and classes, that the published networks were trained with.
inline constexpr int kDefaultCrop = 224;
inline constexpr int kDefaultClasses = 1000;

/// The published networks: paper Table 5; resize sizes from torchvision's weight entries.
inline constexpr std::array<Network, 4> kNetworks = {{
    {"shufflenet_v2_x0_5", {4, 8, 4}, 24, {48, 96, 192}, 1024, 256},
    {"shufflenet_v2_x1_0", {4, 8, 4}, 24, {116, 232, 464}, 1024, 256},
    {"shufflenet_v2_x1_5", {4, 8, 4}, 24, {176, 352, 704}, 1024, 232},
    {"shufflenet_v2_x2_0", {4, 8, 4}, 24, {244, 488, 976}, 2048, 232},
}};

/// Shapes that break tile assumptions (prime channel counts, single units); generated for tests only.
inline constexpr std::array<Network, 3> kTestNetworks = {{
    {"test_prime", {2, 3, 1}, 7, {26, 34, 58}, 61, 32},
    {"test_tiny", {1, 1, 2}, 1, {2, 2, 6}, 3, 32},
    {"test_deep", {9, 2, 12}, 5, {10, 62, 74}, 37, 32},
}};

/// The network of that name, or nullptr.
constexpr const Network *find_network(std::string_view name) {
    for (const Network &n : kNetworks) {
        if (n.name == name) return &n;
    }
    for (const Network &n : kTestNetworks) {
        if (n.name == name) return &n;
    }
    return nullptr;
}

/// Output size of a 3x3 window with stride 2 and padding 1 (conv1, max-pool and the downsampling units).
constexpr int halved(int size) { return (size - 1) / 2 + 1; }

constexpr Size halved(Size s) { return {halved(s.height), halved(s.width)}; }

/// Spatial size after conv1 and the max-pool.
constexpr Size stem_size(Size input) { return halved(halved(input)); }

/// Shapes of one stage of a network at a given input size.
struct StageShape {
    /// Stage number as in the paper: 2, 3 or 4.
    int number;
    Size in, out;
    int in_channels;
    /// Channels of each branch: half of the stage's output channels.
    int branch_channels;
    int units;
};

/// `number` is 2, 3 or 4.
constexpr StageShape stage_shape(const Network &n, Size input, int number) {
    const int s = number - 2;
    Size in = stem_size(input);
    for (int i = 0; i < s; ++i) in = halved(in);
    return {number,    in, halved(in), s == 0 ? n.stem_channels : n.stage_channels[s - 1], n.stage_channels[s] / 2,
            n.units[s]};
}

/// Spatial size of the last stage, of conv5 and of the global average pool's input.
constexpr Size head_size(const Network &n, Size input) { return stage_shape(n, input, 4).out; }

}  // namespace shufflenet::inline SHUFFLENET_ABI
