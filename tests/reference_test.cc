// The reference: layers by hand, whole networks against torchvision and PyTorch.
#include "reference/reference.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "golden/golden.h"
#include "networks/shufflenet_v2.h"
#include "reference/random_weights.h"

namespace shufflenet::reference {
namespace {

using networks::Graph;
using networks::GraphBuilder;
using networks::square;
using networks::Window;
using Values = std::vector<double>;
using Floats = std::vector<float>;
const GraphBuilder::Module kModule{"w", ""};

/// 1, 2, 3, ...
Floats counting(int count) {
    Floats values(count);
    std::iota(values.begin(), values.end(), 1.0F);
    return values;
}

/// A 3x3 window that passes one tap on.
Values tap(int ky, int kx) {
    Values window(9, 0.0);
    window[ky * 3 + kx] = 1;
    return window;
}

/// An image, and layers that are made of it one after another.
class Layers {
  public:
    Layers(int channels, int height, int width, Floats image)
        : builder_("layers", {height, width}, channels), image_(std::move(image)) {}

    using Make = std::function<networks::Tensor(GraphBuilder &, const networks::Tensor &image)>;
    /// What the tensor holds, channel after channel, row after row; `weights` in the order of the layers.
    Values compute(const Make &make, const std::vector<LayerWeights> &weights = {}) {
        builder_.output("out", make(builder_, builder_.image()));
        graph_ = builder_.take();
        std::vector<LayerWeights> all(graph_.layers.size());
        size_t next = 0;
        for (size_t i = 0; i < all.size(); ++i) {
            if (graph_.layers[i].has_weights()) all[i] = weights.at(next++);
        }
        return run(graph_, all, image_).at(0).data;
    }

