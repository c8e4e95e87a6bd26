// The layers of a network, one row each: names, shapes and cost. Weight reading, `shufflenet info`, the reference
// implementation and the tests all walk this table.
#pragma once

#include <cmath>
#include <string_view>
#include <vector>

#include "network.h"

namespace shufflenet::inline SHUFFLENET_ABI {

enum class LayerKind { kConv, kDepthwise, kPointwise, kMaxPool, kAveragePool, kGlobalPool, kFullyConnected };

constexpr std::string_view to_string(LayerKind kind) {
    switch (kind) {
    case LayerKind::kConv:
        return "conv";
    case LayerKind::kDepthwise:
        return "depthwise";
    case LayerKind::kPointwise:
        return "pointwise";
    case LayerKind::kMaxPool:
        return "max_pool";
    case LayerKind::kAveragePool:
        return "average_pool";
    case LayerKind::kGlobalPool:
        return "global_pool";
    case LayerKind::kFullyConnected:
        return "fully_connected";
    }
    return "";
}

/// A short constexpr string: std::string is not usable in constant expressions with every C++20 library.
class Name {
  public:
    constexpr Name() = default;
    constexpr Name(const char *text) { *this += text; }  // NOLINT(google-explicit-constructor)
    constexpr operator std::string_view() const {
        return {text_.data(), size_};
    }  // NOLINT(google-explicit-constructor)
    constexpr std::string_view view() const { return *this; }
    constexpr bool empty() const { return size_ == 0; }
    constexpr Name &operator+=(std::string_view more) {
        for (const char ch : more) text_.at(size_++) = ch;
        return *this;
    }
    constexpr Name &operator+=(int value) {
        if (value >= 10) *this += value / 10;
        text_.at(size_++) = static_cast<char>('0' + value % 10);
        return *this;
    }
    template <typename T>
    friend constexpr Name operator+(Name a, T b) {
        return a += b;
    }

  private:
    std::array<char, 40> text_{};
    size_t size_ = 0;
};

struct Layer {
    LayerKind kind{};
    /// Identifier used everywhere: table row, symbol, test and bench, e.g. "stage3_unit0_branch2_pw1".
    Name id;
    /// torchvision's module names, e.g. "stage3.0.branch2.0" and "stage3.0.branch2.1"; empty: no such module.
    Name conv, norm;
    int in_channels = 0, out_channels = 0;
    Size in{}, out{};
    bool relu = false;
    /// Groups of a 1x1 convolution: output channels of a group read the input channels of the same group alone.
    int groups = 1;
    /// Whether a layer without normalisation has a bias.
    bool bias = true;

