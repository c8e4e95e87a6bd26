// Facts of networks/: the families against torchvision and the paper, graphs and what they refuse, kernels as data.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "golden/golden.h"
#include "networks/catalog.h"
#include "networks/graph_text.h"
#include "networks/program.h"
#include "networks/shufflenet_v2.h"

namespace shufflenet::networks {
namespace {

/// What is thrown, if it is an E.
template <typename E>
std::string message_of(const std::function<void()> &call) {
    try {
        call();
    } catch (const E &error) {
        return error.what();
    }
    return "nothing is thrown";
}

Graph published(const PublishedNetwork &row, int classes = kDefaultClasses) {
    return published_network(row.name, {row.crop, row.crop}, classes).value();
}

// catalog.h

TEST(Catalog, NamesAreUniqueAndFound) {
    std::set<std::string> names;
    for (const PublishedNetwork &row : published_networks()) {
        EXPECT_TRUE(names.insert(row.name).second) << row.name;
        EXPECT_EQ(find_published(row.name), &row) << row.name;
        EXPECT_EQ(published(row).name, row.name);
    }
    EXPECT_EQ(find_published("shufflenet_v2_x3_0"), nullptr);
    EXPECT_EQ(find_published(""), nullptr);
    EXPECT_FALSE(published_network("mobilenet_v3", {224, 224}, 1000));
}

TEST(Catalog, FlagshipComesFirstAndTestsLast) {
    std::vector<std::string> names;
    for (const PublishedNetwork &row : published_networks()) {
        if (!row.test) names.push_back(row.name);
    }
    EXPECT_EQ(names, (std::vector<std::string>{
                         "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0",
                         "mobilenet_v1_x0_25", "mobilenet_v1_x0_5",  "mobilenet_v1_x0_75", "mobilenet_v1_x1_0",
                         "mobilenet_v2_x0_15", "mobilenet_v2_x0_4",  "mobilenet_v2_x0_6",  "mobilenet_v2_x0_75",
                         "mobilenet_v2_x1_0",  "mobilenet_v2_x1_4",  "shufflenet_v1_x0_5", "shufflenet_v1_x1_0",
                         "shufflenet_v1_x1_5", "shufflenet_v1_x2_0", "xception_x0_5",      "xception_x1_0",
                         "xception_x1_5",      "xception_x2_0",
                     }));
    for (size_t i = names.size(); i < published_networks().size(); ++i) EXPECT_TRUE(published_networks()[i].test);
}

TEST(Catalog, OutputsAreThoseThatAreNamed) {
    const std::vector<std::string> some = {"logits", "stage3"}, wrong = {"stage3", "stage5"};
    const Graph graph = published_network("shufflenet_v2_x0_5", {32, 32}, 10, some).value();
    ASSERT_EQ(graph.outputs.size(), 2U);
    EXPECT_EQ(graph.outputs[0].name, "logits");
    EXPECT_EQ(graph.find_output("stage3")->tensor.size, (Size{2, 2}));
    EXPECT_EQ(graph.find_output("stage4"), nullptr);
    EXPECT_EQ(published_network("xception_x0_5", {32, 32}, 10)->outputs.at(0).name, "logits");
    EXPECT_EQ(message_of<std::invalid_argument>([&] {
                  published_network("shufflenet_v2_x0_5", {32, 32}, 10, wrong);
              }),
              "outputs: expected some of stage2, stage3, stage4, conv5, logits, found stage5");
    EXPECT_EQ(message_of<std::invalid_argument>([&] {
                  published_network("mobilenet_v1_x0_25", {32, 32}, 10, some);
              }),
              "outputs: expected some of logits, found stage3");
}

// Costs.

struct PublishedCost {
    const char *name;
    int percent;                    ///< How far our definition may be from the paper's complexity.
    double million_parameters = 0;  ///< Of its authors, rounded to one digit; 0: not known.
};

// Table 8 of the ShuffleNetV2 paper is what the catalogue has. Widths and the Xception-like unit had to be guessed (see
// networks/families). Parameters: arXiv 1704.04861, Table 6; torchvision's MobileNet_V2_Weights, and its model's own
// count; the README of ShuffleNetV1's authors.
const PublishedCost kComparisons[] = {
    {"mobilenet_v1_x0_25", 1, 0.5}, {"mobilenet_v1_x0_5", 1, 1.3},  {"mobilenet_v1_x0_75", 1, 2.6},
    {"mobilenet_v1_x1_0", 1, 4.2},  {"mobilenet_v2_x0_15", 2},      {"mobilenet_v2_x0_4", 2},
    {"mobilenet_v2_x0_6", 2},       {"mobilenet_v2_x0_75", 2},      {"mobilenet_v2_x1_0", 2, 3.5},
    {"mobilenet_v2_x1_4", 2, 6.1},  {"shufflenet_v1_x0_5", 2, 0.7}, {"shufflenet_v1_x1_0", 2, 1.9},
    {"shufflenet_v1_x1_5", 2, 3.4}, {"shufflenet_v1_x2_0", 2, 5.4}, {"xception_x0_5", 4},
    {"xception_x1_0", 4},           {"xception_x1_5", 4},           {"xception_x2_0", 4},
};

TEST(Cost, OfComparisonNetworksIsThePublishedOne) {
    constexpr double kMillion = 1e6;
    size_t rows = 0;
    for (const PublishedNetwork &row : published_networks()) rows += row.comparison ? 1 : 0;
    EXPECT_EQ(rows, std::size(kComparisons));
    for (const PublishedCost &expected : kComparisons) {
        const PublishedNetwork *row = find_published(expected.name);
        ASSERT_NE(row, nullptr) << expected.name;
        EXPECT_TRUE(row->comparison);
        const Cost cost = total_cost(published(*row));
        const double paper = row->paper_mflops;
        EXPECT_NEAR(double(cost.flops) / kMillion, paper, paper * expected.percent / 100) << expected.name;
        if (expected.million_parameters == 0) continue;
        EXPECT_NEAR(double(cost.parameters) / kMillion, expected.million_parameters, 0.05) << expected.name;
    }
    EXPECT_EQ(total_cost(published(*find_published("mobilenet_v2_x1_0"))).parameters, 3'504'872);
}

TEST(Cost, OfShuffleNetV2IsThePublishedOne) {
    struct Row {
        const char *name;
        int paper;        ///< Table 5: 10^6 multiply-adds, rounded up.
        int torchvision;  ///< `_ops` of torchvision's weight entries, in 10^6, rounded.
        int64_t parameters;
    };
    for (const Row &row : {Row{"shufflenet_v2_x0_5", 41, 40, 1'366'792},
                           {"shufflenet_v2_x1_0", 146, 145, 2'278'604},
                           {"shufflenet_v2_x1_5", 299, 296, 3'503'624},
                           {"shufflenet_v2_x2_0", 591, 583, 7'393'996}}) {
        const Graph graph = published(*find_published(row.name));
        const Cost cost = total_cost(graph);
        EXPECT_EQ((paper_flops(graph) + 999'999) / 1'000'000, row.paper) << row.name;
        EXPECT_EQ(find_published(row.name)->paper_mflops, row.paper) << row.name;
        EXPECT_EQ((cost.flops + 500'000) / 1'000'000, row.torchvision) << row.name;
        EXPECT_EQ(cost.parameters, row.parameters) << row.name;
    }
}

TEST(Cost, ParametersAreTorchvisions) {
    for (const golden::StateDict &dict : golden::load().state_dicts) {
        int64_t learned = 0;
        for (const auto &[name, shape] : dict.tensors) {
            const bool statistic = name.find("running") != std::string::npos || name.ends_with("tracked");
            if (!statistic) learned += std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
        }
        EXPECT_EQ(total_cost(published(*find_published(dict.network))).parameters, learned) << dict.network;
    }
}

/// Multiply-adds and distinct elements of a layer, counted one by one.
struct Counted {
    int64_t flops = 0;
    std::set<std::tuple<int, int, int>> in, out;
    std::set<std::tuple<int, int, int, int>> weights;
    int64_t mac() const { return int64_t(in.size() + out.size() + weights.size()); }
};

// NOLINTNEXTLINE(readability-function-cognitive-complexity): loops over everything, so that nothing can be wrong.
Counted count(const Layer &layer) {
    const Window &w = layer.window;
    const Size in = layer.in[0].size;
    const int inputs = layer.in_channels() / layer.groups, outputs = layer.out_channels / layer.groups;
    Counted counted;
    for (int co = 0; co < layer.out_channels; ++co) {
        for (int i = 0; i < inputs; ++i) {
            const int ci = co / outputs * inputs + i;
            for (int p = 0; p < layer.out.pixels(); ++p) {
                const int y = p / layer.out.width, x = p % layer.out.width;
                counted.out.emplace(co, y, x);
                for (int tap = 0; tap < w.kernel.pixels(); ++tap) {
                    const int ky = tap / w.kernel.width, kx = tap % w.kernel.width;
                    const int yi = y * w.stride.height + ky - w.padding.height;
                    const int xi = x * w.stride.width + kx - w.padding.width;
                    ++counted.flops;  // padding is multiplied too, as published counts have it
                    counted.weights.emplace(co, i, ky, kx);
                    if (yi >= 0 && yi < in.height && xi >= 0 && xi < in.width) counted.in.emplace(ci, yi, xi);
                }
            }
        }
    }
    return counted;
}

TEST(Cost, EqualsCountingOneByOne) {
    for (const auto &[name, size] :
         {std::pair{"test_tiny", Size{32, 32}}, {"test_prime", {33, 35}}, {"shufflenet_v1_x0_5", {33, 35}}}) {
        Cost total;
        const Graph graph = published_network(name, size, 5).value();
        for (const Layer &layer : graph.layers) {
            SCOPED_TRACE(layer.id);
            if (!layer.has_weights()) {
                EXPECT_EQ(layer.flops(), 0);
                EXPECT_EQ(layer.weight_elements(), 0);
                for (const Tensor &tensor : layer.in) total.mac += int64_t{tensor.size.pixels()} * tensor.count();
                total.mac += int64_t{layer.out.pixels()} * layer.out_channels;
                continue;
            }
            const Counted counted = count(layer);
            EXPECT_EQ(layer.flops(), counted.flops);
            EXPECT_EQ(layer.mac(), counted.mac());
            EXPECT_EQ(layer.weight_elements(), int64_t(counted.weights.size()));
            total.flops += counted.flops;
            total.mac += counted.mac();
        }
        EXPECT_EQ(total_cost(graph).flops, total.flops) << name;
        EXPECT_EQ(total_cost(graph).mac, total.mac) << name;
    }
}

/// The paper's equation 1: what a 1x1 convolution of so many multiply-adds must move, 2 sqrt(hwB) + B / (hw).
double g1_bound(const Layer &layer) {
    const auto pixels = double(layer.out.pixels()), flops = double(layer.flops());
    return 2 * std::sqrt(pixels * flops) + flops / pixels;
}

TEST(Cost, GuidelineG1BoundsPointwiseLayersFromBelow) {
    std::vector<Layer> layers;
    for (const Size size : {Size{1, 1}, {1, 7}, {7, 7}, {28, 28}, {56, 56}}) {
        for (const int c1 : {1, 2, 3, 7, 24, 58, 61, 232, 1024}) {
            for (const int c2 : {1, 2, 5, 24, 58, 122, 1024}) {
                GraphBuilder b("pw", size, c1);
                b.output("out", b.pointwise("pw", {"pw", "bn"}, b.image(), c2, kRelu));
                layers.push_back(b.take().layers.at(0));
            }
        }
    }
    for (const PublishedNetwork &row : published_networks()) {
        const Graph graph = published(row);
        for (const Layer &layer : graph.layers) {
            if (layer.pointwise() && layer.groups == 1) layers.push_back(layer);
        }
    }
    for (const Layer &layer : layers) {
        const double mac = double(layer.mac()), bound = g1_bound(layer), rounding = 1e-12 * mac;
        EXPECT_GE(mac, bound - rounding) << layer.id;
        // Equality exactly if the widths are equal (paper, G1).
        EXPECT_EQ(mac - bound <= rounding, layer.in_channels() == layer.out_channels)
            << layer.id << ": " << layer.in_channels() << " -> " << layer.out_channels;
    }
}

// Layers.

std::vector<golden::NamedShape> expected_tensors(const Graph &graph) {
    std::vector<golden::NamedShape> tensors;
    for (const Layer &layer : graph.layers) {
        if (!layer.has_weights()) continue;
        const int64_t out = layer.out_channels;
        if (layer.norm.empty()) {
            tensors.push_back({layer.module + ".weight", {out, layer.group_channels()}});
            tensors.push_back({layer.module + ".bias", {out}});
            continue;
        }
        tensors.push_back({layer.module + ".weight",
                           {out, layer.group_channels(), layer.window.kernel.height, layer.window.kernel.width}});
        for (const char *field : {".weight", ".bias", ".running_mean", ".running_var"}) {
            tensors.push_back({layer.norm + field, {out}});
        }
        tensors.push_back({layer.norm + ".num_batches_tracked", {}});
    }
    return tensors;
}

TEST(Layers, NamesAndShapesAreTorchvisions) {
    std::set<std::string> networks;
    for (const golden::StateDict &expected : golden::load().state_dicts) {
        networks.insert(expected.network);
        const auto actual = expected_tensors(published(*find_published(expected.network)));
        ASSERT_EQ(actual.size(), expected.tensors.size()) << expected.network;
        for (size_t i = 0; i < actual.size(); ++i) {
            EXPECT_EQ(actual[i].name, expected.tensors[i].name);
            EXPECT_EQ(actual[i].shape, expected.tensors[i].shape) << actual[i].name;
        }
    }
    for (const PublishedNetwork &row : published_networks()) {
        EXPECT_TRUE(row.comparison || row.test || networks.contains(row.name)) << row.name;
    }
}

TEST(Layers, ShapesAreTorchvisions) {
    for (const golden::Case &c : golden::load().cases) {
        SCOPED_TRACE(c.name);
        const Graph graph = c.graph();
        for (const golden::Feature &expected : c.features) {
            const Tensor &found = graph.find_output(expected.name)->tensor;
            EXPECT_EQ(found.size, (Size{expected.height, expected.width})) << expected.name;
            EXPECT_EQ(found.count(), expected.channels) << expected.name;
        }
        EXPECT_EQ(graph.find_output("logits")->tensor.count(), c.classes);
    }
}

TEST(Layers, IdsAreUniqueIdentifiersAndModulesAreUnique) {
    for (const PublishedNetwork &row : published_networks()) {
        std::set<std::string> ids, modules;
        const Graph graph = published(row);
        for (const Layer &layer : graph.layers) {
            EXPECT_TRUE(ids.insert(layer.id).second) << row.name << ": " << layer.id;
            const auto part_of_one = [](char ch) {
                return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '_';
            };
            EXPECT_TRUE(std::ranges::all_of(layer.id, part_of_one)) << layer.id;
            if (!layer.has_weights()) continue;
            EXPECT_TRUE(modules.insert(layer.module).second) << row.name << ": " << layer.module;
        }
    }
}

TEST(Layers, IdsOfShuffleNetV2SayStageUnitAndBranch) {
    const ShuffleNetV2 network{{2, 3, 1}, {7, 26, 34, 58}, 61, 5};
    std::vector<std::string> expected = {"stem_conv", "stem_pool"}, found;
    for (int stage = 2; stage <= 4; ++stage) {
        for (int unit = 0; unit < network.units[stage - 2]; ++unit) {
            const std::string id = "stage" + std::to_string(stage) + "_unit" + std::to_string(unit) + "_";
            for (const char *layer : {"branch1_dw", "branch1_pw"}) {
                if (unit == 0) expected.push_back(id + layer);
            }
            for (const char *layer : {"branch2_pw1", "branch2_dw", "branch2_pw2"}) expected.push_back(id + layer);
        }
    }
    for (const char *layer : {"conv5", "pool", "fc"}) expected.emplace_back(layer);
    const Graph graph = shufflenet_v2(network, {64, 64});
    for (const Layer &layer : graph.layers) found.push_back(layer.id);
    EXPECT_EQ(found, expected);
}

TEST(Layers, ActivationFollowsConvolutionsButNotDepthwiseOnes) {
    for (const Activation &activation : {kRelu, leaky_relu(0.1F), kNoActivation}) {
        ShuffleNetV2 network{{2, 1}, {7, 26, 34}, 61, 5};
        network.activation = activation;
        const Graph graph = shufflenet_v2(network, {64, 64});
        for (const Layer &layer : graph.layers) {
            const bool expected = layer.kind == LayerKind::kConvolution && !layer.depthwise();
            EXPECT_EQ(layer.activation, expected ? activation : kNoActivation) << layer.id;
        }
    }
}

TEST(Layers, KindsHaveNames) {
    std::set<std::string_view> names;
    for (const char *network : {"shufflenet_v2_x0_5", "shufflenet_v1_x0_5"}) {
        const Graph graph = published_network(network, {32, 32}, 10).value();
        for (const Layer &layer : graph.layers) names.insert(layer.kind_name());
    }
    GraphBuilder b("experiment", {2, 2});
    b.output("out", b.copy("copy", b.activate("relu", b.image(), kRelu)));
    const Graph experiment = b.take();
    for (const Layer &layer : experiment.layers) names.insert(layer.kind_name());
    EXPECT_EQ(names, (std::set<std::string_view>{"conv", "depthwise", "pointwise", "max_pool", "average_pool",
                                                 "global_pool", "fully_connected", "add", "activation", "copy"}));
}

// shufflenet_v2.h

TEST(ShuffleNetV2, WhatDoesNotFitIsRefused) {
    struct Row {
        std::function<void(ShuffleNetV2 &)> change;
        const char *message;
    };
    const Row rows[] = {
        {[](auto &n) { n.units = {}; }, "units: expected 1 to 8, found 0"},
        {[](auto &n) { n.units = {1, 1, 1, 1, 1, 1, 1, 1, 1}; }, "units: expected 1 to 8, found 9"},
        {[](auto &n) {
             n.units = {4, 0, 4};
         },
         "units: expected 1 to 64, found 0"},
        {[](auto &n) {
             n.units = {4, 65, 4};
         },
         "units: expected 1 to 64, found 65"},
        {[](auto &n) {
             n.channels = {24, 48, 96};
         },
         "channels: expected the stem's and one for each of 3 stages, found 3"},
        {[](auto &n) { n.channels = {}; }, "channels: expected the stem's and one for each of 3 stages, found 0"},
        {[](auto &n) { n.channels[0] = 0; }, "channels: expected 1 to 8192, found 0"},
        {[](auto &n) { n.channels[1] = 0; }, "channels: expected 2 to 8192, found 0"},
        {[](auto &n) { n.channels[2] = 8194; }, "channels: expected 2 to 8192, found 8194"},
        {[](auto &n) { n.channels[3] = 57; }, "channels: expected even numbers for stages, found 57"},
        {[](auto &n) { n.conv5 = -1; }, "conv5: expected 1 to 8192, found -1"},
        {[](auto &n) { n.classes = -1; }, "classes: expected 1 to 100000, found -1"},
        {[](auto &n) { n.classes = 100'001; }, "classes: expected 1 to 100000, found 100001"},
        {[](auto &n) {
             n.pool_stride = {3, 1};
         },
         "pool_stride: expected 1 to 2, found 3"},
        {[](auto &n) {
             n.pool_stride = {1, 0};
         },
         "pool_stride: expected 1 to 2, found 0"},
        {[](auto &n) { n.outputs = {"stage5"}; },
         "outputs: expected some of stage2, stage3, stage4, conv5, logits, found stage5"},
        {[](auto &n) {
             n.conv5 = n.classes = 0;
             n.outputs = {"logits"};
         },
         "outputs: expected some of stage2, stage3, stage4, found logits"},
    };
    for (const Row &row : rows) {
        ShuffleNetV2 network{{4, 8, 4}, {24, 48, 96, 192}, 1024, 1000};
        row.change(network);
        EXPECT_EQ(message_of<std::invalid_argument>([&] { shufflenet_v2(network, {64, 64}); }), row.message);
    }
}

TEST(ShuffleNetV2, WithoutNamesTheOutputIsTheLast) {
    ShuffleNetV2 network{{1, 1}, {8, 20, 36}};
    const auto outputs = [&] {
        std::string names;
        const Graph graph = shufflenet_v2(network, {64, 64});
        for (const Output &output : graph.outputs) names += output.name + " ";
        return names;
    };
    EXPECT_EQ(outputs(), "stage3 ");
    network.conv5 = 40;
    EXPECT_EQ(outputs(), "conv5 ");
    network.classes = 3;
    EXPECT_EQ(outputs(), "logits ");
    network.conv5 = 0;
    EXPECT_EQ(outputs(), "logits ") << "of the last stage's mean";
    network.outputs = {"stage3", "stage2"};
    EXPECT_EQ(outputs(), "stage3 stage2 ");
}

TEST(ShuffleNetV2, WhatNoOutputNeedsIsNotThere) {
    ShuffleNetV2 network{{1, 2}, {8, 20, 36}, 40, 3};
    network.outputs = {"stage2"};
    const Graph graph = shufflenet_v2(network, {64, 64});
    EXPECT_EQ(graph.layers.back().id, "stage2_unit0_branch2_pw2");
}

TEST(ShuffleNetV2, PoolStrideDecidesTheStagesSizes) {
    for (const auto &[stride, size] : {std::pair{Size{2, 2}, Size{8, 12}}, {{1, 2}, {16, 12}}, {{1, 1}, {16, 23}}}) {
        ShuffleNetV2 network{{1}, {8, 20}};
        network.pool_stride = stride;
        EXPECT_EQ(shufflenet_v2(network, {61, 91}).outputs[0].tensor.size, size);
    }
}

// graph.h

TEST(Activations, AreTheirText) {
    for (const auto &[activation, text] : {std::pair{kNoActivation, "none"},
                                           {kRelu, "relu"},
                                           {kRelu6, "relu6"},
                                           {leaky_relu(0.1F), "leaky_relu:0.1"},
                                           {leaky_relu(0.01F), "leaky_relu:0.01"},
                                           {leaky_relu(0), "leaky_relu:0"},
                                           {leaky_relu(-2), "leaky_relu:-2"},
                                           {leaky_relu(1e-10F), "leaky_relu:1e-10"}}) {
        EXPECT_EQ(to_string(activation), text);
        Activation parsed;
        EXPECT_TRUE(parse_activation(text, &parsed)) << text;
        EXPECT_EQ(parsed, activation) << text;
    }
    for (const char *text :
         {"", "Relu", "relu ", "relu7", "leaky_relu", "leaky_relu:", "leaky_relu:x", "leaky_relu:0.1x",
          "leaky_relu:nan", "leaky_relu:inf", "leaky_relu: 0.1", "leaky_relu:1e99"}) {
        Activation untouched = kRelu6;
        EXPECT_FALSE(parse_activation(text, &untouched)) << text;
        EXPECT_EQ(untouched, kRelu6) << text;
    }
}

TEST(Windows, SizeCountsTheWindowsOfAPaddedRow) {
    for (int size = 1; size <= 40; ++size) {
        for (int kernel = 1; kernel <= 7; ++kernel) {
            for (int stride = 1; stride <= 3; ++stride) {
                for (int padding = 0; padding < kernel; ++padding) {
                    int windows = 0;
                    for (int begin = -padding; begin + kernel <= size + padding; begin += stride) ++windows;
                    const Window rows{{kernel, 1}, {stride, 1}, {padding, 0}},
                        columns{{1, kernel}, {1, stride}, {0, padding}};
                    ASSERT_EQ(window_size(rows, {size, 5}), (Size{windows, 5}));
                    ASSERT_EQ(window_size(columns, {5, size}), (Size{5, windows}));
                }
            }
        }
    }
}

TEST(Windows, RoundUpIsTheSmallestMultipleNotBelow) {
    for (int multiple = 1; multiple <= 17; ++multiple) {
        for (int value = 0; value <= 100; ++value) {
            const int rounded = round_up(value, multiple);
            EXPECT_EQ(rounded % multiple, 0);
            EXPECT_GE(rounded, value);
            EXPECT_LT(rounded - value, multiple);
            EXPECT_EQ(round_up(int64_t{value} << 32, int64_t{multiple} << 32), int64_t{rounded} << 32);
        }
    }
}

/// The channels' numbers in the image.
std::vector<int> indices(const Tensor &tensor) {
    std::vector<int> all;
    for (const Channel &channel : tensor.channels) all.push_back(channel.index);
    return all;
}

TEST(Builder, PermutesChannelsWithoutLayers) {
    GraphBuilder b("six", {2, 3}, 6);
    const Tensor x = b.image();
    const Tensor first = GraphBuilder::slice(x, 0, 3), second = GraphBuilder::slice(x, 3, 3);
    using Channels = std::vector<int>;
    EXPECT_EQ(indices(first), (Channels{0, 1, 2}));
    EXPECT_EQ(indices(GraphBuilder::slice(x, 1, 3, 2)), (Channels{1, 3, 5}));
    EXPECT_EQ(GraphBuilder::concat({first, second}), x);
    EXPECT_EQ(indices(GraphBuilder::concat({second, first, first})), (Channels{3, 4, 5, 0, 1, 2, 0, 1, 2}));
    // torchvision's channel_shuffle.
    EXPECT_EQ(indices(GraphBuilder::shuffle(x, 2)), (Channels{0, 3, 1, 4, 2, 5}));
    EXPECT_EQ(indices(GraphBuilder::shuffle(x, 3)), (Channels{0, 2, 4, 1, 3, 5}));
    EXPECT_EQ(GraphBuilder::shuffle(GraphBuilder::shuffle(x, 2), 3), x);
    EXPECT_EQ(indices(GraphBuilder::permute(x, {5, 0, 0})), (Channels{5, 0, 0}));
    EXPECT_THROW(GraphBuilder::slice(x, 4, 3), std::out_of_range);
    EXPECT_THROW(GraphBuilder::permute(x, {6}), std::out_of_range);
    b.output("out", GraphBuilder::shuffle(x, 2));
    EXPECT_TRUE(b.take().layers.empty());
}

TEST(Builder, RefusesAConcatenationOfDifferentSizes) {
    GraphBuilder b("two", {4, 4});
    const Tensor half = b.max_pool("pool", b.image(), square(3, 2));
    EXPECT_EQ(message_of<std::logic_error>([&] {
                  GraphBuilder::concat({b.image(), half});
              }),
              "a concatenation of different sizes");
}

/// conv -> depthwise -> add with conv, pool -> global pool -> fc.
Graph small_graph() {
    GraphBuilder b("small", {6, 5});
    const Tensor x = b.convolution("conv", {"conv", "bn"}, b.image(), 6, square(3, 2), kRelu);
    const Tensor y = b.depthwise("dw", {"dw", "bn2"}, x, square(3));
    const Tensor sum = b.add("sum", x, y);
    b.output("features", sum);
    b.output("logits", b.linear("fc", {"fc", ""}, b.global_pool("mean", sum), 4));
    return b.take();
}

TEST(Graphs, WhatDoesNotHoldTogetherIsRefused) {
    enum { kConv, kDw, kSum, kMean, kFc };
    struct Row {
        std::function<void(Graph &)> change;
        const char *message;
    };
    const Row rows[] = {
        {[](Graph &g) { g.layers[kConv].in[0].channels.clear(); }, "layer conv: reads no channels"},
        {[](Graph &g) { g.layers[kDw].in[0] = g.tensor(kDw); }, "layer dw: reads what is computed later"},
        {[](Graph &g) { g.layers[kDw].in[0].channels[1].layer = kFc; }, "layer dw: reads what is computed later"},
        {[](Graph &g) { g.layers[kDw].in[0].channels[1].index = 6; }, "layer dw: reads a channel that there is not"},
        {[](Graph &g) { g.layers[kConv].in[0].channels[1].index = -1; },
         "layer conv: reads a channel that there is not"},
        {[](Graph &g) {
             g.layers[kDw].in[0].channels[2] = {kImage, 0};
         },
         "layer dw: reads channels of 6x5 as 3x3"},
        {[](Graph &g) { g.layers[kDw].groups = 4; }, "layer dw: 4 groups do not divide 6 and 6 channels"},
        {[](Graph &g) { g.layers[kDw].groups = 0; }, "layer dw: 0 groups do not divide 6 and 6 channels"},
        {[](Graph &g) { g.layers[kConv].out_channels = 0; }, "layer conv: computes nothing"},
        {[](Graph &g) {
             g.layers[kConv].out = {0, 3};
         },
         "layer conv: computes nothing"},
        {[](Graph &g) { g.layers[kSum].in.pop_back(); }, "layer sum: expected 2 inputs"},
        {[](Graph &g) { g.layers[kDw].in.push_back(g.tensor(kConv)); }, "layer dw: expected 1 inputs"},
        {[](Graph &g) { g.layers[kSum].in[1].channels.pop_back(); }, "layer sum: adds different shapes"},
        {[](Graph &g) { g.layers[kMean].out_channels = 5; }, "layer mean: expected as many channels as it reads"},
        {[](Graph &g) { g.layers[kFc].in[0] = g.tensor(kSum); }, "layer fc: expected one pixel, found 3x3"},
        {[](Graph &g) { g.layers[kDw].id = "conv"; }, "layer conv: there is another of this name"},
        {[](Graph &g) { g.outputs.clear(); }, "small: has no output"},
        {[](Graph &g) { g.outputs[0].tensor.channels.clear(); }, "layer output features: reads no channels"},
        {[](Graph &g) { g.outputs[1].name = "features"; }, "layer output features: there is another of this name"},
    };
    for (const Row &row : rows) {
        Graph graph = small_graph();
        ASSERT_NO_THROW(check(graph));
        row.change(graph);
        EXPECT_EQ(message_of<std::logic_error>([&] { check(graph); }), row.message);
    }
}

TEST(Graphs, WhatNoOutputNeedsIsTakenAway) {
    Graph graph = small_graph();
    graph.outputs.erase(graph.outputs.begin());
    remove_unread(&graph);
    EXPECT_EQ(graph.layers.size(), 5U) << "logits need them all";
    graph = small_graph();
    graph.outputs.pop_back();
    remove_unread(&graph);
    EXPECT_EQ(graph.layers.size(), 3U);
    // Of two branches the first goes, and the numbers of what stays are others.
    GraphBuilder b("two", {4, 4});
    b.max_pool("unread", b.image(), square(3));
    b.output("out", b.max_pool("pool2", b.max_pool("pool1", b.image(), square(3)), square(3)));
    graph = b.take();
    ASSERT_EQ(graph.layers.size(), 2U);
    EXPECT_EQ(graph.layers[1].in[0], graph.tensor(0));
    EXPECT_EQ(graph.outputs[0].tensor, graph.tensor(1));
}

TEST(GraphText, WhatIsNotWrittenIsNotRead) {
    const std::string good =
        "graph g 4 5 3\nmax_pool pool - - 1 3 4 5 3 3 1 1 1 1 1 none 1 0 0 0 4x5:i.0+3\noutput out 4x5:0.2,0.0\n"
        "output flat 4x5:0.0+3 pixels 20 3\n";
    ASSERT_EQ(graph_to_text(graph_from_text(good)), good);
    struct Row {
        const char *from, *to, *message;
    };
    const Row rows[] = {
        {"graph", "grap", "line 1 of a graph: expected 'graph'"},
        {"g 4 5 3", "g 4 x 3", "line 1 of a graph: expected the input's size"},
        {"g 4 5 3", "g 4 5", "line 1 of a graph: expected the image's channels"},
        {"max_pool", "min_pool", "line 2 of a graph: expected a layer or an output"},
        {"none", "relu9", "line 2 of a graph: expected an activation"},
        {"pool - - 1", "pool - - -1", "line 2 of a graph: expected whether there is a bias"},
        {"none 1 0 0 0", "none 1 2 0 0", "line 2 of a graph: expected how it is resized"},
        {"none 1 0 0 0", "none 1 0 3 0", "line 2 of a graph: expected coordinates"},
        {"none 1 0 0 0", "none 1 0 0 4", "line 2 of a graph: expected a rounding"},
        {"4x5:i", "4*5:i", "line 2 of a graph: expected 'x'"},
        {"i.0+3", "i.0+", "line 2 of a graph: expected a number of channels"},
        {"i.0+3", "i.0+9999999", "line 2 of a graph: expected fewer channels"},
        {"i.0+3", "i0+3", "line 2 of a graph: expected '.'"},
        {"pixels", "images", "line 4 of a graph: expected 'pixels' or 'channels'"},
        {"20 3", "20 x", "line 4 of a graph: expected an extent"},
        {"0.2,0.0", "0.2;0.0", "line 3 of a graph: expected ','"},
        {"output out", "output", "line 3 of a graph: expected a tensor"},
        {"0.2,0.0", "0.2,0.3", "a graph as text: layer output out: reads a channel that there is not"},
        {"0.2,0.0", "0.2,1.0", "a graph as text: layer output out: reads what is computed later"},
    };
    for (const Row &row : rows) {
        std::string text = good;
        text.replace(text.find(row.from), std::string(row.from).size(), row.to);
        EXPECT_EQ(message_of<std::invalid_argument>([&] { graph_from_text(text); }), row.message) << text;
    }
    EXPECT_THROW(graph_from_text(""), std::invalid_argument);
}

// panels.h

constexpr VectorUnit kWide = {.vec = 16, .wide_tiles = true};

struct PartsCase {
    int channels;
    VectorUnit machine;
    std::vector<ChannelPart> parts;
};

TEST(Panels, ChannelPartsCoverTheChannels) {
    const PartsCase rows[] = {
        {64, {16}, {{0, 64, 16}}},
        {64, {4}, {{0, 64, 16}}},
        {58, {16}, {{0, 64, 16}}},
        {58, {8}, {{0, 64, 16}}},
        {58, {4}, {{0, 48, 16}, {48, 12, 4}}},  // Three vectors of four, not sixteen lanes.
        {56, {16}, {{0, 48, 16}, {48, 8, 8}}},
        {56, {4}, {{0, 48, 16}, {48, 8, 8}}},
        {116, {16}, {{0, 112, 16}, {112, 4, 4}}},
        {61, {4}, {{0, 64, 16}}},
        {7, {16}, {{0, 8, 8}}},
        {11, {16}, {{0, 16, 16}}},
        {11, {4}, {{0, 12, 4}}},
        {1, {4}, {{0, 4, 4}}},
        {1, kWide, {{0, 16, 16}}},
        {24, kWide, {{0, 32, 16}}},
        {112, kWide, {{0, 48, 16}, {48, 64, 16}}},  // Seven vectors: one tile of three and two of two.
        {116, kWide, {{0, 128, 16}}},
        {176, kWide, {{0, 144, 16}, {144, 32, 16}}},
        {232, kWide, {{0, 240, 16}}},
        {488, kWide, {{0, 432, 16}, {432, 64, 16}}},
    };
    for (const PartsCase &row : rows) {
        SCOPED_TRACE(std::to_string(row.channels) + " channels, vectors of " + std::to_string(row.machine.vec));
        const std::vector<ChannelPart> found = channel_parts(row.channels, 16, row.machine);
        ASSERT_EQ(found.size(), row.parts.size());
        for (size_t i = 0; i < found.size(); ++i) {
            EXPECT_EQ(found[i].first, row.parts[i].first);
            EXPECT_EQ(found[i].lanes, row.parts[i].lanes);
            EXPECT_EQ(found[i].vec, row.parts[i].vec);
        }
    }
}

TEST(Panels, WideTilesDivideTheirParts) {
    for (int channels = 17; channels <= 2048; ++channels) {
        int lanes = 0;
        for (const ChannelPart &part : channel_parts(channels, 16, kWide)) {
            EXPECT_EQ(part.first, lanes) << channels;
            EXPECT_EQ(part.vec, 16) << channels;
            const int vectors = part.lanes / 16;
            EXPECT_TRUE(vectors % 2 == 0 || vectors % 3 == 0) << channels << ": " << vectors;
            lanes += part.lanes;
        }
        EXPECT_EQ(lanes, round_up(channels, 16)) << "planes have no room for more";
    }
}

// kernel.h and program.h, of all networks: small, and as published.

const std::vector<Program> &programs() {
    static const std::vector<Program> all = [] {
        std::vector<Program> made;
        for (const PublishedNetwork &row : published_networks()) {
            const auto add = [&](Size size, const PlanOptions &options) {
                made.push_back(make_program(published_network(row.name, size, kDefaultClasses).value(), options));
            };
            add({33, 47}, {.fuse = false});
            add({33, 47}, {.expand_apart = true});
            add({row.crop, row.crop}, {});
            add({kMaxInput, kMaxInput}, {});
        }
        return made;
    }();
    return all;
}

const std::set<Kernel> &kernels() {
    static const std::set<Kernel> all = [] {
        std::set<Kernel> found;
        for (const Program &program : programs()) found.insert(program.kernels.begin(), program.kernels.end());
        return found;
    }();
    return all;
}

TEST(Kernels, HaveKeysOfTheirOwn) {
    std::map<std::string, Kernel> keys;
    for (Kernel kernel : kernels()) {
        const std::string found = key(kernel);
        // Tuned numbers do not depend on them.
        kernel.quads = 0;
        EXPECT_EQ(keys.try_emplace(found, kernel).first->second, kernel) << found;
        const auto part_of_one = [](char ch) {
            return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '_';
        };
        EXPECT_TRUE(std::ranges::all_of(found, part_of_one)) << found;
    }
}

/// Floats [begin, end) of a blob.
struct Section {
    int64_t begin, end;
};

void expect_layout(const Kernel &kernel) {
    std::vector<Section> sections;
    for (const WeightLayout &l : weight_layouts(kernel)) {
        ASSERT_EQ(l.panel % kLineFloats, 0);
        ASSERT_EQ(l.lanes % l.panel, 0);
        for (int group = 0; group < l.groups; ++group) {
            const int64_t first = static_cast<int64_t>(group) * l.stride, bias = l.bias + first,
                          weights = l.weights + first;
            sections.push_back({bias, bias + l.lanes});
            sections.push_back({weights, weights + int64_t{l.lanes} * l.rows});
        }
        // Each float of a group once; lanes of a panel side by side.
        std::vector<bool> seen(size_t(l.lanes) * l.rows);
        for (int lane = 0; lane < l.lanes; ++lane) {
            for (int row = 0; row < l.rows; ++row) {
                const int at = l.index(l.groups - 1, lane, row) - l.weights - (l.groups - 1) * l.stride;
                ASSERT_TRUE(at >= 0 && size_t(at) < seen.size() && !seen[at]);
                seen[at] = true;
                ASSERT_EQ(at % l.panel, lane % l.panel) << "vector loads are aligned";
            }
        }
    }
    int64_t at = 0;
    for (const Section &section : sections) {
        ASSERT_EQ(section.begin, at) << "no gaps, no overlaps";
        ASSERT_EQ(section.begin % kLineFloats, 0) << "sections begin at lines";
        at = section.end;
    }
    ASSERT_EQ(weight_floats(kernel), at);
}

TEST(Kernels, BlobsHaveRoomForEveryWeightOnce) {
    for (const Kernel &kernel : kernels()) {
        SCOPED_TRACE(key(kernel));
        expect_layout(kernel);
        if (HasFatalFailure()) return;
    }
}

TEST(Kernels, BlobOfALinearLayerFollowsItsClasses) {
    for (Kernel kernel : kernels()) {
        if (kernel.kind != KernelKind::kLinear) continue;
        for (const int classes : {1, 10, 64, 65, 1000}) {
            kernel.lanes = classes;
            EXPECT_EQ(linear_layout(kernel.in_channels, classes, kernel.element).end(), weight_floats(kernel))
                << classes;
        }
    }
}

/// A pixel's planes hold what is computed, and no plane of the output is of two parts.
void expect_parts(const std::vector<ChannelPart> &parts, int lanes) {
    ASSERT_TRUE(parts.size() == 1 || parts.size() == 2);
    int at = 0;
    for (const ChannelPart &part : parts) {
        ASSERT_EQ(part.first, at);
        ASSERT_EQ(part.lanes % part.vec, 0);
        ASSERT_EQ(kPlane % part.vec, 0);
        at += part.lanes;
    }
    ASSERT_GE(at, lanes);
    ASSERT_LE(at, planes_of(lanes) * kPlane);
    ASSERT_EQ(parts.back().first % kPlane, 0);
}

TEST(Kernels, PartsCoverTheLanesInWholePlanes) {
    for (const Kernel &kernel : kernels()) {
        SCOPED_TRACE(key(kernel));
        for (const VectorUnit &machine : {VectorUnit{4}, {8}, {16}, kWide}) {
            if (kernel.kind != KernelKind::kLinear) expect_parts(out_parts(kernel, machine), kernel.lanes);
            if (kernel.middle > 0) expect_parts(middle_parts(kernel, machine), kernel.middle);
            if (HasFatalFailure()) return;
        }
    }
}

TEST(Programs, OperandsFitWhereCallsHaveThem) {
    for (const Program &program : programs()) {
        SCOPED_TRACE(program.graph.name + ", " + std::to_string(program.graph.input.height) + " rows");
        int table = 0;
        int64_t weights = 0;
        for (const Call &call : program.calls) {
            const Kernel &kernel = program.kernels[call.kernel];
            EXPECT_EQ(call.table % kLineFloats, 0) << call.id;
            EXPECT_GE(call.table, table) << call.id;
            table = call.table + table_layout(kernel).size();
            EXPECT_EQ(call.weights, weights) << call.id << ": in the order of a run, without gaps";
            weights += weight_floats(kernel);
            const int64_t floats = int64_t{kernel.groups} * kernel.planes() * kPlane * kernel.out.pixels();
            if (call.destination == Destination::kArena) {
                EXPECT_EQ(call.out % kPlane, 0) << call.id;
                EXPECT_LE(call.out + floats, program.arena_floats) << call.id;
            } else if (call.destination == Destination::kRow) {
                EXPECT_LE(call.out + floats, program.row_floats) << call.id;
            }
            const TableLayout sections = table_layout(kernel);
            const int last = (kernel.in.pixels() - 1) * kPlane;
            if (kernel.kind == KernelKind::kLinear) continue;
            for (int i = 0; i < sections.planes + sections.channels; ++i) {
                const int64_t offset = program.tables[call.table + i];
                EXPECT_GE(offset, 0) << call.id;
                EXPECT_LT(offset + last, program.arena_floats) << call.id;
                EXPECT_TRUE(i >= sections.planes || offset % kPlane == 0) << call.id;
            }
        }
        EXPECT_LE(table, std::ssize(program.tables));
        EXPECT_EQ(weights, program.weight_floats);
        EXPECT_EQ(program.row_floats % kLineFloats, 0);
    }
}

TEST(Programs, ArenaOfTheLargestInputIsCountedInInts) {
    for (const Program &program : programs()) {
        // Nothing is computed in place: some kernel's input and output are there at once.
        int64_t most = 0;
        for (const Call &call : program.calls) {
            const Kernel &kernel = program.kernels[call.kernel];
            if (call.destination != Destination::kArena) continue;
            most = std::max(most, int64_t{kernel.groups} * kernel.planes() * kPlane * kernel.out.pixels());
        }
        EXPECT_GE(program.arena_floats, most) << program.graph.name;
        EXPECT_LE(most, std::numeric_limits<int>::max() / 2) << program.graph.name;
    }
}

}  // namespace
}  // namespace shufflenet::networks
