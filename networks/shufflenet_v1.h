// ShuffleNetV1 and the Xception-like network. Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural
// Network for Mobile Devices", arXiv 1707.01083, Table 1 and figure 2; stem, widths and names of weights as in the
// authors' code (github.com/megvii-model/ShuffleNet-Series, ShuffleNetV1).
//
// "Xception" in Table 8 is the light-weight variant of Li et al., "Light-Head R-CNN" (arXiv 1711.07264, Table 7), whose
// code is not public. Taken: what arXiv 1707.01083 calls Xception-like, that is ShuffleNetV1 without groups and without
// shuffle, at that table's widths 144, 288, 576 (x1.0); 24 channels in the stem, 12 in that of x0.5, as ShuffleNetV1.
#pragma once

#include "chain.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Stages of 4, 8 and 4 units with `channels`, twice and four times as many; `groups` of the 1x1 convolutions.
constexpr Chain shufflenet_v1(int stem_channels, int channels, int groups, Size input) {
    using enum Activation;
    Chain chain;
    chain.add_stem(input, stem_channels, true, kRelu, {"first_conv.0", "first_conv.1"});
    int number = 0;
    for (const int units : {4, 8, 4}) {
        for (int i = 0; i < units; ++i) {
            const Name path = Name("features.") + number + ".branch_main_";
            chain.add({.kind = StepKind::kUnit,
                       .out_channels = channels,
                       .stride = i == 0 ? 2 : 1,
                       .expanded = channels / 4,
                       .expand_groups = number == 0 ? 1 : groups,
                       .project_groups = groups,
                       .shuffle = groups,
                       .expand_activation = kRelu,
                       .activation = kRelu,
                       .shortcut = i == 0 ? Shortcut::kConcat : Shortcut::kAdd,
                       .expand = {path + "1.0", path + "1.1"},
                       .depthwise = {path + "1.3", path + "1.4"},
                       .project = {path + "2.0", path + "2.1"}});
            ++number;
        }
        channels *= 2;
    }
    chain.add({.kind = StepKind::kHead, .out_channels = chain.features()});
    chain.fully_connected = "classifier.0";
    chain.fully_connected_bias = false;
    return chain;
}

}  // namespace shufflenet
