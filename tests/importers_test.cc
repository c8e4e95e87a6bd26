// importers/: which channel is which between a file's graph and the network's, and which network a weight file is of.
// Whole ONNX files: onnx_test.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "importers/megvii.h"
#include "importers/recognise.h"
#include "importers/weights.h"
#include "networks/catalog.h"
#include "reference/random_weights.h"
#include "reference/reference.h"

namespace shufflenet {
namespace {

using networks::Graph;
using networks::ShuffleNetV2;

constexpr Size kInput{33, 47};
const std::string kFileName = "some.file";

/// Widths and depths that nobody published.
const std::vector<ShuffleNetV2> kNetworks = {
    {{4, 8, 4}, {24, 48, 96, 192}, 64, 7}, {{2, 3, 1}, {7, 26, 34, 58}, 61, 5}, {{9, 2, 12}, {5, 10, 62, 74}, 37, 3},
    {{1, 1, 2}, {2, 4, 4, 6}, 3, 2},       {{3, 5}, {8, 12, 20}, 0, 4},         {{1, 2, 1, 3}, {3, 8, 8, 16, 24}, 0, 0},
};

std::string text_of(const ShuffleNetV2 &network) {
    std::string text;
    for (const int units : network.units) text += std::to_string(units) + " ";
    for (const int channels : network.channels) text += std::to_string(channels) + " ";
    return text;
}

/// Random weights of the graph as a file has them, one element a layer.
std::vector<imports::FileLayer> file_layers(const Graph &graph) {
    const std::vector<reference::LayerWeights> folded = reference::fold(graph, 1);
    std::vector<imports::FileLayer> layers;
    for (size_t i = 0; i < graph.layers.size(); ++i) {
        const networks::Layer &row = graph.layers[i];
        imports::FileLayer &layer = layers.emplace_back();
        layer.name = "layer " + std::to_string(i);
        if (!row.has_weights()) continue;
        imports::Array<float> weight{{row.out_channels, row.group_channels()}, {}};
        if (row.kind == networks::LayerKind::kConvolution) {
            weight.dims.insert(weight.dims.end(), {row.window.kernel.height, row.window.kernel.width});
        }
        weight.data.assign(folded[i].weights.begin(), folded[i].weights.end());
        layer.weight = std::make_shared<const imports::Array<float>>(std::move(weight));
        layer.bias.assign(folded[i].bias.begin(), folded[i].bias.end());
    }
    return layers;
}

std::vector<reference::LayerWeights> weights_of(const std::vector<imports::FileLayer> &layers) {
    std::vector<reference::LayerWeights> weights;
    for (const imports::FileLayer &layer : layers) {
        reference::LayerWeights &to = weights.emplace_back();
        if (layer.weight == nullptr) continue;
        to.weights.assign(layer.weight->data.begin(), layer.weight->data.end());
        to.bias.assign(layer.bias.begin(), layer.bias.end());
    }
    return weights;
}

std::vector<reference::LayerWeights> read_weights(const std::vector<std::byte> &bytes, const Graph &graph) {
    Safetensors file;
    Checkpoint checkpoint;
    EXPECT_TRUE(Safetensors::parse(bytes, kFileName, &file).ok());
    const Status status = read_checkpoint(file, kFileName, GraphWeights(graph).needed(), &checkpoint);
    EXPECT_TRUE(status.ok()) << status.message();
    std::vector<reference::LayerWeights> weights(graph.layers.size());
    auto next = checkpoint.layers.begin();
    for (size_t i = 0; i < weights.size() && next != checkpoint.layers.end(); ++i) {
        if (!graph.layers[i].has_weights()) continue;
        weights[i] = {next->weights, next->bias};
        ++next;
    }
    return weights;
}

/// A file of a graph becomes weights of the network that compute the same.
void expect_same_network(const Graph &found, const Graph &network) {
    const std::vector<imports::FileLayer> files = file_layers(found);
    const imports::ChannelMap map = imports::map_channels(found, files, network);
    const std::vector<std::byte> bytes = imports::to_safetensors(imports::state_dict(files, map, network));
    const std::vector<float> image = reference::random_input(kInput, 1, 1);
    const std::vector<double> theirs = reference::run(found, weights_of(files), image).front().data;
    const std::vector<double> ours = reference::run(network, read_weights(bytes, network), image).front().data;
    ASSERT_EQ(ours.size(), theirs.size());
    const auto [low, high] = std::ranges::minmax(theirs);
    for (size_t i = 0; i < ours.size(); ++i) ASSERT_NEAR(ours[i], theirs[i], 1e-6 * (high - low)) << i;
}

TEST(ChannelMap, MegviisOrderIsTheSameNetwork) {
    for (const ShuffleNetV2 &row : kNetworks) {
        if (row.classes == 0) continue;
        SCOPED_TRACE(text_of(row));
        const Graph network = networks::shufflenet_v2(row, kInput);
        expect_same_network(in_megvii_order(network), network);
    }
}

TEST(ChannelMap, TheSameOrderStays) {
    for (const ShuffleNetV2 &row : kNetworks) {
        const Graph network = networks::shufflenet_v2(row, kInput);
        const imports::ChannelMap map = imports::map_channels(network, file_layers(network), network);
        for (const auto *lists : {&map.inputs, &map.outputs}) {
            for (const std::vector<int> &list : *lists) {
                std::vector<int> counted(list.size());
                std::iota(counted.begin(), counted.end(), 0);
                EXPECT_EQ(list, counted);
            }
        }
    }
}

/// Layers that read their channels in any order, as a file may have it: outputs of layers change places.
TEST(ChannelMap, LayersMayReadInAnyOrder) {
    std::mt19937 random(1);
    for (const ShuffleNetV2 &row : kNetworks) {
        if (row.classes == 0) continue;
        SCOPED_TRACE(text_of(row));
        const Graph network = networks::shufflenet_v2(row, kInput);
        Graph found = network;
        std::vector<std::vector<int>> moved;  // Of each layer.
        for (networks::Layer &layer : found.layers) {
            std::vector<networks::Channel> &channels = layer.in.front().channels;
            for (networks::Channel &channel : channels) {
                if (channel.layer != networks::kImage) channel.index = moved[channel.layer][channel.index];
            }
            // What is made channel by channel is in the order of what is read.
            std::vector<int> order(layer.out_channels);
            std::iota(order.begin(), order.end(), 0);
            if (layer.kind != networks::LayerKind::kLinear) std::ranges::shuffle(order, random);
            const bool by_channel = layer.depthwise() || layer.kind == networks::LayerKind::kMaxPool ||
                                    layer.kind == networks::LayerKind::kGlobalPool;
            const std::vector<networks::Channel> before = channels;
            for (size_t i = 0; by_channel && i < before.size(); ++i) channels[order[i]] = before[i];
            moved.push_back(order);
        }
        expect_same_network(found, network);
    }
}

TEST(ChannelMap, RefusesOtherReaders) {
    const Graph network = networks::shufflenet_v2(kNetworks.front(), kInput);
    const std::vector<imports::FileLayer> files = file_layers(network);
    const auto refused = [&](const std::function<void(std::vector<networks::Channel> &)> &change) {
        Graph found = network;
        const auto layer = std::ranges::find(found.layers, "stage2_unit2_branch2_pw1", &networks::Layer::id);
        change(layer->in.front().channels);
        try {
            imports::map_channels(found, files, network);
        } catch (const imports::Refusal &refusal) {
            return std::string(refusal.what());
        }
        return std::string();
    };
    EXPECT_NE(refused([](auto &channels) { channels.pop_back(); }).find("reads 23 channels, expected 24"),
              std::string::npos);
    EXPECT_NE(refused([](auto &channels) { channels[1] = channels[0]; }).find("has read already"), std::string::npos);
    EXPECT_NE(refused([](auto &channels) {
                  channels[0] = {0, 3};
              }).find("channel 3 of stem_conv, which does not belong"),
              std::string::npos);
    // A channel that the unit before has read as well, in place of one of the same layer.
    EXPECT_NE(refused([&](auto &channels) {
                  const auto unit1 =
                      std::ranges::find(network.layers, "stage2_unit1_branch2_pw1", &networks::Layer::id);
                  const auto same = [&](const networks::Channel &c) { return c.layer == channels[0].layer; };
                  channels[0] = *std::ranges::find_if(unit1->in.front().channels, same);
              }).find("channel shuffle is neither torchvision's nor Megvii's"),
              std::string::npos);
}

Safetensors parsed(const std::vector<std::byte> &bytes) {
    Safetensors file;
    EXPECT_TRUE(Safetensors::parse(bytes, kFileName, &file).ok());
    return file;
}

TEST(Recognise, PublishedNetworks) {
    for (const networks::PublishedNetwork &row : networks::published_networks()) {
        if (row.test) continue;
        SCOPED_TRACE(row.name);
        const Graph graph = *networks::published_network(row.name, {32, 32}, 3);
        const std::vector<std::byte> bytes = reference::random_safetensors(graph, 1);
        EXPECT_EQ(nearest_network(parsed(bytes)).name, row.name);
    }
}

TEST(Recognise, AnyShuffleNetV2ByItsTensors) {
    for (const ShuffleNetV2 &row : kNetworks) {
        SCOPED_TRACE(text_of(row));
        const Graph graph = networks::shufflenet_v2(row, kInput);
        const std::vector<std::byte> bytes = reference::random_safetensors(graph, 1);
        const Safetensors file = parsed(bytes);
        const std::optional<ShuffleNetV2> guess = guess_shufflenet_v2(file);
        ASSERT_TRUE(guess);
        EXPECT_EQ(guess->units, row.units);
        EXPECT_EQ(guess->channels, row.channels);
        EXPECT_EQ(guess->conv5, row.conv5);
        EXPECT_EQ(guess->classes, row.classes);
        EXPECT_EQ(nearest_network(file).name, "shufflenet_v2");
    }
}

TEST(Recognise, AnyShuffleNetV2ByItsLayers) {
    for (const ShuffleNetV2 &row : kNetworks) {
        SCOPED_TRACE(text_of(row));
        ShuffleNetV2 other = row;
        other.pool_stride = {2, 1};
        for (const ShuffleNetV2 &network : {row, other}) {
            const std::optional<ShuffleNetV2> guess = guess_shufflenet_v2(networks::shufflenet_v2(network, kInput));
            ASSERT_TRUE(guess);
            EXPECT_EQ(guess->units, network.units);
            EXPECT_EQ(guess->channels, network.channels);
            EXPECT_EQ(guess->conv5, network.conv5);
            EXPECT_EQ(guess->classes, network.classes);
            EXPECT_EQ(guess->pool_stride, network.pool_stride);
        }
    }
}

TEST(Recognise, TheNearestOfDamagedFiles) {
    const Graph graph = *networks::published_network("shufflenet_v2_x1_5", {32, 32}, 3);
    std::vector<reference::NamedTensor> tensors = reference::random_state_dict(graph, 1);
    std::erase_if(tensors, [](const reference::NamedTensor &tensor) { return tensor.name == "conv5.1.bias"; });
    const std::vector<std::byte> bytes = reference::to_safetensors(tensors);
    EXPECT_EQ(nearest_network(parsed(bytes)).name, "shufflenet_v2_x1_5");
}

}  // namespace
}  // namespace shufflenet
