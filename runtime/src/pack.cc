#include "pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "element.h"
#include "networks/weight_layout.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

WeightLayout layout_of(const shufflenet_pack &at) {
    return {at.panel,     at.rows,    at.lanes,  at.groups,
            at.bias,      at.weights, at.stride, at.element == SHUFFLENET_S16 ? Element::kS16 : Element::kF32,
            at.interleave};
}

/// A layer's weights in packed form; of `const float` to be read.
template <typename Float>
class PackedLayer {
  public:
    PackedLayer(const shufflenet_pack &at, const WeightLayout &layout, Float *blob)
        : at_(at), layout_(layout), blob_(blob) {}

    void set_bias(int channel, float value) { blob_[bias_index(channel)] = value; }
    float bias(int channel) const { return blob_[bias_index(channel)]; }

    /// In elements.
    size_t first_row(int channel) const { return layout_.first_row(group_of(channel), lane_of(channel)); }
    /// Of a summand's tap.
    size_t row_offset(const shufflenet_layer &layer, int summand, int tap) const {
        const int taps = layer.kernel_height * layer.kernel_width;
        return layout_.row_offset(at_.taps_last != 0 ? summand * taps + tap : tap * layer.in_channels + summand);
    }
    float weight(int channel, size_t index) const {
        if (!layout_.has_factors()) return blob_[index];
        return factor(channel) * load_element<int16_t>(reinterpret_cast<const std::byte *>(blob_), index);
    }
    void set_weight(size_t index, float value) { blob_[index] = value; }
    void set_integer(size_t index, int16_t value) {
        std::memcpy(reinterpret_cast<std::byte *>(blob_) + index * sizeof value, &value, sizeof value);
    }
    bool has_factors() const { return layout_.has_factors(); }
    void set_factor(int channel, float value) { blob_[bias_index(channel) + layout_.lanes] = value; }
    float factor(int channel) const { return blob_[bias_index(channel) + layout_.lanes]; }

  private:
    int number_of(int channel) const { return at_.lane_of != nullptr ? at_.lane_of[channel] : channel; }
    int group_of(int channel) const { return number_of(channel) / layout_.lanes; }
    int lane_of(int channel) const { return number_of(channel) % layout_.lanes; }
    size_t bias_index(int channel) const {
        return layout_.bias + size_t(group_of(channel)) * layout_.stride + lane_of(channel);
    }

    const shufflenet_pack &at_;
    WeightLayout layout_;
    Float *blob_;
};

/// The input channels of an output channel's group in summation order; null: their own.
const int16_t *order_of(const shufflenet_pack &at, const shufflenet_layer &layer, int channel) {
    if (at.order == nullptr) return nullptr;
    const int groups = at.order_count / layer.in_channels;
    return at.order + size_t(channel / (layer.out_channels / groups)) * layer.in_channels;
}

/// An output channel's weights as integers of 16 bits, whose greatest is 2^15 - 1 in magnitude, times its factor.
class Quantised {
  public:
    Quantised(std::span<const float> weights, double scale) : scale_(scale) {
        double most = 0;
        for (const float weight : weights) most = std::max(most, std::fabs(weight * scale));
        factor_ = static_cast<float>(most / std::numeric_limits<int16_t>::max());
    }
    float factor() const { return factor_; }
    int16_t operator()(float weight) const {
        if (!(factor_ > 0)) return 0;
        return static_cast<int16_t>(std::clamp(std::floor(weight * scale_ / factor_ + 0.5), -kMost, kMost));
    }

  private:
    static constexpr double kMost = std::numeric_limits<int16_t>::max();
    double scale_;
    float factor_;
};

/// The next layer.
void pack_layer(FoldingReader &layers, const shufflenet_pack &at, PackedLayer<float> to) {
    const shufflenet_layer &layer = layers.next();
    const int taps = layer.kernel_height * layer.kernel_width;
    for (int channel = 0; channel < layer.out_channels; ++channel) {
        const size_t first_row = to.first_row(channel);
        const int16_t *order = order_of(at, layer, channel);
        to.set_bias(channel, static_cast<float>(layers.bias()[channel]));
        const std::span<const float> weights = layers.weights(channel);
        const double scale = layers.scale(channel);
        const auto each = [&](const auto &set) {
            for (int i = 0; i < layer.in_channels; ++i) {
                const size_t first = size_t(order != nullptr ? order[i] : i) * taps;
                for (int tap = 0; tap < taps; ++tap)
                    set(first_row + to.row_offset(layer, i, tap), weights[first + tap]);
            }
        };
        if (to.has_factors()) {
            const Quantised quantised(weights, scale);
            to.set_factor(channel, quantised.factor());
            each([&](size_t index, float weight) { to.set_integer(index, quantised(weight)); });
        } else {
            each([&](size_t index, float weight) { to.set_weight(index, static_cast<float>(weight * scale)); });
        }
    }
}

