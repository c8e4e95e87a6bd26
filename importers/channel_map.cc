#include "channel_map.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace shufflenet::imports {

namespace {

using networks::Channel;
using networks::Graph;
using networks::kImage;
using networks::Layer;
using networks::LayerKind;
using networks::Tensor;

/// Whether each output is made of the input at the same place alone.
bool is_by_channel(const Layer &layer) {
    return layer.depthwise() || (layer.kind != LayerKind::kConvolution && layer.kind != LayerKind::kLinear);
}

/// What a max-pool does to the output of a ReLU is what a ReLU does to the output of a max-pool.
bool has_relu(const Graph &graph, int layer) {
    const Layer &row = graph.layers[layer];
    if (row.activation == networks::kRelu) return true;
    const int before = row.in.front().channels.front().layer;
    return row.kind == LayerKind::kMaxPool && before != kImage && has_relu(graph, before);
}

/// One of those that read a channel: the layer, the operand, and the group or, by channel, the class of what it makes.
using Reader = std::array<int, 3>;
using Readers = std::vector<Reader>;

/// [layer][channel]: a number for its readers, the same for the same readers. `numbers` are shared by two graphs.
std::vector<std::vector<int>> reader_classes(const Graph &graph, std::map<Readers, int> *numbers) {
    std::vector<std::vector<Readers>> readers;
    for (const Layer &layer : graph.layers) readers.emplace_back(layer.out_channels);
    std::vector<std::vector<int>> classes(readers.size());
    for (int l = static_cast<int>(readers.size()); l-- > 0;) {
        for (Readers &of : readers[l]) {
            std::ranges::sort(of);
            classes[l].push_back(numbers->try_emplace(of, static_cast<int>(numbers->size())).first->second);
        }
        const Layer &layer = graph.layers[l];
        for (int operand = 0; operand < static_cast<int>(layer.in.size()); ++operand) {
            for (int at = 0; at < layer.in[operand].count(); ++at) {
                const Channel &channel = layer.in[operand].channels[at];
                if (channel.layer == kImage) continue;
                const int what = is_by_channel(layer) ? classes[l][at] : at / layer.group_channels();
                readers[channel.layer][channel.index].push_back({l, operand, what});
            }
        }
    }
    return classes;
}

constexpr const char *kOtherShuffle = ": the channel shuffle is neither torchvision's nor Megvii's";

class Mapper {
  public:
    Mapper(const Graph &found, std::span<const FileLayer> files, const Graph &network)
        : found_(found), files_(files), network_(network) {}

    ChannelMap run() {
        const auto count = static_cast<int>(network_.layers.size());
        for (int l = 0; l < count; ++l) check_inputs(l);
        std::map<Readers, int> numbers;
        const auto expected = reader_classes(network_, &numbers), found = reader_classes(found_, &numbers);
        for (int l = 0; l < count; ++l) {
            map_.inputs.push_back(input_places(l));
            const bool by_channel = is_by_channel(network_.layers[l]);
            map_.outputs.push_back(by_channel ? map_.inputs.back() : paired(l, found[l], expected[l]));
        }
        return std::move(map_);
    }

  private:
    [[noreturn]] void refuse(int layer, const std::string &problem) const {
        throw Refusal(files_[layer].name + ": " + problem + " (" + network_.layers[layer].id + ")");
    }
    std::string name_of(int layer) const { return layer == kImage ? "the input" : network_.layers[layer].id; }
    std::string text_of(const Channel &channel) const {
        return "channel " + std::to_string(channel.index) + " of " + name_of(channel.layer);
    }

    void check_inputs(int layer) const;
    void check_activation(int layer, int from) const;
    std::vector<int> input_places(int layer) const;
    std::vector<int> paired(int layer, const std::vector<int> &found, const std::vector<int> &expected) const;

    const Graph &found_;
    std::span<const FileLayer> files_;
    const Graph &network_;
    ChannelMap map_;
};

std::map<int, int> channels_by_layer(const Tensor &tensor) {
    std::map<int, int> counts;
    for (const Channel &channel : tensor.channels) ++counts[channel.layer];
    return counts;
}

void Mapper::check_activation(int layer, int from) const {
    // A max-pool's readers tell, because its ReLU may come before or after it.
    if (from == kImage || network_.layers[layer].kind == LayerKind::kMaxPool) return;
    const bool expected = has_relu(network_, from);
    if (has_relu(found_, from) == expected) return;
    refuse(layer, "reads " + name_of(from) + (expected ? " without its ReLU" : " with a ReLU, which it has not"));
}

/// As many channels of every layer as the network's, each once.
void Mapper::check_inputs(int layer) const {
    const Tensor &found = found_.layers[layer].in.front(), &expected = network_.layers[layer].in.front();
    if (found.count() != expected.count()) {
        refuse(layer,
               "reads " + std::to_string(found.count()) + " channels, expected " + std::to_string(expected.count()));
    }
    const std::map<int, int> wanted = channels_by_layer(expected);
    std::set<Channel> seen;
    for (const Channel &channel : found.channels) {
        if (!wanted.contains(channel.layer)) {
            refuse(layer, "reads " + text_of(channel) + ", which does not belong to its input");
        }
        if (!seen.insert(channel).second) {
            refuse(layer, "reads " + text_of(channel) + ", which a branch has read already");
        }
    }
    std::map<int, int> counts = channels_by_layer(found);
    for (const auto &[from, count] : wanted) {
        check_activation(layer, from);
        if (counts[from] == count) continue;
        refuse(layer, "reads " + std::to_string(counts[from]) + " channels of " + name_of(from) + ", expected " +
                          std::to_string(count) + kOtherShuffle);
    }
}

std::vector<int> Mapper::input_places(int layer) const {
    const Tensor &expected = network_.layers[layer].in.front();
    std::map<Channel, int> places;
    for (int at = 0; at < expected.count(); ++at) places[expected.channels[at]] = at;
    std::vector<int> found;
    for (Channel channel : found_.layers[layer].in.front().channels) {
        const Channel file_channel = channel;
        if (channel.layer != kImage) channel.index = map_.outputs[channel.layer][channel.index];
        const auto place = places.find(channel);
        if (place == places.end()) {
            refuse(layer, "reads " + text_of(file_channel) + ", which does not belong to its input");
        }
        found.push_back(place->second);
    }
    return found;
}

/// The i-th output of a class of readers becomes the network's i-th.
std::vector<int> Mapper::paired(int layer, const std::vector<int> &found, const std::vector<int> &expected) const {
    std::map<int, std::vector<int>> free;
    for (int channel = static_cast<int>(expected.size()); channel-- > 0;) free[expected[channel]].push_back(channel);
    std::vector<int> outputs;
    for (size_t channel = 0; channel < found.size(); ++channel) {
        std::vector<int> &of_class = free[found[channel]];
        if (of_class.empty()) {
            refuse(layer,
                   "its output " + std::to_string(channel) + " is not read as any of the network's" + kOtherShuffle);
        }
        outputs.push_back(of_class.back());
        of_class.pop_back();
    }
    return outputs;
}

}  // namespace

ChannelMap map_channels(const Graph &found, std::span<const FileLayer> files, const Graph &network) {
    return Mapper(found, files, network).run();
}

}  // namespace shufflenet::imports
