// MobileNetV1. Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
// arXiv 1704.04861, Table 1; widths are its width multiplier (section 3.3). torchvision has no such network: names of
// weights are of the form of its MobileNetV2.
#include "networks/catalog.h"

namespace shufflenet::networks {

namespace {

/// `percent`: the width multiplier times 100.
Graph mobilenet_v1(int percent, Size input, int classes, std::span<const std::string> outputs) {
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
    GraphBuilder b("mobilenet_v1", input);
    Tensor tensor = b.convolution("stem_conv", {"features.0.0", "features.0.1"}, b.image(), 32 * percent / 100,
                                  square(3, 2), kRelu);
    int number = 0;
    for (const Row &row : kRows) {
        const std::string id = "unit" + std::to_string(number) + "_";
        const std::string path = "features." + std::to_string(++number);
        tensor = b.depthwise(id + "dw", {path + ".0", path + ".1"}, tensor, square(3, row.stride), kRelu);
        tensor = b.pointwise(id + "pw2", {path + ".3", path + ".4"}, tensor, row.channels * percent / 100, kRelu);
    }
    const Tensor pooled = b.global_pool("head_pool", tensor);
    const std::vector<Output> available = {{"logits", b.linear("fc", {"classifier", ""}, pooled, classes)}};
    add_outputs(&b, outputs, available, "logits");
    return b.take();
}

PublishedNetwork row(const std::string &name, int percent, int paper_mflops) {
    const auto make = [percent](Size input, int classes, std::span<const std::string> outputs) {
        return mobilenet_v1(percent, input, classes, outputs);
    };
    return {.name = name, .paper_mflops = paper_mflops, .comparison = true, .make = make};
}

const Registration kRows({
    row("mobilenet_v1_x0_25", 25, 41),
    row("mobilenet_v1_x0_5", 50, 149),
    row("mobilenet_v1_x0_75", 75, 325),
    row("mobilenet_v1_x1_0", 100, 569),
});

}  // namespace

}  // namespace shufflenet::networks
