#include "canonical.h"

#include <cmath>
#include <numeric>
#include <utility>

#include "networks/stage_plan.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/safetensors.h"

namespace shufflenet::imports {

namespace {

/// Weights do not depend on the input size.
constexpr Size kAnyInput{kDefaultCrop, kDefaultCrop};

/// Rows of network_layers(): branches of a downsampling unit one after the other, then those of the basic units.
struct UnitRows {
    int first;
    bool down;
    int branch1_dw() const { return first; }
    int branch1_pw() const { return first + 1; }
    int pw1() const { return first + (down ? 2 : 0); }
    int dw() const { return pw1() + 1; }
    int pw2() const { return pw1() + 2; }
    int end() const { return pw1() + 3; }
};

constexpr int kStemConv = 0, kStemPool = 1, kFirstUnit = 2;

std::vector<UnitRows> stage_rows(int first, int units) {
    std::vector<UnitRows> rows;
    for (int u = 0; u < units; ++u) {
        rows.push_back({first, u == 0});
        first = rows.back().end();
    }
    return rows;
}

/// The row whose outputs are block `block` of a stage (networks/stage_plan.h).
int block_row(const std::vector<UnitRows> &units, int block) {
    return block == 0 ? units[0].branch1_pw() : units[block - 1].pw2();
}

std::vector<int> identity(int size) {
    std::vector<int> order(size);
    std::iota(order.begin(), order.end(), 0);
    return order;
}

/// `values` of each channel, `each` of them, moved to where the channel goes.
std::vector<float> permuted(std::span<const float> values, const std::vector<int> &to, size_t each) {
    std::vector<float> out(values.size());
    for (size_t i = 0; i < to.size(); ++i) {
        const auto from = values.begin() + static_cast<ptrdiff_t>(i * each);
        std::copy(from, from + static_cast<ptrdiff_t>(each), out.begin() + static_cast<ptrdiff_t>(to[i] * each));
    }
    return out;
}

class Canonicaliser {
  public:
    Canonicaliser(const Network &network, std::span<const SourceLayer> layers)
        : network_(network),
          layers_(layers),
          rows_(network_layers(network, kAnyInput, static_cast<int>(layers.back().weight->dims[0]))) {}

    Canonical run() {
        out_.classes = rows_.back().out_channels;
        Places image(rows_.size() + 1);
        place(image, kImage) = identity(3);
        convolution(kStemConv, order_of(kStemConv, image), identity(network_.stem_channels));
        Places now = pooled(kStemPool, only(kStemConv, identity(network_.stem_channels)));
        int next = kFirstUnit;
        for (int number = 2; number < 2 + kStages; ++number) {
            const std::vector<UnitRows> units = stage_rows(next, network_.units[number - 2]);
            now = stage(units, number, now);
            out_.features.push_back(by_row(now));
            next = units.back().end();
        }
        const std::vector<int> conv5 = identity(network_.conv5_channels);
        convolution(next, order_of(next, now), conv5);
        out_.features.push_back(by_row(only(next, conv5)));
        now = pooled(next + 1, only(next, conv5));
        fully_connected(next + 2, order_of(next + 2, now));
        return std::move(out_);
    }

  private:
    /// The network's input is a row of its own, behind the others.
    // cppcheck-suppress constParameter
    std::vector<int> &place(Places &places, int row) const { return places[row == kImage ? rows_.size() : row]; }
    static Places by_row(Places places) {
        places.pop_back();
        return places;
    }
    Places only(int row, std::vector<int> order) const {
        Places places(rows_.size() + 1);
        place(places, row) = std::move(order);
        return places;
    }

    [[noreturn]] void refuse(int row, const std::string &problem) const {
        throw Refusal(layers_[row].name + ": " + problem + " (" + std::string(rows_[row].id.view()) + ")");
    }
    std::string row_name(int row) const { return row == kImage ? "the input" : std::string(rows_[row].id.view()); }

    std::vector<int> order_of(int row, Places &places) const;
    std::vector<int> depthwise(int row, Places &places);
    Places pooled(int row, Places places) const;
    Places stage(const std::vector<UnitRows> &units, int number, Places &in);
    std::vector<std::vector<int>> residence(const std::vector<UnitRows> &units) const;
    std::vector<std::vector<int>> renumbered(const std::vector<UnitRows> &units, const StagePlan &plan) const;

