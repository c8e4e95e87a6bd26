// The reference: layers by hand, whole networks against torchvision.
#include "reference/reference.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "golden/golden.h"
#include "reference/random_weights.h"

namespace shufflenet::reference {
namespace {

using Values = std::vector<double>;

Tensor tensor(int channels, int height, int width, const Values &data) {
    Tensor t(channels, height, width);
    EXPECT_EQ(t.data.size(), data.size());
    t.data = data;
    return t;
}

/// 1, 2, 3, ...
Tensor counting(int channels, int height, int width) {
    Tensor t(channels, height, width);
    std::iota(t.data.begin(), t.data.end(), 1.0);
    return t;
}

/// A 3x3 window that passes one tap on.
Values tap(int ky, int kx) {
    Values window(9, 0.0);
    window[ky * 3 + kx] = 1;
    return window;
}

TEST(Layers, TensorIsChannelsRowsColumns) {
    const Tensor t = counting(2, 3, 4);
    EXPECT_EQ(t.at(0, 0, 1), 2);
    EXPECT_EQ(t.at(0, 1, 0), 5);
    EXPECT_EQ(t.at(1, 0, 0), 13);
    EXPECT_EQ(t.padded(1, 2, 3, -7), 24);
    for (const auto &[y, x] : {std::pair{-1, 0}, {0, -1}, {3, 0}, {0, 4}}) EXPECT_EQ(t.padded(1, y, x, -7), -7);
}

TEST(Layers, ConvSumsOverInputChannelsAndWindow) {
    // 2 -> 1 channels, 2x2 image: at stride 1 each output sees the whole image.
    const Tensor in = tensor(2, 2, 2, {1, 2, 3, 4, 10, 20, 30, 40});
    Values weights(18, 1.0);
    std::fill(weights.begin() + 9, weights.end(), 0.5);
    EXPECT_EQ(conv3x3(in, weights, Values{100}, 1, 1).data, Values(4, 100 + 10 + 50));
    // At stride 2 the one output is centred on (0, 0): only the taps (1..2, 1..2) are inside.
    Values ramp(18);
    std::iota(ramp.begin(), ramp.end(), 0.0);
    EXPECT_EQ(conv3x3(in, ramp, Values{0}, 1, 2).data,
              Values{1 * 4 + 2 * 5 + 3 * 7 + 4 * 8 + 10 * 13 + 20 * 14 + 30 * 16 + 40 * 17});
}

TEST(Layers, ConvKeepsOutputChannelsApart) {
    Values weights(2 * 9, 0.0);
    weights[4] = 2, weights[9 + 4] = 3;
    EXPECT_EQ(conv3x3(tensor(1, 1, 2, {5, 7}), weights, Values{0, 1}, 2, 1).data, (Values{10, 14, 16, 22}));
}

TEST(Layers, DepthwiseReadsItsOwnChannelAtTheRightPlace) {
    const Tensor in = counting(1, 3, 4);
    EXPECT_EQ(depthwise3x3(in, tap(1, 1), Values{0}, 1).data, in.data);
    EXPECT_EQ(depthwise3x3(in, tap(0, 1), Values{0}, 1).data, (Values{0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}));
    EXPECT_EQ(depthwise3x3(in, tap(1, 2), Values{0}, 1).data, (Values{2, 3, 4, 0, 6, 7, 8, 0, 10, 11, 12, 0}));
    // Stride 2: centres are the even rows and columns.
    EXPECT_EQ(depthwise3x3(in, tap(1, 1), Values{0}, 2).data, (Values{1, 3, 9, 11}));
    EXPECT_EQ(depthwise3x3(in, tap(2, 0), Values{0}, 2).data, (Values{0, 6, 0, 0}));

    Values two(18, 0.0);
    two[4] = 2, two[9 + 4] = -1;
    EXPECT_EQ(depthwise3x3(counting(2, 1, 2), two, Values{10, 20}, 1).data, (Values{12, 14, 17, 16}));
}

TEST(Layers, PointwiseIsAMatrixProductPerPixel) {
    const Tensor in = tensor(2, 1, 2, {1, 2, 10, 20});
    EXPECT_EQ(pointwise(in, Values{1, 0, 0, 1, 2, -1}, Values{0, 0, 5}, 3).data, (Values{1, 2, 10, 20, -3, -11}));
}

TEST(Layers, Relu) { EXPECT_EQ(relu(tensor(1, 1, 3, {-1, 0, 2})).data, (Values{0, 0, 2})); }

/// As torch.relu, clamp and max_pool2d do.
TEST(Layers, WhatIsNotANumberStaysThat) {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN(),
                     kInfinity = std::numeric_limits<double>::infinity();
    const Tensor in = tensor(1, 1, 6, {-kNan, kNan, -kInfinity, kInfinity, 7, -0.0});
    const Values cut = activate(in, Activation::kRelu6).data;
    EXPECT_TRUE(std::isnan(cut[0]) && std::isnan(cut[1]));
    EXPECT_EQ(Values(cut.begin() + 2, cut.end()), (Values{0, 6, 6, 0}));
    for (int bad = 0; bad < 9; ++bad) {
        Tensor window = counting(1, 3, 3);
        window.data[bad] = NAN;
        const Values pooled = max_pool3x3s2(window).data;
        for (int i = 0; i < 4; ++i) {
            const bool reached = std::abs(2 * (i / 2) - bad / 3) < 2 && std::abs(2 * (i % 2) - bad % 3) < 2;
            EXPECT_EQ(std::isnan(pooled[i]), reached) << "pixel " << bad << ", output " << i;
        }
    }
}

TEST(Layers, MaxPoolIgnoresThePadding) {
    const Tensor negative = tensor(1, 3, 3, {-9, -8, -7, -6, -5, -4, -3, -2, -1});
    EXPECT_EQ(max_pool3x3s2(negative).data, (Values{-5, -4, -2, -1}));
    EXPECT_EQ(max_pool3x3s2(tensor(2, 2, 2, {1, 2, 3, 4, 8, 7, 6, 5})).data, (Values{4, 8}));
}

TEST(Layers, ConcatAndSplitAreInverse) {
    const Tensor t = counting(4, 2, 3);
    const auto [a, b] = split(t);
    EXPECT_EQ(a.data, Values(t.data.begin(), t.data.begin() + 12));
    EXPECT_EQ(b.data, Values(t.data.begin() + 12, t.data.end()));
    EXPECT_EQ(concat(a, b).data, t.data);
}

TEST(Layers, ShuffleTransposesGroupsAndChannels) {
    EXPECT_EQ(shuffle(counting(6, 1, 1)).data, (Values{1, 4, 2, 5, 3, 6}));
    EXPECT_EQ(shuffle(counting(6, 1, 1), 3).data, (Values{1, 3, 5, 2, 4, 6}));
    EXPECT_EQ(shuffle(counting(4, 1, 2)).data, (Values{1, 2, 5, 6, 3, 4, 7, 8}));  // whole planes move
    EXPECT_EQ(shuffle(shuffle(counting(6, 1, 1), 2), 3).data, counting(6, 1, 1).data);
}

TEST(Layers, GlobalAverageAndFullyConnected) {
    EXPECT_EQ(global_average(tensor(2, 2, 2, {1, 2, 3, 6, 0, 0, 0, -4})), (Values{3, -1}));
    EXPECT_EQ(fully_connected(Values{2, 3}, Values{1, 10, -1, 0, 0, 1}, Values{0, 0, 7}), (Values{32, -2, 10}));
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

TEST(Units, BasicUnitComputesOnTheSecondHalfAndInterleaves) {
    const std::vector<LayerWeights> layers = {identity_pointwise(2, 100), identity_depthwise(2),
                                              identity_pointwise(2, 1000)};
    EXPECT_EQ(unit(counting(4, 1, 1), false, 2, layers).data, (Values{1, 1103, 2, 1104}));
}

TEST(Units, DownsamplingUnitInterleavesTwoBranchesOfAllChannels) {
    const std::vector<LayerWeights> layers = {identity_depthwise(2), identity_pointwise(2, 10),
                                              identity_pointwise(2, 100), identity_depthwise(2),
                                              identity_pointwise(2, 1000)};
    const Tensor out = unit(tensor(2, 2, 2, {1, 0, 0, 0, 2, 0, 0, 0}), true, 2, layers);
    EXPECT_EQ(out.channels, 4);
    EXPECT_EQ(out.data, (Values{11, 1101, 12, 1102}));
}

TEST(Units, ReluFollowsBothPointwiseLayersAndNotTheDepthwise) {
    LayerWeights negate = identity_depthwise(1);
    negate.weights[4] = -1;
    const LayerWeights flip{{-1}, {0}};
    const Tensor in = tensor(2, 1, 1, {-5, 3});
    // 3 -> pw 3 -> dw -3 (kept) -> pw 3; the identity half keeps its sign.
    EXPECT_EQ(unit(in, false, 1, std::vector{identity_pointwise(1, 0), negate, flip}).data, (Values{-5, 3}));
    EXPECT_EQ(unit(in, false, 1, std::vector{flip, negate, flip}).data, (Values{-5, 0}));
    EXPECT_EQ(unit(in, false, 1, std::vector{identity_pointwise(1, 0), negate, identity_pointwise(1, 0)}).data,
              (Values{-5, 0}));
}

TEST(Networks, RejectsWhatDoesNotFit) {
    const Network &n = kTestNetworks[1];
    std::vector<LayerWeights> layers = random_weights(n, 2, 1);
    const std::vector<float> input = random_input({32, 32}, 1, 1);
    EXPECT_NO_THROW(run(n, {32, 32}, 2, layers, input));
    EXPECT_THROW(run(n, {32, 33}, 2, layers, input), std::invalid_argument);
    EXPECT_THROW(run(n, {32, 32}, 3, layers, input), std::invalid_argument);
    layers.emplace_back();
    EXPECT_THROW(run(n, {32, 32}, 2, layers, input), std::invalid_argument);
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
    for (const NamedTensor &t : random_state_dict(*c.network, c.classes, c.seed)) weights.add(t.values);
    input.add(random_input(c.input, 1, c.seed));
    EXPECT_EQ(weights.sum, c.weights_checksum);
    EXPECT_EQ(input.sum, c.input_checksum);
}

TEST_P(GoldenCase, ReferenceEqualsTorchvision) {
    const golden::Case &c = GetParam();
    const std::vector<LayerWeights> layers = fold(*c.network, c.classes, c.seed);
    const Result r = run(*c.network, c.input, c.classes, layers, random_input(c.input, 1, c.seed));
    ASSERT_EQ(c.features.size(), 4U);
    for (int s = 0; s < kStages; ++s) expect_feature(r.stages[s], c.features[s]);
    expect_feature(r.conv5, c.features[3]);
    ASSERT_EQ(r.logits.size(), c.logits.size());
    for (size_t i = 0; i < c.logits.size(); ++i) EXPECT_TRUE(near_golden(r.logits[i], c.logits[i], 1)) << i;
}

INSTANTIATE_TEST_SUITE_P(All, GoldenCase, ::testing::ValuesIn(golden::load().cases),
                         [](const auto &info) { return info.param.name; });

TEST(RandomWeights, StateDictIsTorchvisions) {
    for (const golden::StateDict &expected : golden::load().state_dicts) {
        const std::vector<NamedTensor> actual = random_state_dict(*expected.network, 1000, 1);
        ASSERT_EQ(actual.size(), expected.tensors.size());
        for (size_t i = 0; i < actual.size(); ++i) {
            EXPECT_EQ(actual[i].name, expected.tensors[i].name);
            EXPECT_EQ(actual[i].shape, expected.tensors[i].shape) << actual[i].name;
            EXPECT_EQ(actual[i].integer, actual[i].name.ends_with("num_batches_tracked")) << actual[i].name;
        }
    }
}

TEST(RandomWeights, SeedsDifferAndRepeat) {
    const Network &n = kTestNetworks[0];
    EXPECT_EQ(random_safetensors(n, 5, 1), random_safetensors(n, 5, 1));
    EXPECT_NE(random_safetensors(n, 5, 1), random_safetensors(n, 5, 2));
    EXPECT_NE(random_safetensors(n, 5, 1).size(), random_safetensors(n, 5, 1, true).size());
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
    for (const NamedTensor &t : random_state_dict(kNetworks[0], 10, 1)) {
        if (!t.name.ends_with("running_var")) continue;
        for (const float value : t.values) {
            EXPECT_GT(value, 0) << t.name;
            smallest = std::min(smallest, value);
        }
    }
    EXPECT_LT(smallest, 10 * kEpsilon);
}

TEST(RandomWeights, FoldedByHand) {
    std::vector<NamedTensor> dict = random_state_dict(kTestNetworks[1], 2, 1);
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
    const LayerWeights folded = fold(kTestNetworks[1], 2, dict)[3];
    EXPECT_DOUBLE_EQ(folded.weights.at(0), 3 * 7 / std::sqrt(4.00001));
    EXPECT_DOUBLE_EQ(folded.bias.at(0), 11 - 5 * 7 / std::sqrt(4.00001));
}

TEST(RandomWeights, RoundedToFloat) {
    const Network &n = kTestNetworks[0];
    const std::vector<LayerWeights> rounded = random_weights(n, 4, 9), exact = fold(n, 4, 9);
    ASSERT_EQ(rounded.size(), network_layers(n, {32, 32}, 4).size());
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
    const Network &n = kTestNetworks[0];
    const std::vector<std::byte> file = random_safetensors(n, 5, 1, f16);
    uint64_t header_size = 0;
    ASSERT_GT(file.size(), 8U);
    std::memcpy(&header_size, file.data(), 8);
    EXPECT_EQ(header_size % 8, 0U);
    const auto *text = reinterpret_cast<const char *>(file.data() + 8);
    const auto header = nlohmann::json::parse(text, text + header_size);
    const std::span<const std::byte> data = std::span(file).subspan(8 + header_size);

    const std::vector<NamedTensor> dict = random_state_dict(n, 5, 1, f16);
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