/// Of each input channel of an output channel's group, which summand it is.
std::vector<int> summand_of(const shufflenet_pack &at, const shufflenet_layer &layer, int channel) {
    std::vector<int> summands(layer.in_channels);
    const int16_t *order = order_of(at, layer, channel);
    for (int i = 0; i < layer.in_channels; ++i) summands[order != nullptr ? order[i] : i] = i;
    return summands;
}

/// A layer that is packed already, packed in another way, as floats.
void repack_layer(const shufflenet_layer &layer, const shufflenet_pack &from, const PackedLayer<const float> &packed,
                  const shufflenet_pack &to, PackedLayer<float> made) {
    const int taps = layer.kernel_height * layer.kernel_width;
    for (int channel = 0; channel < layer.out_channels; ++channel) {
        const size_t old_row = packed.first_row(channel), new_row = made.first_row(channel);
        const std::vector<int> before = summand_of(from, layer, channel), after = summand_of(to, layer, channel);
        made.set_bias(channel, packed.bias(channel));
        for (int input = 0; input < layer.in_channels; ++input) {
            for (int tap = 0; tap < taps; ++tap) {
                made.set_weight(new_row + made.row_offset(layer, after[input], tap),
                                packed.weight(channel, old_row + packed.row_offset(layer, before[input], tap)));
            }
        }
    }
}

Status pack_all(FoldingReader &layers, const shufflenet_program &program, PackedWeights *out) {
    const std::span recipe(program.packing, program.layers_count);
    std::vector<WeightLayout> layouts;
    for (const shufflenet_pack &at : recipe) layouts.push_back(layout_of(at));
    int64_t floats = program.weight_floats;
    if (layers.classes() > 0) {
        WeightLayout &last = layouts.back();
        last = linear_layout(last.rows, layers.classes(), last.element, last.interleave);
        floats = recipe.back().blob + last.end();
    }
    float *packed = allocate(floats, out);
    if (packed == nullptr) throw std::bad_alloc();
    for (size_t i = 0; i < recipe.size(); ++i) {
        pack_layer(layers, recipe[i], PackedLayer(recipe[i], layouts[i], packed + recipe[i].blob));
    }
    out->classes = layers.classes();
    return layers.status();
}

}  // namespace

float *allocate(size_t floats, PackedWeights *out) {
    const size_t bytes = floats * sizeof(float);
    if (out->pages.map(bytes)) {
        out->array.place(out->pages.take(bytes), floats);
    } else if (!out->array.allocate(floats)) {
        return nullptr;
    }
    out->floats = {out->array.data(), floats};
    return out->array.data();
}

Status pack_weights(const Safetensors &file, const std::string &file_name, std::string_view network,
                    const shufflenet_program &program, PackedWeights *out) {
    try {
        FoldingReader layers;
        if (Status status = layers.open(file, file_name, needed_weights(network, program)); !status.ok()) {
            return status;
        }
        return pack_all(layers, program, out);
    } catch (const std::bad_alloc &) {
        return {Code::kOutOfMemory, std::string(network) + ": out of memory for the packed weights"};
    }
}

void repack_weights(const shufflenet_program &from, const float *packed, const shufflenet_program &to,
                    PackedWeights *out) {
    float *made = allocate(to.weight_floats, out);
    if (made == nullptr) throw std::bad_alloc();
    for (int i = 0; i < to.layers_count; ++i) {
        const shufflenet_pack &old = from.packing[i], &at = to.packing[i];
        repack_layer(to.layers[i], old, PackedLayer(old, layout_of(old), packed + old.blob), at,
                     PackedLayer(at, layout_of(at), made + at.blob));
    }
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
