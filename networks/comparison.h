// The paper's comparison networks: one row each, what it is made of, and what Table 8 says that it costs.
#pragma once

#include <algorithm>

#include "mobilenet_v1.h"
#include "mobilenet_v2.h"
#include "shufflenet_v1.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// One comparison network. `widths` are the numbers that its family's function takes before the input size.
struct Comparison {
    std::string_view name;
    Chain (*make)(std::array<int, 3> widths, Size input);
    std::array<int, 3> widths;
    /// Side of the square crop that Table 8's complexity is for.
    int crop;
    /// Kernels at that size; the build reads it from here.
    int kernels;
    /// Complexity of Table 8, in millions of multiply-adds; 0: it is not in there.
    int paper_mflops;

    constexpr Chain chain(Size input) const { return make(widths, input); }
};

namespace detail {

constexpr Chain make_mobilenet_v1(std::array<int, 3> w, Size input) { return mobilenet_v1(w[0], input); }
constexpr Chain make_mobilenet_v2(std::array<int, 3> w, Size input) { return mobilenet_v2(w[0], w[1], input); }
constexpr Chain make_shufflenet_v1(std::array<int, 3> w, Size input) { return shufflenet_v1(w[0], w[1], w[2], input); }

/// With one group: with the pools of ShuffleNetV1 in stem and head, otherwise with those of MobileNetV2.
constexpr Chain make_test_chain(std::array<int, 3> w, Size input) {
    using enum Activation;
    const int groups = w[0];
    const bool pooled = groups == 1;
    Chain chain;
    chain.add_stem(input, 5, pooled, pooled ? kRelu : kRelu6, {"stem.0", "stem.1"});
    const auto unit = [&chain](const char *path, Step step) {
        const Name id = path;
        step.kind = StepKind::kUnit;
        if (step.expanded > 0) step.expand = {id + ".0", id + ".1"};
        step.depthwise = {id + ".2", id + ".3"};
        step.project = {id + ".4", id + ".5"};
        chain.add(step);
    };
    unit("separable", {.out_channels = 11, .depthwise_activation = kRelu, .activation = kRelu});
    const Step inverted{
        .out_channels = 12, .expanded = 37, .expand_activation = kRelu6, .depthwise_activation = kRelu6};
    Step down = inverted, residual = inverted;
    down.stride = 2;
    residual.shortcut = Shortcut::kAdd;
    unit("inverted", down);
    unit("inverted_residual", residual);
    Step shuffled{.out_channels = 36,
                  .expanded = 30,
                  .project_groups = groups,
                  .shuffle = groups,
                  .expand_activation = kRelu,
                  .activation = kRelu};
    Step first = shuffled;
    first.stride = 2;
    first.shortcut = Shortcut::kConcat;
    unit("shuffled_down", first);
    shuffled.expand_groups = groups;
    shuffled.shortcut = Shortcut::kAdd;
    unit("shuffled", shuffled);
    Step head{.kind = StepKind::kHead, .out_channels = chain.features()};
    if (!pooled) {
        head.out_channels = head.expanded = 21;
        head.expand_activation = kRelu6;
        head.expand = {"head.0", "head.1"};
    }
    chain.add(head);
    chain.fully_connected = "fc";
    chain.fully_connected_bias = !pooled;
    return chain;
}

}  // namespace detail

// clang-format off
inline constexpr std::array<Comparison, 18> kComparisons = {{
    {"mobilenet_v1_x0_25", detail::make_mobilenet_v1, {25}, 224, 11, 41},
    {"mobilenet_v1_x0_5", detail::make_mobilenet_v1, {50}, 224, 11, 149},
    {"mobilenet_v1_x0_75", detail::make_mobilenet_v1, {75}, 224, 11, 325},
    {"mobilenet_v1_x1_0", detail::make_mobilenet_v1, {100}, 224, 11, 569},
    {"mobilenet_v2_x0_15", detail::make_mobilenet_v2, {15, 2}, 224, 14, 39},
    {"mobilenet_v2_x0_4", detail::make_mobilenet_v2, {40, 2}, 160, 14, 43},
    {"mobilenet_v2_x0_6", detail::make_mobilenet_v2, {60, 4}, 224, 14, 141},
    {"mobilenet_v2_x0_75", detail::make_mobilenet_v2, {75, 4}, 192, 14, 145},
    {"mobilenet_v2_x1_0", detail::make_mobilenet_v2, {100, 8}, 224, 14, 301},
    {"mobilenet_v2_x1_4", detail::make_mobilenet_v2, {140, 8}, 224, 14, 587},
    {"shufflenet_v1_x0_5", detail::make_shufflenet_v1, {12, 120, 3}, 224, 11, 38},
    {"shufflenet_v1_x1_0", detail::make_shufflenet_v1, {24, 240, 3}, 224, 11, 140},
    {"shufflenet_v1_x1_5", detail::make_shufflenet_v1, {24, 360, 3}, 224, 11, 292},
    {"shufflenet_v1_x2_0", detail::make_shufflenet_v1, {48, 480, 3}, 224, 11, 524},
    {"xception_x0_5", detail::make_shufflenet_v1, {12, 72, 1}, 224, 11, 40},
    {"xception_x1_0", detail::make_shufflenet_v1, {24, 144, 1}, 224, 11, 145},
    {"xception_x1_5", detail::make_shufflenet_v1, {24, 216, 1}, 224, 11, 305},
    {"xception_x2_0", detail::make_shufflenet_v1, {24, 288, 1}, 224, 11, 525},
}};
// clang-format on

/// Every kind of step, in shapes that break tile assumptions; generated for tests only. Their numbers of kernels hold
/// for the sizes there.
// clang-format off
inline constexpr std::array<Comparison, 2> kTestComparisons = {{
    {"test_chain", detail::make_test_chain, {3}, 32, 8, 0},
    {"test_pooled_chain", detail::make_test_chain, {1}, 32, 8, 0},
}};
// clang-format on

/// The comparison network of that name, or nullptr.
constexpr const Comparison *find_comparison(std::string_view name) {
    for (const Comparison &c : kComparisons) {
        if (c.name == name) return &c;
    }
    for (const Comparison &c : kTestComparisons) {
        if (c.name == name) return &c;
    }
    return nullptr;
}

namespace detail {

/// How far our definition may be from Table 8's complexity, in hundredths: where widths and the Xception-like unit had
/// to be guessed (mobilenet_v2.h, shufflenet_v1.h).
constexpr int allowed_percent(const Comparison &c) {
    if (c.name.starts_with("xception")) return 4;
    return c.name.starts_with("mobilenet_v1") ? 1 : 2;
}

constexpr bool matches_table8(const Comparison &c) {
    const Size input{c.crop, c.crop};
    const int64_t flops = total_cost(chain_layers(c.chain(input), kDefaultClasses)).flops;
    const int64_t paper = int64_t{c.paper_mflops} * 1'000'000;
    const int64_t gap = flops > paper ? flops - paper : paper - flops;
    return gap * 100 <= paper * allowed_percent(c) && kernel_count(c.chain(input)) == c.kernels;
}

static_assert(std::all_of(kComparisons.begin(), kComparisons.end(), matches_table8));

}  // namespace detail

}  // namespace shufflenet
