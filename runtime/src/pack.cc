#include "pack.h"

#include "networks/size.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// The recipe of a last linear layer, whose outputs the file decides.
shufflenet_pack with_classes(shufflenet_pack at, int classes) {
    at.lanes = round_up(classes, at.panel);
    at.weights = at.bias + round_up(at.lanes, kLineFloats);
    at.stride = round_up(at.weights - at.bias + at.lanes * at.rows, kLineFloats);
    return at;
}

/// Where an output channel goes in its blob.
struct Lane {
    size_t bias;
    size_t weights;  ///< Of its first row; the next one is a panel further.
};

Lane lane_of(const shufflenet_pack &at, int channel) {
    const int number = at.lane_of != nullptr ? at.lane_of[channel] : channel;
    const int lane = number % at.lanes;
    const size_t group = size_t(number / at.lanes) * at.stride;
    const size_t panel = size_t(lane / at.panel) * at.rows * at.panel;
    return {group + at.bias + lane, group + at.weights + panel + lane % at.panel};
}

/// The input channels of an output channel's group in summation order; null: their own.
const int16_t *order_of(const shufflenet_pack &at, const shufflenet_layer &layer, int channel) {
    if (at.order == nullptr) return nullptr;
    const int groups = at.order_count / layer.in_channels;
    return at.order + size_t(channel / (layer.out_channels / groups)) * layer.in_channels;
}

/// The row of a summand's tap, in floats from the lane's first.
size_t row_of(const shufflenet_pack &at, const shufflenet_layer &layer, int summand, int tap) {
    const int taps = layer.kernel_height * layer.kernel_width;
    const size_t row = at.taps_last != 0 ? size_t(summand) * taps + tap : size_t(tap) * layer.in_channels + summand;
    return row * at.panel;
}

/// The next layer.
void pack_layer(FoldingReader &layers, const shufflenet_pack &at, float *blob) {
    const shufflenet_layer &layer = layers.next();
    const int taps = layer.kernel_height * layer.kernel_width;
    for (int channel = 0; channel < layer.out_channels; ++channel) {
        const Lane to = lane_of(at, channel);
        const int16_t *order = order_of(at, layer, channel);
        blob[to.bias] = static_cast<float>(layers.bias()[channel]);
        const std::span<const float> weights = layers.weights(channel);
        const double scale = layers.scale(channel);
        for (int i = 0; i < layer.in_channels; ++i) {
            const size_t first = size_t(order != nullptr ? order[i] : i) * taps;
            for (int tap = 0; tap < taps; ++tap) {
                blob[to.weights + row_of(at, layer, i, tap)] = static_cast<float>(weights[first + tap] * scale);
            }
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

/// A layer that is packed already, packed in another way.
void repack_layer(const shufflenet_layer &layer, const shufflenet_pack &from, const float *packed,
                  const shufflenet_pack &to, float *blob) {
    const int taps = layer.kernel_height * layer.kernel_width;
    for (int channel = 0; channel < layer.out_channels; ++channel) {
        const Lane old = lane_of(from, channel), made = lane_of(to, channel);
        const std::vector<int> before = summand_of(from, layer, channel), after = summand_of(to, layer, channel);
        blob[made.bias] = packed[old.bias];
        for (int input = 0; input < layer.in_channels; ++input) {
            for (int tap = 0; tap < taps; ++tap) {
                blob[made.weights + row_of(to, layer, after[input], tap)] =
                    packed[old.weights + row_of(from, layer, before[input], tap)];
            }
        }
    }
}

Status pack_all(FoldingReader &layers, const shufflenet_program &program, PackedWeights *out) {
    const std::span recipe(program.packing, program.layers_count);
    int64_t floats = program.weight_floats;
    shufflenet_pack last{};
    if (layers.classes() > 0) {
        last = with_classes(recipe.back(), layers.classes());
        floats = last.blob + last.bias + last.stride;
    }
    float *packed = allocate(floats, out);
    if (packed == nullptr) throw std::bad_alloc();
    for (const shufflenet_pack &at : recipe) {
        const bool resized = layers.classes() > 0 && &at == &recipe.back();
        pack_layer(layers, resized ? last : at, packed + at.blob);
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
        repack_layer(to.layers[i], old, packed + old.blob, at, made + at.blob);
    }
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