    void check_shape(int row) const;
    void check_relu(int row, const SourceChannel &channel) const;
    void convolution(int row, const std::vector<int> &in, const std::vector<int> &out);
    void fully_connected(int row, const std::vector<int> &in);
    void add_norm(int row, const std::vector<int> &out);
    void add(std::string name, Dims dims, std::vector<float> values);

    const Network &network_;
    std::span<const SourceLayer> layers_;
    std::vector<Layer> rows_;
    Canonical out_;
};

// Orders.

void Canonicaliser::check_relu(int row, const SourceChannel &channel) const {
    if (channel.row == kImage) return;
    const LayerKind kind = rows_[channel.row].kind;
    const bool expected = kind == LayerKind::kMaxPool || rows_[channel.row].relu;
    // A max-pool commutes with its ReLU.
    if (channel.relu == expected || (row == kStemPool && !channel.relu)) return;
    refuse(row, "reads " + row_name(channel.row) + (expected ? " without its ReLU" : " with a ReLU, which it has not"));
}

/// Where each of the layer's input channels is in `places`: all of them, each once.
std::vector<int> Canonicaliser::order_of(int row, Places &places) const {
    std::vector<int> order;
    const std::vector<SourceChannel> &inputs = layers_[row].inputs;
    const auto expected = static_cast<size_t>(rows_[row].in_channels);
    if (inputs.size() != expected) {
        refuse(row, "reads " + std::to_string(inputs.size()) + " channels, expected " + std::to_string(expected));
    }
    std::vector<bool> seen(expected, false);
    for (const SourceChannel &channel : inputs) {
        const std::vector<int> &there = place(places, channel.row);
        const int at = channel.channel < static_cast<int>(there.size()) ? there[channel.channel] : -1;
        const std::string what = "channel " + std::to_string(channel.channel) + " of " + row_name(channel.row);
        if (at < 0) refuse(row, "reads " + what + ", which does not belong to its input");
        if (seen[at]) refuse(row, "reads " + what + " twice");
        check_relu(row, channel);
        seen[at] = true;
        order.push_back(at);
    }
    return order;
}

/// A depthwise convolution's outputs are in the order of its inputs.
std::vector<int> Canonicaliser::depthwise(int row, Places &places) {
    std::vector<int> order = order_of(row, places);
    convolution(row, {0}, order);
    return order;
}

Places Canonicaliser::pooled(int row, Places places) const { return only(row, order_of(row, places)); }

/// [block][channel]: the unit that reads this output of the block; units.size(): none, it leaves the stage.
std::vector<std::vector<int>> Canonicaliser::residence(const std::vector<UnitRows> &units) const {
    const auto count = static_cast<int>(units.size());
    const int c = rows_[units[0].pw2()].out_channels;
    std::vector<std::vector<int>> reader(count + 1, std::vector<int>(c, count));
    for (int u = 1; u < count; ++u) {
        const int row = units[u].pw1();
        for (const SourceChannel &channel : layers_[row].inputs) {
            int block = 0;
            while (block <= u && block_row(units, block) != channel.row) ++block;
            if (block > u || channel.channel >= c) {
                refuse(row, "reads " + row_name(channel.row) + ", expected outputs of this stage's branches");
            }
            if (reader[block][channel.channel] != count) {
                refuse(row, "reads channel " + std::to_string(channel.channel) + " of " + row_name(channel.row) +
                                ", which a branch has read already");
            }
            reader[block][channel.channel] = u;
        }
    }
    return reader;
}

/// [block][channel]: torchvision's number of this output of the block, which is read by the same unit.
std::vector<std::vector<int>> Canonicaliser::renumbered(const std::vector<UnitRows> &units,
                                                        const StagePlan &plan) const {
    const std::vector<std::vector<int>> found = residence(units);
    std::vector<std::vector<int>> numbers(found.size());
    for (int block = 0; block < static_cast<int>(found.size()); ++block) {
        const int made = std::max(0, block - 1);
        std::vector<std::vector<int>> free(units.size() + 1);  // By the unit that reads them.
        for (int j = 0; j < plan.branch_channels; ++j) {
            const int reader = made + plan.residence[block][j];
            free[std::min<size_t>(reader, units.size())].push_back(j);
        }
        std::vector<size_t> used(units.size() + 1, 0);
        for (const int reader : found[block]) {
            const size_t i = used[reader]++;
            numbers[block].push_back(i < free[reader].size() ? free[reader][i] : -1);
        }
        for (size_t u = 1; u < units.size(); ++u) {
            if (used[u] == free[u].size()) continue;
            refuse(units[u].pw1(), "reads " + std::to_string(used[u]) + " channels of " +
                                       row_name(block_row(units, block)) + ", expected " +
                                       std::to_string(free[u].size()) +
                                       ": the channel shuffle is neither torchvision's nor Megvii's");
        }
    }
    return numbers;
}

Places Canonicaliser::stage(const std::vector<UnitRows> &units, int number, Places &in) {
    const int c = network_.stage_channels[number - 2] / 2;
    const auto count = static_cast<int>(units.size());
    for (const UnitRows &unit : units) {
        if (unit.down) check_shape(unit.branch1_pw());
        check_shape(unit.pw2());
    }
    const std::vector<std::vector<int>> numbers = renumbered(units, make_stage_plan(c, count));
    /// The positions [begin, end) of the tensor after `unit` units.
    const auto tensor_after = [&](int unit, int begin, int end) {
        Places places(rows_.size() + 1);
        const std::vector<Slot> slots = shufflenet::detail::positions_after(c, unit);
        for (int at = begin; at < end; ++at) {
            std::vector<int> &there = place(places, block_row(units, slots[at].block));
            there.resize(c, -1);
            const std::vector<int> &number_of = numbers[slots[at].block];
            const auto channel = std::find(number_of.begin(), number_of.end(), slots[at].index) - number_of.begin();
            there[channel] = at - begin;
        }
        return places;
    };
    for (int u = 0; u < count; ++u) {
        const UnitRows &unit = units[u];
        Places basic = u == 0 ? Places{} : tensor_after(u, c, 2 * c);
        Places &from = u == 0 ? in : basic;
        if (unit.down) {
            Places wide = only(unit.branch1_dw(), depthwise(unit.branch1_dw(), from));
            convolution(unit.branch1_pw(), order_of(unit.branch1_pw(), wide), numbers[0]);
        }
        convolution(unit.pw1(), order_of(unit.pw1(), from), identity(c));
        Places narrow = only(unit.pw1(), identity(c));
        narrow = only(unit.dw(), depthwise(unit.dw(), narrow));
        convolution(unit.pw2(), order_of(unit.pw2(), narrow), numbers[u + 1]);
    }
    return tensor_after(count, 0, 2 * c);
}

// Tensors.

/// Megvii's first downsampling unit keeps the stem's channels in branch 1 and leaves the rest to branch 2.
void Canonicaliser::check_shape(int row) const {
    const Layer &layer = rows_[row];
    Dims expected = {layer.out_channels, layer.group_channels(), layer.kernel(), layer.kernel()};
    if (layer.kind == LayerKind::kFullyConnected) expected.resize(2);
    const Dims &found = layers_[row].weight->dims;
    if (found == expected) return;
    const int stem = network_.stem_channels, both = network_.stage_channels[0];
    if (layer.id.view() == "stage2_unit0_branch1_pw" && found == Dims{stem, stem, 1, 1}) {
        refuse(row, "this is Megvii's own network, which splits the channels of stage 2 into " + std::to_string(stem) +
                        " + " + std::to_string(both - stem) + " where torchvision has " + std::to_string(both / 2) +
                        " + " + std::to_string(both / 2) +
                        ": other sums, not the same in another order; only its x0.5 can be converted");
    }
    refuse(row, "has weights of shape " + message::shape_text(found) + ", expected " + message::shape_text(expected));
}

/// `in[i]`, `out[o]`: torchvision's numbers of the file's channels. Depthwise: one input, 0.
void Canonicaliser::convolution(int row, const std::vector<int> &in, const std::vector<int> &out) {
    check_shape(row);
    const SourceLayer &layer = layers_[row];
    const size_t taps = size_t(rows_[row].kernel()) * rows_[row].kernel();
    const size_t filter = in.size() * taps;
    std::vector<float> filters;
    const std::span<const float> values = layer.weight->data;
    for (size_t o = 0; o < out.size(); ++o) {
        const std::vector<float> one = permuted(values.subspan(o * filter, filter), in, taps);
        filters.insert(filters.end(), one.begin(), one.end());
    }
    out_.same_order =
        out_.same_order && in == identity(static_cast<int>(in.size())) && out == identity(static_cast<int>(out.size()));
    add(std::string(rows_[row].conv.view()) + ".weight", layer.weight->dims, permuted(filters, out, filter));
    add_norm(row, out);
}

void Canonicaliser::add_norm(int row, const std::vector<int> &out) {
    const SourceLayer &layer = layers_[row];
    const size_t count = out.size();
    const auto folded_variance = static_cast<float>(1 - kBatchNormEps);
    Norm norm{std::vector<float>(count, 1), std::vector<float>(count, 0), std::vector<float>(count, 0),
              std::vector<float>(count, folded_variance), kBatchNormEps};
    if (!layer.norm && !layer.bias.empty()) norm.beta = layer.bias;
    if (layer.norm) {
        norm = *layer.norm;
        // Files store a float.
        const bool usual = static_cast<float>(norm.epsilon) == static_cast<float>(kBatchNormEps);
        for (size_t i = 0; i < count; ++i) {
            if (!layer.bias.empty()) norm.mean[i] -= layer.bias[i];
            if (usual) continue;
            const double variance = norm.variance[i];
            const double ratio = std::sqrt((variance + kBatchNormEps) / (variance + norm.epsilon));
            norm.gamma[i] = static_cast<float>(norm.gamma[i] * ratio);
        }
    }
    const std::string name(rows_[row].norm.view());
    const Dims dims = {static_cast<int64_t>(count)};
    add(name + ".weight", dims, permuted(norm.gamma, out, 1));
    add(name + ".bias", dims, permuted(norm.beta, out, 1));
    add(name + ".running_mean", dims, permuted(norm.mean, out, 1));
    add(name + ".running_var", dims, permuted(norm.variance, out, 1));
}

void Canonicaliser::fully_connected(int row, const std::vector<int> &in) {
    check_shape(row);
    const SourceLayer &layer = layers_[row];
    std::vector<float> values;
    const std::span<const float> all = layer.weight->data;
    for (size_t o = 0; o < static_cast<size_t>(out_.classes); ++o) {
        const std::vector<float> one = permuted(all.subspan(o * in.size(), in.size()), in, 1);
        values.insert(values.end(), one.begin(), one.end());
    }
    out_.same_order = out_.same_order && in == identity(static_cast<int>(in.size()));
    add("fc.weight", layer.weight->dims, std::move(values));
    add("fc.bias", {out_.classes}, layer.bias.empty() ? std::vector<float>(out_.classes, 0) : layer.bias);
}

void Canonicaliser::add(std::string name, Dims dims, std::vector<float> values) {
    out_.tensors.push_back({std::move(name), std::move(dims), std::move(values)});
}

}  // namespace

Canonical canonical_form(const Network &network, std::span<const SourceLayer> layers) {
    return Canonicaliser(network, layers).run();
}

std::vector<std::byte> to_safetensors(std::span<const StateTensor> state) {
    std::vector<Tensor> tensors;
    for (const StateTensor &tensor : state) {
        tensors.push_back({tensor.name, "F32", tensor.dims, std::as_bytes(std::span(tensor.values))});
    }
    return serialize_safetensors(tensors);
}

std::vector<std::vector<SourceChannel>> megvii_inputs(const Network &network) {
    using Channels = std::vector<SourceChannel>;
    std::vector<Channels> inputs;
    const auto outputs = [](int row, int channels, bool relu) {
        Channels tensor;
        for (int i = 0; i < channels; ++i) tensor.push_back({row, i, relu});
        return tensor;
    };
    inputs.push_back(outputs(kImage, 3, false));
    inputs.push_back(outputs(kStemConv, network.stem_channels, true));
    Channels now = outputs(kStemPool, network.stem_channels, true);
    for (int s = 0; s < kStages; ++s) {
        const int c = network.stage_channels[s] / 2;
        for (const UnitRows &unit : stage_rows(static_cast<int>(inputs.size()), network.units[s])) {
            Channels kept, branch = now;
            if (unit.down) {
                inputs.push_back(now);
                inputs.push_back(outputs(unit.branch1_dw(), static_cast<int>(now.size()), false));
                kept = outputs(unit.branch1_pw(), c, true);
            } else {
                branch.clear();
                for (int i = 0; i < c; ++i) {
                    kept.push_back(now[2 * i]);
                    branch.push_back(now[2 * i + 1]);
                }
            }
            inputs.push_back(branch);
            inputs.push_back(outputs(unit.pw1(), c, true));
            inputs.push_back(outputs(unit.dw(), c, false));
            now = kept;
            const Channels made = outputs(unit.pw2(), c, true);
            now.insert(now.end(), made.begin(), made.end());
        }
    }
    const auto conv5 = static_cast<int>(inputs.size());
    inputs.push_back(now);
    inputs.push_back(outputs(conv5, network.conv5_channels, true));
    inputs.push_back(outputs(conv5 + 1, network.conv5_channels, false));
    return inputs;
}

}  // namespace shufflenet::imports
