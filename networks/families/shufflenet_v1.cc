// ShuffleNetV1 and the Xception-like network. Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural
// Network for Mobile Devices", arXiv 1707.01083, Table 1 and figure 2; stem, widths and names of weights as in the
// authors' code (github.com/megvii-model/ShuffleNet-Series, ShuffleNetV1).
//
// "Xception" in the ShuffleNetV2 paper's Table 8 is the light-weight variant of Li et al., "Light-Head R-CNN" (arXiv
// 1711.07264, Table 7), whose code is not public. Taken: what arXiv 1707.01083 calls Xception-like, that is
// ShuffleNetV1 without groups and without shuffle, at that table's widths 144, 288, 576 (x1.0); 24 channels in the
// stem, 12 in that of x0.5, as ShuffleNetV1.
#include "networks/catalog.h"

namespace shufflenet::networks {

namespace {

struct Widths {
    int stem, channels, groups;
};

/// One unit: pointwise, shuffle, depthwise, pointwise; the shortcut is added, or where the unit halves the image its
/// average is put before the unit's own channels.
class Unit {
  public:
    Unit(GraphBuilder &builder, int number)
        : b_(builder),
          id_("unit" + std::to_string(number) + "_"),
          path_("features." + std::to_string(number) + ".branch_main_") {}

    Tensor make(const Tensor &in, int out_channels, int stride, int first_groups, int groups) {
        const int own = stride == 2 ? out_channels - in.count() : out_channels;
        const int middle = out_channels / 4;
        const Tensor average = stride == 2 ? b_.average_pool(id_ + "shortcut", in, square(3, 2)) : Tensor{};
        const Tensor one = b_.pointwise(id_ + "pw1", {path_ + "1.0", path_ + "1.1"}, in, middle, kRelu, first_groups);
        const Tensor two = b_.depthwise(id_ + "dw", {path_ + "1.3", path_ + "1.4"}, one, square(3, stride));
        // The authors' shuffle is the inverse of ShuffleNetV2's; it commutes with what is done channel by channel.
        const Tensor mixed = groups > 1 ? GraphBuilder::shuffle(two, middle / groups) : two;
        const GraphBuilder::Module last{path_ + "2.0", path_ + "2.1"};
        if (stride == 1) {
            return b_.add(id_ + "add", b_.pointwise(id_ + "pw2", last, mixed, own, kNoActivation, groups), in, kRelu);
        }
        return GraphBuilder::concat({average, b_.pointwise(id_ + "pw2", last, mixed, own, kRelu, groups)});
    }

  private:
    GraphBuilder &b_;
    std::string id_, path_;
};

Graph shufflenet_v1(const Widths &w, Size input, int classes, std::span<const std::string> outputs) {
    GraphBuilder b("shufflenet_v1", input);
    const Tensor conv =
        b.convolution("stem_conv", {"first_conv.0", "first_conv.1"}, b.image(), w.stem, square(3, 2), kRelu);
    Tensor tensor = b.max_pool("stem_pool", conv, square(3, 2));
    int number = 0, channels = w.channels;
    for (const int units : {4, 8, 4}) {
        for (int i = 0; i < units; ++i) {
            const int first_groups = number == 0 ? 1 : w.groups;
            tensor = Unit(b, number).make(tensor, channels, i == 0 ? 2 : 1, first_groups, w.groups);
            ++number;
        }
        channels *= 2;
    }
    const Tensor pooled = b.global_pool("head_pool", tensor);
    const std::vector<Output> available = {{"logits", b.linear("fc", {"classifier.0", "", false}, pooled, classes)}};
    add_outputs(&b, outputs, available, "logits");
    return b.take();
}

PublishedNetwork row(const std::string &name, const Widths &widths, int paper_mflops) {
    const auto make = [widths](Size input, int classes, std::span<const std::string> outputs) {
        return shufflenet_v1(widths, input, classes, outputs);
    };
    return {.name = name, .paper_mflops = paper_mflops, .comparison = true, .make = make};
}

const Registration kRows({
    row("shufflenet_v1_x0_5", {12, 120, 3}, 38),
    row("shufflenet_v1_x1_0", {24, 240, 3}, 140),
    row("shufflenet_v1_x1_5", {24, 360, 3}, 292),
    row("shufflenet_v1_x2_0", {48, 480, 3}, 524),
    row("xception_x0_5", {12, 72, 1}, 40),
    row("xception_x1_0", {24, 144, 1}, 145),
    row("xception_x1_5", {24, 216, 1}, 305),
    row("xception_x2_0", {24, 288, 1}, 525),
});

}  // namespace

}  // namespace shufflenet::networks
