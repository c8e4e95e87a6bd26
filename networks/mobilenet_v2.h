// MobileNetV2. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381, Table 2;
// rounding and names of weights as in torchvision.models.mobilenet_v2.
//
// How channels are rounded below width 1 is not known. Taken: torchvision's rounding, to a multiple of 2, 4 or 8,
// whichever comes nearest to Table 8's complexity, and never less than the first unit's 16 channels there.
#pragma once

#include "chain.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// torchvision's _make_divisible(channels * percent / 100, multiple).
constexpr int make_divisible(int channels, int percent, int multiple) {
    const int hundredfold = channels * percent;
    const int rounded = std::max(multiple, (hundredfold + 50 * multiple) / 100 / multiple * multiple);
    return rounded * 1000 < 9 * hundredfold ? rounded + multiple : rounded;
}

/// `percent`: the width multiplier times 100; channels are multiples of `multiple`.
constexpr Chain mobilenet_v2(int percent, int multiple, Size input) {
    using enum Activation;
    /// Expansion, channels, units, stride of the first: the paper's t, c, n, s.
    struct Row {
        int expansion, channels, units, stride;
    };
    constexpr std::array<Row, 7> kRows = {
        {{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}}};
    const auto width = [&](int channels) { return make_divisible(channels, percent, multiple); };
    Chain chain;
    chain.add_stem(input, width(32), false, kRelu6, {"features.0.0", "features.0.1"});
    int number = 1;
    for (const Row &row : kRows) {
        const int channels = row.expansion == 1 ? std::max(row.channels, width(row.channels)) : width(row.channels);
        for (int i = 0; i < row.units; ++i) {
            const bool expands = row.expansion > 1;
            const int from = chain.features();
            const int stride = i == 0 ? row.stride : 1;
            const Name conv = Name("features.") + number++ + ".conv.";
            const int first = expands ? 1 : 0;
            chain.add({.kind = StepKind::kUnit,
                       .out_channels = channels,
                       .stride = stride,
                       .expanded = expands ? from * row.expansion : 0,
                       .expand_activation = expands ? kRelu6 : kNone,
                       .depthwise_activation = kRelu6,
                       .shortcut = stride == 1 && from == channels ? Shortcut::kAdd : Shortcut::kNone,
                       .expand = {conv + "0.0", conv + "0.1"},
                       .depthwise = {conv + first + ".0", conv + first + ".1"},
                       .project = {conv + (first + 1), conv + (first + 2)}});
        }
    }
    const int last = make_divisible(1280, std::max(percent, 100), multiple);
    const Name path = Name("features.") + number;
    chain.add({.kind = StepKind::kHead,
               .out_channels = last,
               .expanded = last,
               .expand_activation = kRelu6,
               .expand = {path + ".0", path + ".1"}});
    chain.fully_connected = "classifier.1";
    return chain;
}

}  // namespace shufflenet