    constexpr bool has_weights() const { return !conv.empty(); }
    constexpr int kernel() const {
        using enum LayerKind;
        return kind == kConv || kind == kDepthwise || kind == kMaxPool || kind == kAveragePool ? 3 : 1;
    }
    /// Input channels that one output channel reads.
    constexpr int group_channels() const {
        return kind == LayerKind::kConv || kind == LayerKind::kPointwise || kind == LayerKind::kFullyConnected
                   ? in_channels / groups
                   : 1;
    }
    /// Elements of the weight tensor (out, in / groups, ky, kx); 0 without weights.
    constexpr int64_t weight_elements() const {
        return has_weights() ? int64_t{out_channels} * group_channels() * kernel() * kernel() : 0;
    }
    /// Learned parameters as torchvision counts them: weights, and BN's scale and shift or the bias.
    constexpr int64_t parameters() const {
        if (!has_weights()) return 0;
        const int vectors = norm.empty() ? int{bias} : 2;
        return weight_elements() + vectors * int64_t{out_channels};
    }
    /// Multiply-adds of one image, "FLOPs" in the paper (footnote 1); pooling counts none.
    constexpr int64_t flops() const { return has_weights() ? weight_elements() * out.pixels() : 0; }
    /// Memory access cost in elements: input, output and weights once each (paper section 2, G1: hw(c1+c2)+c1c2).
    constexpr int64_t mac() const {
        return int64_t{in.pixels()} * in_channels + int64_t{out.pixels()} * out_channels + weight_elements();
    }
};

/// Lower bound of a 1x1 convolution's memory access cost at its FLOPs B: 2 sqrt(hwB) + B/(hw) (paper eq. 1).
inline double mac_lower_bound(int64_t pixels, int64_t flops) {
    const auto hw = static_cast<double>(pixels);
    const auto b = static_cast<double>(flops);
    return 2 * std::sqrt(hw * b) + b / hw;
}

namespace detail {

constexpr void add_unit(std::vector<Layer> &layers, const StageShape &s, int unit) {
    using enum LayerKind;
    const bool down = unit == 0;
    const int c = s.branch_channels;
    const int c_in = down ? s.in_channels : c;
    const Size in = down ? s.in : s.out;
    const Name id = Name("stage") + s.number + "_unit" + unit;
    const Name path = Name("stage") + s.number + "." + unit;
    if (down) {
        const Name b1 = path + ".branch1.";
        layers.push_back({kDepthwise, id + "_branch1_dw", b1 + "0", b1 + "1", c_in, c_in, in, s.out, false});
        layers.push_back({kPointwise, id + "_branch1_pw", b1 + "2", b1 + "3", c_in, c, s.out, s.out, true});
    }
    const Name b2 = path + ".branch2.";
    layers.push_back({kPointwise, id + "_branch2_pw1", b2 + "0", b2 + "1", c_in, c, in, in, true});
    layers.push_back({kDepthwise, id + "_branch2_dw", b2 + "3", b2 + "4", c, c, in, s.out, false});
    layers.push_back({kPointwise, id + "_branch2_pw2", b2 + "5", b2 + "6", c, c, s.out, s.out, true});
}

}  // namespace detail

/// All layers in order of execution, named as torchvision.models.ShuffleNetV2 names its modules.
constexpr std::vector<Layer> network_layers(const Network &n, Size input, int classes) {
    using enum LayerKind;
    std::vector<Layer> layers;
    const Size half = halved(input);
    layers.push_back({kConv, "stem_conv", "conv1.0", "conv1.1", 3, n.stem_channels, input, half, true});
    layers.push_back({kMaxPool, "stem_pool", "", "", n.stem_channels, n.stem_channels, half, halved(half), false});
    for (int number = 2; number < 2 + kStages; ++number) {
        const StageShape s = stage_shape(n, input, number);
        for (int u = 0; u < s.units; ++u) detail::add_unit(layers, s, u);
    }
    const Size last = head_size(n, input);
    const int c4 = n.stage_channels[kStages - 1];
    layers.push_back({kPointwise, "conv5", "conv5.0", "conv5.1", c4, n.conv5_channels, last, last, true});
    layers.push_back({kGlobalPool, "pool", "", "", n.conv5_channels, n.conv5_channels, last, {1, 1}, false});
    layers.push_back({kFullyConnected, "fc", "fc", "", n.conv5_channels, classes, {1, 1}, {1, 1}, false});
    return layers;
}

struct Cost {
    int64_t flops = 0, mac = 0, parameters = 0;
};

constexpr Cost total_cost(const std::vector<Layer> &layers) {
    Cost total;
    for (const Layer &layer : layers) {
        total.flops += layer.flops();
        total.mac += layer.mac();
        total.parameters += layer.parameters();
    }
    return total;
}

constexpr Cost total_cost(const Network &n, Size input, int classes) {
    return total_cost(network_layers(n, input, classes));
}

/// Multiply-adds at 224x224 as the paper counts them. The authors' own downsampling unit in stage 2 keeps the stem's
/// 24 channels in branch 1 and gives branch 2 the other C - 24; torchvision (and this project) gives each C/2, which
/// is (C/2 - 24)^2 multiply-adds a pixel less. Stages 3 and 4 are the same in both.
constexpr int64_t paper_flops(const Network &n) {
    const Size input{kDefaultCrop, kDefaultCrop};
    const StageShape s = stage_shape(n, input, 2);
    const int64_t gap = s.branch_channels - n.stem_channels;
    return total_cost(n, input, kDefaultClasses).flops + gap * gap * s.out.pixels();
}

namespace detail {

/// Published cost at 224x224 and 1000 classes: multiply-adds in millions, rounded up (paper Table 5), and in
/// thousandths of 10^9, rounded (torchvision's `_ops` of the weight entries); parameters (torchvision).
struct PublishedCost {
    int paper_mflops, torchvision_mflops;
    int64_t parameters;
};
inline constexpr std::array<PublishedCost, kNetworks.size()> kPublishedCost = {{
    {41, 40, 1'366'792},
    {146, 145, 2'278'604},
    {299, 296, 3'503'624},
    {591, 583, 7'393'996},
}};

constexpr bool matches_published(size_t i) {
    const Cost cost = total_cost(kNetworks[i], {kDefaultCrop, kDefaultCrop}, kDefaultClasses);
    const PublishedCost &published = kPublishedCost[i];
    return (paper_flops(kNetworks[i]) + 999'999) / 1'000'000 == published.paper_mflops &&
           (cost.flops + 500'000) / 1'000'000 == published.torchvision_mflops &&
           cost.parameters == published.parameters;
}
static_assert(matches_published(0) && matches_published(1) && matches_published(2) && matches_published(3));

}  // namespace detail

}  // namespace shufflenet