  private:
    GraphBuilder builder_;
    Graph graph_;
    Floats image_;
};

TEST(Layers, TensorIsChannelsRowsColumns) {
    Tensor t(2, 3, 4);
    std::iota(t.data.begin(), t.data.end(), 1.0);
    EXPECT_EQ(t.at(0, 0, 1), 2);
    EXPECT_EQ(t.at(0, 1, 0), 5);
    EXPECT_EQ(t.at(1, 0, 0), 13);
    EXPECT_EQ(t.plane(1)[11], 24);
    EXPECT_TRUE(t.inside(2, 3));
    for (const auto &[y, x] : {std::pair{-1, 0}, {0, -1}, {3, 0}, {0, 4}}) EXPECT_FALSE(t.inside(y, x));
}

Layers::Make convolution(int out_channels, const Window &window, int groups = 1) {
    return [=](GraphBuilder &b, const networks::Tensor &in) {
        return b.convolution("conv", kModule, in, out_channels, window, networks::kNoActivation, groups);
    };
}

TEST(Layers, ConvolutionSumsOverInputChannelsAndWindow) {
    // 2 -> 1 channels, 2x2 image: at stride 1 each output sees the whole image.
    const Floats image = {1, 2, 3, 4, 10, 20, 30, 40};
    Values weights(18, 1.0);
    std::fill(weights.begin() + 9, weights.end(), 0.5);
    EXPECT_EQ(Layers(2, 2, 2, image).compute(convolution(1, square(3)), {{weights, {100}}}), Values(4, 100 + 10 + 50));
    // At stride 2 the one output is centred on (0, 0): only the taps (1..2, 1..2) are inside.
    Values ramp(18);
    std::iota(ramp.begin(), ramp.end(), 0.0);
    EXPECT_EQ(Layers(2, 2, 2, image).compute(convolution(1, square(3, 2)), {{ramp, {0}}}),
              Values{1 * 4 + 2 * 5 + 3 * 7 + 4 * 8 + 10 * 13 + 20 * 14 + 30 * 16 + 40 * 17});
}

TEST(Layers, ConvolutionKeepsOutputChannelsApart) {
    Values weights(2 * 9, 0.0);
    weights[4] = 2, weights[9 + 4] = 3;
    EXPECT_EQ(Layers(1, 1, 2, {5, 7}).compute(convolution(2, square(3)), {{weights, {0, 1}}}),
              (Values{10, 14, 16, 22}));
}

TEST(Layers, ConvolutionOfAnyWindow) {
    struct Row {
        Window window;
        Values weights, expected;
    };
    // A 3x4 image of 1, 2, ..., 12.
    for (const Row &row : {
             Row{{{1, 2}, {1, 1}, {0, 0}}, {1, 10}, {21, 32, 43, 65, 76, 87, 109, 120, 131}},
             {{{2, 1}, {2, 3}, {1, 0}}, {1, 10}, {10, 40, 95, 128}},
             {{{1, 1}, {2, 2}, {0, 0}}, {1}, {1, 3, 9, 11}},
             {{{1, 3}, {3, 1}, {0, 2}}, {0, 0, 1}, {1, 2, 3, 4, 0, 0}},
         }) {
        EXPECT_EQ(Layers(1, 3, 4, counting(12)).compute(convolution(1, row.window), {{row.weights, {0}}}),
                  row.expected);
    }
}

TEST(Layers, ConvolutionOfGroupsReadsItsGroupAlone) {
    const Floats image = {1, 10, 100, 1000};
    // 4 -> 6 channels: three outputs of each half.
    EXPECT_EQ(Layers(4, 1, 1, image)
                  .compute(convolution(6, {}, 2), {{{1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 2, 1}, {0, 0, 0, 0, 0, 5}}}),
              (Values{1, 10, 11, 100, 1000, 1205}));
}

TEST(Layers, DepthwiseReadsItsOwnChannelAtTheRightPlace) {
    const auto filtered = [](const Values &window, int stride) {
        return Layers(1, 3, 4, counting(12)).compute(convolution(1, square(3, stride)), {{window, {0}}});
    };
    EXPECT_EQ(filtered(tap(1, 1), 1), (Values{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
    EXPECT_EQ(filtered(tap(0, 1), 1), (Values{0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}));
    EXPECT_EQ(filtered(tap(1, 2), 1), (Values{2, 3, 4, 0, 6, 7, 8, 0, 10, 11, 12, 0}));
    // Stride 2: centres are the even rows and columns.
    EXPECT_EQ(filtered(tap(1, 1), 2), (Values{1, 3, 9, 11}));
    EXPECT_EQ(filtered(tap(2, 0), 2), (Values{0, 6, 0, 0}));

    Values two(18, 0.0);
    two[4] = 2, two[9 + 4] = -1;
    EXPECT_EQ(Layers(2, 1, 2, counting(4)).compute(convolution(2, square(3), 2), {{two, {10, 20}}}),
              (Values{12, 14, 17, 16}));
}

TEST(Layers, PointwiseIsAMatrixProductPerPixel) {
    EXPECT_EQ(Layers(2, 1, 2, {1, 2, 10, 20}).compute(convolution(3, {}), {{{1, 0, 0, 1, 2, -1}, {0, 0, 5}}}),
              (Values{1, 2, 10, 20, -3, -11}));
}

/// As torch's activations, and max_pool2d: what is not a number stays that.
TEST(Layers, Activations) {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN(),
                     kInfinity = std::numeric_limits<double>::infinity();
    const Values values = {-kInfinity, -8, -0.0, 0, 2, 7, kInfinity};
    struct Row {
        networks::Activation activation;
        Values expected;
    };
    for (const Row &row : {Row{networks::kNoActivation, values},
                           {networks::kRelu, {0, 0, -0.0, 0, 2, 7, kInfinity}},
                           {networks::kRelu6, {0, 0, -0.0, 0, 2, 6, 6}},
                           {networks::leaky_relu(0.25F), {-kInfinity, -2, -0.0, 0, 2, 7, kInfinity}}}) {
        const std::string name = to_string(row.activation);
        for (size_t i = 0; i < values.size(); ++i) {
            EXPECT_EQ(activate(values[i], row.activation), row.expected[i]) << name << " of " << values[i];
        }
        for (const double nan : {kNan, -kNan}) EXPECT_TRUE(std::isnan(activate(nan, row.activation))) << name;
    }
}

TEST(Layers, ActivationComesLast) {
    const std::vector<LayerWeights> weights = {{{-1}, {1}}};
    const auto activated = [&](const networks::Activation &activation) {
        return Layers(1, 1, 3, {0, 3, 9})
            .compute([&](GraphBuilder &b,
                         const networks::Tensor &in) { return b.pointwise("pw", kModule, in, 1, activation); },
                     weights);
    };
    EXPECT_EQ(activated(networks::kNoActivation), (Values{1, -2, -8}));
    EXPECT_EQ(activated(networks::kRelu), (Values{1, 0, 0}));
    EXPECT_EQ(activated(networks::leaky_relu(0.5F)), (Values{1, -1, -4}));
    const auto added = Layers(2, 1, 3, {0, 3, 9, 1, -5, -4}).compute([](GraphBuilder &b, const networks::Tensor &in) {
        return b.add("add", GraphBuilder::slice(in, 0, 1), GraphBuilder::slice(in, 1, 1), networks::kRelu);
    });
    EXPECT_EQ(added, (Values{1, 0, 5}));
}

TEST(Layers, ActivationsAndCopiesOfTheirOwn) {
    EXPECT_EQ(Layers(1, 1, 4, {-2, 0, 3, 9}).compute([](GraphBuilder &b, const networks::Tensor &in) {
        return b.activate("relu6", in, networks::kRelu6);
    }),
              (Values{0, 0, 3, 6}));
    EXPECT_EQ(Layers(4, 1, 1, {1, 2, 3, 4}).compute([](GraphBuilder &b, const networks::Tensor &in) {
        return b.copy("copy", GraphBuilder::shuffle(in, 2));
    }),
              (Values{1, 3, 2, 4}));
}

TEST(Layers, MaxPoolIgnoresThePadding) {
    const Layers::Make pool = [](GraphBuilder &b, const networks::Tensor &in) {
        return b.max_pool("pool", in, square(3, 2));
    };
    EXPECT_EQ(Layers(1, 3, 3, {-9, -8, -7, -6, -5, -4, -3, -2, -1}).compute(pool), (Values{-5, -4, -2, -1}));
    EXPECT_EQ(Layers(2, 2, 2, {1, 2, 3, 4, 8, 7, 6, 5}).compute(pool), (Values{4, 8}));
}

TEST(Layers, MaxPoolShowsWhatIsNotANumber) {
    for (int bad = 0; bad < 9; ++bad) {
        Floats window = counting(9);
        window[bad] = NAN;
        const Values pooled = Layers(1, 3, 3, window).compute([](GraphBuilder &b, const networks::Tensor &in) {
            return b.max_pool("pool", in, square(3, 2));
        });
        for (int i = 0; i < 4; ++i) {
            const bool reached = std::abs(2 * (i / 2) - bad / 3) < 2 && std::abs(2 * (i % 2) - bad % 3) < 2;
            EXPECT_EQ(std::isnan(pooled[i]), reached) << "pixel " << bad << ", output " << i;
        }
    }
}

TEST(Layers, AveragePoolCountsThePaddingOrNot) {
    for (const auto &[counts_padding, expected] :
         {std::pair{true, Values{12.0 / 9, 16.0 / 9, 24.0 / 9, 28.0 / 9}}, {false, {3, 4, 6, 7}}}) {
        const Values pooled = Layers(1, 3, 3, counting(9))
                                  .compute([&, counts = counts_padding](GraphBuilder &b, const networks::Tensor &in) {
                                      return b.average_pool("pool", in, square(3, 2), counts);
                                  });
        EXPECT_EQ(pooled, expected);
    }
}

TEST(Layers, ChannelsAreWhereTensorsSay) {
    const auto taken = [](const std::function<networks::Tensor(const networks::Tensor &)> &take) {
        return Layers(4, 1, 2, counting(8)).compute([&](GraphBuilder &, const networks::Tensor &in) {
            return take(in);
        });
    };
    EXPECT_EQ(taken([](const auto &in) { return GraphBuilder::slice(in, 2, 2); }), (Values{5, 6, 7, 8}));
    EXPECT_EQ(taken([](const auto &in) { return GraphBuilder::shuffle(in, 2); }), (Values{1, 2, 5, 6, 3, 4, 7, 8}));
    EXPECT_EQ(taken([](const auto &in) {
                  return GraphBuilder::concat({GraphBuilder::slice(in, 3, 1), GraphBuilder::slice(in, 0, 1)});
              }),
              (Values{7, 8, 1, 2}));
}

TEST(Layers, GlobalPoolAndLinear) {
    const Values logits =
        Layers(2, 2, 2, {1, 2, 3, 6, 0, 0, 0, -4})
            .compute([](GraphBuilder &b,
                        const networks::Tensor &in) { return b.linear("fc", kModule, b.global_pool("pool", in), 3); },
                     {{{1, 10, -1, 0, 0, 1}, {0, 0, 7}}});
    EXPECT_EQ(logits, (Values{3 - 10, -3, 7 - 1}));
}

/// c -> c layers that change nothing, with `bias` as a mark; a ReLU after them leaves positive values alone.
LayerWeights identity_pointwise(int c, double bias) {
    LayerWeights layer{Values(size_t(c) * c, 0.0), Values(c, bias)};
    for (int i = 0; i < c; ++i) layer.weights[i * c + i] = 1;
    return layer;
}

LayerWeights identity_depthwise(int c) {
    LayerWeights layer{{}, Values(c, 0.0)};
    for (int i = 0; i < c; ++i) std::ranges::copy(tap(1, 1), std::back_inserter(layer.weights));
    return layer;
}

/// Stage 2 of a ShuffleNetV2 whose stem passes the image on; the image's pixels are four apart, as two strides of 2
/// ask.
class Stage {
  public:
    /// `image`: of the stem's channels, of which there are at most three.
    Stage(int stem_channels, int channels, int units, const Floats &image) : image_(size_t{3} * kSide * kSide) {
        const networks::ShuffleNetV2 network{.units = {units}, .channels = {stem_channels, channels}};
        graph_ = networks::shufflenet_v2(network, {kSide, kSide});
        LayerWeights stem{Values(size_t(stem_channels) * 27, 0.0), Values(stem_channels, 0.0)};
        for (int c = 0; c < stem_channels; ++c) stem.weights[size_t(c) * 27 + c * 9 + 4] = 1;
        weights_.push_back(stem);
        weights_.emplace_back();
        for (int c = 0; c < stem_channels; ++c) image_[size_t(c) * kSide * kSide] = image[c];
    }
    Stage &with(const LayerWeights &weights) {
        weights_.push_back(weights);
        return *this;
    }
    /// The first pixel's channels.
    Values first_pixel() const {
        const Tensor out = run(graph_, weights_, image_).at(0);
        Values values;
        for (int c = 0; c < out.channels; ++c) values.push_back(out.at(c, 0, 0));
        return values;
    }

  private:
    static constexpr int kSide = 8;
    Graph graph_;
    std::vector<LayerWeights> weights_;
    Floats image_;
};

/// The downsampling unit, with marks: 10 in branch 1, 100 and 1000 in branch 2.
Stage two_channels(int units) {
    return Stage(2, 4, units, {1, 2})
        .with(identity_depthwise(2))
        .with(identity_pointwise(2, 10))
        .with(identity_pointwise(2, 100))
        .with(identity_depthwise(2))
        .with(identity_pointwise(2, 1000));
}

TEST(Units, DownsamplingUnitInterleavesTwoBranchesOfAllChannels) {
    EXPECT_EQ(two_channels(1).first_pixel(), (Values{11, 1101, 12, 1102}));
}

TEST(Units, BasicUnitComputesOnTheSecondHalfAndInterleaves) {
    Stage stage = two_channels(2);
    stage.with(identity_pointwise(2, 10'000)).with(identity_depthwise(2)).with(identity_pointwise(2, 100'000));
    EXPECT_EQ(stage.first_pixel(), (Values{11, 110'012, 1101, 111'102}));
}

TEST(Units, ReluFollowsBothPointwiseLayersAndNotTheDepthwise) {
    LayerWeights negate = identity_depthwise(1);
    negate.weights[4] = -1;
    const LayerWeights flip{{-1}, {0}}, keep = identity_pointwise(1, 0);
    const auto unit = [&](const LayerWeights &one, const LayerWeights &two, const LayerWeights &three) {
        return Stage(1, 2, 1, {3}).with(identity_depthwise(1)).with(flip).with(one).with(two).with(three).first_pixel();
    };
    // Branch 1's is cut. 3 -> pw 3 -> dw -3 (kept) -> pw 3.
    EXPECT_EQ(unit(keep, negate, flip), (Values{0, 3}));
    EXPECT_EQ(unit(flip, negate, flip), (Values{0, 0}));
    EXPECT_EQ(unit(keep, negate, keep), (Values{0, 0}));
}

Graph published(const std::string &name, int classes, Size size = {32, 32}) {
    return networks::published_network(name, size, classes).value();
}

TEST(Networks, RejectsWhatDoesNotFit) {
    const Graph graph = published("test_tiny", 2);
    std::vector<LayerWeights> layers = random_weights(graph, 1);
    const std::vector<float> input = random_input({32, 32}, 1, 1);
    EXPECT_NO_THROW(run(graph, layers, input));
    EXPECT_THROW(run(published("test_tiny", 2, {32, 33}), layers, input), std::invalid_argument);
    layers.emplace_back();
    EXPECT_THROW(run(graph, layers, input), std::invalid_argument);
}

TEST(Networks, EachOutputIsItsLayers) {
    const Graph graph = golden::load().cases.back().graph();
    const std::vector<LayerWeights> layers = random_weights(graph, 1);
    const std::vector<float> input = random_input(graph.input, 1, 1);
    const std::vector<Tensor> all = run_layers(graph, layers, input), outputs = run(graph, layers, input);
    ASSERT_EQ(all.size(), graph.layers.size());
    ASSERT_EQ(outputs.size(), graph.outputs.size());
    for (size_t o = 0; o < outputs.size(); ++o) {
        const networks::Tensor &tensor = graph.outputs[o].tensor;
        for (int c = 0; c < tensor.count(); ++c) {
            const auto [layer, index] = tensor.channels[c];
            EXPECT_TRUE(std::ranges::equal(outputs[o].plane(c), all[layer].plane(index)));
        }
    }
}

// Golden values are doubles rounded to float: half a unit in the last place, 2^-24 of the value. Sums in another order,
// in double, and the folding of batch normalisation cost about 1e-13 of a tensor's scale over the depth of a network;
// the second term allows 1e-10.
::testing::AssertionResult near_golden(double actual, float golden, double scale) {
    const double error = std::abs(actual - static_cast<double>(golden));
    if (error <= std::abs(static_cast<double>(golden)) * 0x1p-24 + 1e-10 * scale) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << actual << " differs from " << golden << " by " << error;
}

void expect_feature(const Tensor &actual, const golden::Feature &expected) {
    SCOPED_TRACE(expected.name);
    ASSERT_EQ(actual.channels, expected.channels);
    ASSERT_EQ(actual.height, expected.height);
    ASSERT_EQ(actual.width, expected.width);
    const double rms = expected.rms;
    for (size_t i = 0; i < expected.indices.size(); ++i) {
        EXPECT_TRUE(near_golden(actual.data[expected.indices[i]], expected.values[i], rms)) << expected.indices[i];
    }
    const auto [min, max] = std::ranges::minmax(actual.data);
    double sum = 0, squares = 0;
    for (const double value : actual.data) sum += value, squares += value * value;
    const auto elements = static_cast<double>(actual.data.size());
    EXPECT_TRUE(near_golden(min, expected.min, rms));
    EXPECT_TRUE(near_golden(max, expected.max, rms));
    EXPECT_TRUE(near_golden(sum / elements, expected.mean, rms));
    EXPECT_TRUE(near_golden(std::sqrt(squares / elements), expected.rms, rms));
}

/// Sum of (2i + 1) * bits of the i-th float, as make_golden.py has it.
struct Checksum {
    uint64_t sum = 0, i = 0;
    void add(std::span<const float> values) {
        for (const float value : values) sum += (2 * i++ + 1) * std::bit_cast<uint32_t>(value);
    }
};

class GoldenCase : public ::testing::TestWithParam<golden::Case> {};

TEST_P(GoldenCase, WeightsAndInputAreTheSameBits) {
    const golden::Case &c = GetParam();
    Checksum weights, input;
    for (const NamedTensor &t : random_state_dict(c.graph(), c.seed)) weights.add(t.values);
    input.add(random_input(c.input, 1, c.seed));
    EXPECT_EQ(weights.sum, c.weights_checksum);
    EXPECT_EQ(input.sum, c.input_checksum);
}

TEST_P(GoldenCase, ReferenceEqualsTorchvision) {
    const golden::Case &c = GetParam();
    const Graph graph = c.graph();
    const std::vector<Tensor> outputs = run(graph, fold(graph, c.seed), random_input(c.input, 1, c.seed));
    ASSERT_EQ(c.features.size(), 4U);
    ASSERT_EQ(outputs.size(), 5U);
    for (size_t i = 0; i < c.features.size(); ++i) expect_feature(outputs[i], c.features[i]);
    const Values &logits = outputs.back().data;
    ASSERT_EQ(logits.size(), c.logits.size());
    for (size_t i = 0; i < c.logits.size(); ++i) EXPECT_TRUE(near_golden(logits[i], c.logits[i], 1)) << i;
}

INSTANTIATE_TEST_SUITE_P(All, GoldenCase, ::testing::ValuesIn(golden::load().cases),
                         [](const auto &info) { return info.param.name; });

/// tests/golden/comparison.json: what PyTorch computes, for weights and inputs that a seed reproduces.
const nlohmann::json &comparison_cases() {
    static const nlohmann::json cases = [] {
        std::ifstream file(SHUFFLENET_SOURCE_DIR "/tests/golden/comparison.json");
        return nlohmann::json::parse(file).at("cases");
    }();
    return cases;
}

Graph graph_of(const nlohmann::json &c) {
    constexpr int kClasses = 10;
    return published(c.at("network"), kClasses, {c.at("height"), c.at("width")});
}

TEST(Comparison, WeightsAreNamedAsInPyTorch) {
    for (const auto &c : comparison_cases()) {
        std::map<std::string, std::vector<int64_t>> expected, found;
        for (const auto &tensor : c.at("tensors")) expected[tensor[0]] = tensor[1].get<std::vector<int64_t>>();
        for (const auto &t : random_state_dict(graph_of(c), 1)) found[t.name] = t.shape;
        EXPECT_EQ(found, expected) << c.at("network");
    }
}

TEST(Comparison, ReferenceEqualsPyTorch) {
    for (const auto &c : comparison_cases()) {
        const Graph graph = graph_of(c);
        const uint64_t seed = c.at("seed");
        const Values logits = run(graph, fold(graph, seed), random_input(graph.input, 1, seed)).at(0).data;
        const auto expected = c.at("logits").get<Values>();
        const auto [low, high] = std::ranges::minmax(expected);
        ASSERT_EQ(logits.size(), expected.size());
        for (size_t i = 0; i < logits.size(); ++i) {
            // Both are doubles; the file's are rounded to floats.
            EXPECT_NEAR(logits[i], expected[i], 1e-7 * (std::abs(expected[i]) + high - low)) << c.at("network");
        }
    }
}

TEST(RandomWeights, StateDictIsTorchvisions) {
    for (const golden::StateDict &expected : golden::load().state_dicts) {
        const std::vector<NamedTensor> actual = random_state_dict(published(expected.network, 1000), 1);
        ASSERT_EQ(actual.size(), expected.tensors.size());
        for (size_t i = 0; i < actual.size(); ++i) {
            EXPECT_EQ(actual[i].name, expected.tensors[i].name);
            EXPECT_EQ(actual[i].shape, expected.tensors[i].shape) << actual[i].name;
            EXPECT_EQ(actual[i].integer, actual[i].name.ends_with("num_batches_tracked")) << actual[i].name;
        }
    }
}

TEST(RandomWeights, SeedsDifferAndRepeat) {
    const Graph graph = published("test_prime", 5);
    EXPECT_EQ(random_safetensors(graph, 1), random_safetensors(graph, 1));
    EXPECT_NE(random_safetensors(graph, 1), random_safetensors(graph, 2));
    EXPECT_NE(random_safetensors(graph, 1).size(), random_safetensors(graph, 1, true).size());
}

TEST(RandomWeights, AnImageDoesNotDependOnItsBatch) {
    const std::vector<float> one = random_input({32, 40}, 1, 3), three = random_input({32, 40}, 3, 3);
    ASSERT_EQ(three.size(), 3 * one.size());
    EXPECT_TRUE(std::equal(one.begin(), one.end(), three.begin()));
    EXPECT_FALSE(std::equal(one.begin(), one.end(), three.begin() + std::ptrdiff_t(one.size())));
}

TEST(RandomWeights, InputIsNormalised) {
    const std::vector<float> input = random_input({224, 224}, 1, 4);
    double sum = 0, squares = 0;
    for (const double value : input) sum += value, squares += value * value;
    EXPECT_NEAR(sum / double(input.size()), 0, 0.02);
    EXPECT_NEAR(squares / double(input.size()), 1, 0.02);
}

TEST(RandomWeights, VariancesArePositiveAndSomeAreOfTheOrderOfEpsilon) {
    float smallest = 1;
    for (const NamedTensor &t : random_state_dict(published("shufflenet_v2_x0_5", 10), 1)) {
        if (!t.name.ends_with("running_var")) continue;
        for (const float value : t.values) {
            EXPECT_GT(value, 0) << t.name;
            smallest = std::min(smallest, value);
        }
    }
    EXPECT_LT(smallest, 10 * kEpsilon);
}

TEST(RandomWeights, FoldedByHand) {
    const Graph graph = published("test_tiny", 2);
    std::vector<NamedTensor> dict = random_state_dict(graph, 1);
    const auto set = [&](const std::string &name, const std::vector<float> &values) {
        const auto found = std::ranges::find(dict, name, &NamedTensor::name);
        ASSERT_NE(found, dict.end()) << name;
        ASSERT_EQ(found->values.size(), values.size()) << name;
        found->values = values;
    };
    // stage2.0.branch1.2: 1 -> 1 channels; y = 3 x; (y - 5) / sqrt(4 + 1e-5) * 7 + 11
    set("stage2.0.branch1.2.weight", {3});
    set("stage2.0.branch1.3.weight", {7});
    set("stage2.0.branch1.3.bias", {11});
    set("stage2.0.branch1.3.running_mean", {5});
    set("stage2.0.branch1.3.running_var", {4});
    const auto layer = std::ranges::find(graph.layers, "stage2.0.branch1.2", &networks::Layer::module);
    const LayerWeights folded = fold(graph, dict)[layer - graph.layers.begin()];
    EXPECT_DOUBLE_EQ(folded.weights.at(0), 3 * 7 / std::sqrt(4.00001));
    EXPECT_DOUBLE_EQ(folded.bias.at(0), 11 - 5 * 7 / std::sqrt(4.00001));
}

TEST(RandomWeights, RoundedToFloat) {
    const Graph graph = published("test_prime", 4);
    const std::vector<LayerWeights> rounded = random_weights(graph, 9), exact = fold(graph, 9);
    ASSERT_EQ(rounded.size(), graph.layers.size());
    for (size_t row = 0; row < rounded.size(); ++row) {
        ASSERT_EQ(rounded[row].weights.size(), exact[row].weights.size());
        for (size_t i = 0; i < exact[row].weights.size(); ++i) {
            EXPECT_EQ(rounded[row].weights[i], static_cast<float>(exact[row].weights[i]));
        }
    }
}

TEST(Half, KnownValues) {
    const std::vector<std::pair<float, uint16_t>> table = {
        {0.0F, 0x0000},     {-0.0F, 0x8000},      {1.0F, 0x3C00},       {-2.0F, 0xC000},
        {65504.0F, 0x7BFF}, {0x1p-14F, 0x0400},   {0x1p-24F, 0x0001},   {0x1.ff8p-15F, 0x03FF},
        {1.0F / 3, 0x3555}, {2049.0F, 0x6800},    {2051.0F, 0x6802},    {0x1.ffep-15F, 0x0400},
        {0x1p-25F, 0x0000}, {0x1.8p-24F, 0x0002}, {0x1.ffep0F, 0x4000}, {1e6F, 0x7C00},
    };
    for (const auto &[value, half] : table) EXPECT_EQ(detail::to_half(value), half) << value;
}

TEST(Half, EveryFiniteValueRoundTrips) {
    for (uint32_t half = 0; half < 0x10000; ++half) {
        if ((half >> 10 & 31) == 31) continue;
        const auto bits = static_cast<uint16_t>(half);
        EXPECT_EQ(detail::to_half(detail::from_half(bits)), bits);
    }
}

/// A plain reader of the file format: JSON header, then each tensor's bytes where the header says.
std::vector<double> stored_values(const nlohmann::json &entry, std::span<const std::byte> data) {
    const size_t begin = entry.at("data_offsets").at(0), end = entry.at("data_offsets").at(1);
    const std::string dtype = entry.at("dtype");
    const size_t width = dtype == "I64" ? 8 : dtype == "F32" ? 4 : 2;
    EXPECT_EQ(begin % width, 0U);
    std::vector<double> values;
    for (size_t at = begin; at < end; at += width) {
        uint64_t bits = 0;
        std::memcpy(&bits, data.data() + at, width);  // little-endian, as the machines that this runs on
        values.push_back(dtype == "I64"   ? double(bits)
                         : dtype == "F32" ? std::bit_cast<float>(static_cast<uint32_t>(bits))
                                          : detail::from_half(static_cast<uint16_t>(bits)));
    }
    return values;
}

class Safetensors : public ::testing::TestWithParam<bool> {};

TEST_P(Safetensors, HoldsTheStateDict) {
    const bool f16 = GetParam();
    const Graph graph = published("test_prime", 5);
    const std::vector<std::byte> file = random_safetensors(graph, 1, f16);
    uint64_t header_size = 0;
    ASSERT_GT(file.size(), 8U);
    std::memcpy(&header_size, file.data(), 8);
    EXPECT_EQ(header_size % 8, 0U);
    const auto *text = reinterpret_cast<const char *>(file.data() + 8);
    const auto header = nlohmann::json::parse(text, text + header_size);
    const std::span<const std::byte> data = std::span(file).subspan(8 + header_size);

    const std::vector<NamedTensor> dict = random_state_dict(graph, 1, f16);
    EXPECT_EQ(header.size(), dict.size());
    std::set<std::pair<size_t, size_t>> ranges;
    for (const NamedTensor &t : dict) {
        const auto &entry = header.at(t.name);
        EXPECT_EQ(entry.at("dtype"), t.integer ? "I64" : f16 ? "F16" : "F32");
        EXPECT_EQ(entry.at("shape").get<std::vector<int64_t>>(), t.shape);
        EXPECT_EQ(stored_values(entry, data), std::vector<double>(t.values.begin(), t.values.end())) << t.name;
        ranges.emplace(entry.at("data_offsets").at(0), entry.at("data_offsets").at(1));
    }
    size_t covered = 0;  // the format allows neither gaps nor overlaps
    for (const auto &[begin, end] : ranges) {
        EXPECT_EQ(begin, covered);
        covered = end;
    }
    EXPECT_EQ(covered, data.size());
}

INSTANTIATE_TEST_SUITE_P(Types, Safetensors, ::testing::Bool(),
                         [](const auto &info) { return info.param ? "F16" : "F32"; });

}  // namespace
}  // namespace shufflenet::reference
