// MobileNetV2. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381, Table 2;
// rounding and names of weights as in torchvision.models.mobilenet_v2.
//
// How channels are rounded below width 1 is not known. Taken: torchvision's rounding, to a multiple of 2, 4 or 8,
// whichever comes nearest to Table 8's complexity, and never less than the first unit's 16 channels there.
#include <algorithm>

#include "networks/catalog.h"

namespace shufflenet::networks {

namespace {

/// torchvision's _make_divisible(channels * percent / 100, multiple).
int make_divisible(int channels, int percent, int multiple) {
    const int hundredfold = channels * percent;
    const int rounded = std::max(multiple, (hundredfold + 50 * multiple) / 100 / multiple * multiple);
    return rounded * 1000 < 9 * hundredfold ? rounded + multiple : rounded;
}

/// Expansion, channels, units, stride of the first: the paper's t, c, n, s.
struct Row {
    int expansion, channels, units, stride;
};
constexpr std::array<Row, 7> kUnits = {
    {{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}}};

/// The inverted bottleneck.
Tensor unit(GraphBuilder &b, int number, const Tensor &in, int channels, int expansion, int stride) {
    const std::string id = "unit" + std::to_string(number) + "_";
    const std::string conv = "features." + std::to_string(number + 1) + ".conv.";
    const auto module = [&](int at) { return conv + std::to_string(at); };
    Tensor tensor = in;
    int at = 0;
    if (expansion > 1) {
        tensor = b.pointwise(id + "pw1", {module(at) + ".0", module(at) + ".1"}, in, in.count() * expansion, kRelu6);
        ++at;
    }
    tensor = b.depthwise(id + "dw", {module(at) + ".0", module(at) + ".1"}, tensor, square(3, stride), kRelu6);
    tensor = b.pointwise(id + "pw2", {module(at + 1), module(at + 2)}, tensor, channels, kNoActivation);
    return stride == 1 && channels == in.count() ? b.add(id + "add", tensor, in) : tensor;
}

/// `percent`: the width multiplier times 100; channels are multiples of `multiple`.
Graph mobilenet_v2(int percent, int multiple, Size input, int classes, std::span<const std::string> outputs) {
    const auto width = [&](int channels) { return make_divisible(channels, percent, multiple); };
    GraphBuilder b("mobilenet_v2", input);
    Tensor tensor =
        b.convolution("stem_conv", {"features.0.0", "features.0.1"}, b.image(), width(32), square(3, 2), kRelu6);
    int number = 0;
    for (const Row &row : kUnits) {
        const int channels = row.expansion == 1 ? std::max(row.channels, width(row.channels)) : width(row.channels);
        for (int i = 0; i < row.units; ++i) {
            tensor = unit(b, number++, tensor, channels, row.expansion, i == 0 ? row.stride : 1);
        }
    }
    const std::string path = "features." + std::to_string(number + 1);
    const int last = make_divisible(1280, std::max(percent, 100), multiple);
    tensor = b.pointwise("head_conv", {path + ".0", path + ".1"}, tensor, last, kRelu6);
    const Tensor pooled = b.global_pool("head_pool", tensor);
    const std::vector<Output> available = {{"logits", b.linear("fc", {"classifier.1", ""}, pooled, classes)}};
    add_outputs(&b, outputs, available, "logits");
    return b.take();
}

PublishedNetwork row(const std::string &name, int percent, int multiple, int crop, int paper_mflops) {
    const auto make = [percent, multiple](Size input, int classes, std::span<const std::string> outputs) {
        return mobilenet_v2(percent, multiple, input, classes, outputs);
    };
    return {.name = name, .crop = crop, .paper_mflops = paper_mflops, .comparison = true, .make = make};
}

const Registration kRows({
    row("mobilenet_v2_x0_15", 15, 2, 224, 39),
    row("mobilenet_v2_x0_4", 40, 2, 160, 43),
    row("mobilenet_v2_x0_6", 60, 4, 224, 141),
    row("mobilenet_v2_x0_75", 75, 4, 192, 145),
    row("mobilenet_v2_x1_0", 100, 8, 224, 301),
    row("mobilenet_v2_x1_4", 140, 8, 224, 587),
});

}  // namespace

}  // namespace shufflenet::networks
