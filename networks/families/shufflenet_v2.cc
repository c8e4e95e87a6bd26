#include "networks/shufflenet_v2.h"

#include <stdexcept>

#include "networks/catalog.h"

namespace shufflenet::networks {

namespace {

[[noreturn]] void refuse(const std::string &member, const std::string &expected, const std::string &found) {
    throw std::invalid_argument(member + ": expected " + expected + ", found " + found);
}

void check_count(const std::string &member, int value, int least, int most) {
    if (value >= least && value <= most) return;
    refuse(member, std::to_string(least) + " to " + std::to_string(most), std::to_string(value));
}

constexpr int kMostStages = 8, kMostUnits = 64, kMostChannels = 8192;

void check_arguments(const ShuffleNetV2 &n) {
    check_count("units", static_cast<int>(n.units.size()), 1, kMostStages);
    if (n.channels.size() != n.units.size() + 1) {
        refuse("channels", "the stem's and one for each of " + std::to_string(n.units.size()) + " stages",
               std::to_string(n.channels.size()));
    }
    for (const int units : n.units) check_count("units", units, 1, kMostUnits);
    check_count("channels", n.channels[0], 1, kMostChannels);
    for (size_t i = 1; i < n.channels.size(); ++i) {
        check_count("channels", n.channels[i], 2, kMostChannels);
        if (n.channels[i] % 2 != 0) refuse("channels", "even numbers for stages", std::to_string(n.channels[i]));
    }
    if (n.conv5 != 0) check_count("conv5", n.conv5, 1, kMostChannels);
    if (n.classes != 0) check_count("classes", n.classes, 1, kMaxClasses);
    check_count("pool_stride", n.pool_stride.height, 1, 2);
    check_count("pool_stride", n.pool_stride.width, 1, 2);
}

/// The units of one stage, and what they start from.
class Stage {
  public:
    Stage(GraphBuilder &builder, int number, int channels, const Activation &activation)
        : b_(builder),
          name_("stage" + std::to_string(number)),
          branch_channels_(channels / 2),
          activation_(activation) {}

    /// Figure 3 (d).
    Tensor down(const Tensor &in) {
        begin(0);
        const Tensor one = b_.depthwise(id_ + "branch1_dw", module("branch1.", 0), in, square(3, 2));
        const Tensor left = b_.pointwise(id_ + "branch1_pw", module("branch1.", 2), one, branch_channels_, activation_);
        return joined(left, branch2(in, 2));
    }
    /// Figure 3 (c).
    Tensor basic(const Tensor &in, int unit) {
        begin(unit);
        const Tensor left = GraphBuilder::slice(in, 0, branch_channels_);
        return joined(left, branch2(GraphBuilder::slice(in, branch_channels_, branch_channels_), 1));
    }

  private:
    void begin(int unit) {
        id_ = name_ + "_unit" + std::to_string(unit) + "_";
        path_ = name_ + "." + std::to_string(unit) + ".";
    }
    /// A convolution, and the normalisation after it.
    GraphBuilder::Module module(const std::string &branch, int number) const {
        return {path_ + branch + std::to_string(number), path_ + branch + std::to_string(number + 1)};
    }
    Tensor branch2(const Tensor &in, int stride) {
        const Tensor one = b_.pointwise(id_ + "branch2_pw1", module("branch2.", 0), in, branch_channels_, activation_);
        const Tensor two = b_.depthwise(id_ + "branch2_dw", module("branch2.", 3), one, square(3, stride));
        return b_.pointwise(id_ + "branch2_pw2", module("branch2.", 5), two, branch_channels_, activation_);
    }
    static Tensor joined(const Tensor &left, const Tensor &right) {
        return GraphBuilder::shuffle(GraphBuilder::concat({left, right}), 2);
    }

    GraphBuilder &b_;
    std::string name_, id_, path_;
    int branch_channels_;
    Activation activation_;
};

}  // namespace

Graph shufflenet_v2(const ShuffleNetV2 &n, Size input) {
    check_arguments(n);
    GraphBuilder b("shufflenet_v2", input);
    std::vector<Output> available;
    const Tensor conv =
        b.convolution("stem_conv", {"conv1.0", "conv1.1"}, b.image(), n.channels[0], square(3, 2), n.activation);
    Window pool = square(3);
    pool.stride = n.pool_stride;
    Tensor tensor = b.max_pool("stem_pool", conv, pool);
    for (size_t i = 0; i < n.units.size(); ++i) {
        const int number = static_cast<int>(i) + 2;
        Stage stage(b, number, n.channels[i + 1], n.activation);
        tensor = stage.down(tensor);
        for (int unit = 1; unit < n.units[i]; ++unit) tensor = stage.basic(tensor, unit);
        available.push_back({"stage" + std::to_string(number), tensor});
    }
    if (n.conv5 > 0) {
        tensor = b.pointwise("conv5", {"conv5.0", "conv5.1"}, tensor, n.conv5, n.activation);
        available.push_back({"conv5", tensor});
    }
    if (n.classes > 0)
        available.push_back({"logits", b.linear("fc", {"fc", ""}, b.global_pool("pool", tensor), n.classes)});
    add_outputs(&b, n.outputs, available, available.back().name);
    return b.take();
}

int64_t paper_flops(const Graph &graph) {
    int64_t flops = total_cost(graph).flops;
    for (const Layer &layer : graph.layers) {
        if (layer.id != "stage2_unit0_branch1_pw") continue;
        const int64_t gap = layer.out_channels - layer.in_channels();
        flops += gap * gap * layer.out.pixels();
    }
    return flops;
}

namespace {

PublishedNetwork row(const std::string &name, const ShuffleNetV2 &network, int resize, int paper_mflops) {
    const auto make = [network](Size input, int classes, std::span<const std::string> outputs) {
        ShuffleNetV2 sized = network;
        sized.classes = classes;
        sized.outputs.assign(outputs.begin(), outputs.end());
        return shufflenet_v2(sized, input);
    };
    return {.name = name, .resize = resize, .paper_mflops = paper_mflops, .test = paper_mflops == 0, .make = make};
}

/// Paper Table 5; short sides from torchvision's weight entries. The others break assumptions about tiles: prime
/// channel counts, stages of one unit; and have what the published ones have not.
const Registration kRows({
    row("shufflenet_v2_x0_5", {{4, 8, 4}, {24, 48, 96, 192}, 1024}, 256, 41),
    row("shufflenet_v2_x1_0", {{4, 8, 4}, {24, 116, 232, 464}, 1024}, 256, 146),
    row("shufflenet_v2_x1_5", {{4, 8, 4}, {24, 176, 352, 704}, 1024}, 232, 299),
    row("shufflenet_v2_x2_0", {{4, 8, 4}, {24, 244, 488, 976}, 2048}, 232, 591),
    row("test_prime", {{2, 3, 1}, {7, 26, 34, 58}, 61}, 32, 0),
    row("test_tiny", {{1, 1, 2}, {1, 2, 2, 6}, 3}, 32, 0),
    row("test_deep", {{9, 2, 12}, {5, 10, 62, 74}, 37}, 32, 0),
    row("test_leaky", {{2, 2}, {9, 14, 30}, 0, 0, leaky_relu(0.1F), {1, 2}}, 32, 0),
});

}  // namespace

}  // namespace shufflenet::networks
