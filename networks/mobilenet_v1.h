// MobileNetV1. Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
// arXiv 1704.04861, Table 1; widths are its width multiplier (section 3.3). torchvision has no such network: names of
// weights are of the form of its MobileNetV2.
#pragma once

#include "chain.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// `percent`: the width multiplier times 100.
constexpr Chain mobilenet_v1(int percent, Size input) {
    struct Row {
        int channels, stride;
    };
    constexpr std::array<Row, 13> kRows = {{{64, 1},
                                            {128, 2},
                                            {128, 1},
                                            {256, 2},
                                            {256, 1},
                                            {512, 2},
                                            {512, 1},
                                            {512, 1},
                                            {512, 1},
                                            {512, 1},
                                            {512, 1},
                                            {1024, 2},
                                            {1024, 1}}};
    Chain chain;
    chain.add_stem(input, 32 * percent / 100, false, Activation::kRelu, {"features.0.0", "features.0.1"});
    int number = 1;
    for (const Row &row : kRows) {
        const Name path = Name("features.") + number++;
        chain.add({.kind = StepKind::kUnit,
                   .out_channels = row.channels * percent / 100,
                   .stride = row.stride,
                   .depthwise_activation = Activation::kRelu,
                   .activation = Activation::kRelu,
                   .depthwise = {path + ".0", path + ".1"},
                   .project = {path + ".3", path + ".4"}});
    }
    chain.add({.kind = StepKind::kHead, .out_channels = chain.features()});
    chain.fully_connected = "classifier";
    return chain;
}

}  // namespace shufflenet
