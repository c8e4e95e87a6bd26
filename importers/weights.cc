#include "weights.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/src/checkpoint.h"
#include "runtime/src/safetensors.h"

namespace shufflenet::imports {

namespace {

using networks::Layer;
using networks::LayerKind;

Dims weight_dims(const Layer &layer) {
    if (layer.kind == LayerKind::kLinear) return {layer.out_channels, layer.in_channels()};
    return {layer.out_channels, layer.group_channels(), layer.window.kernel.height, layer.window.kernel.width};
}

/// Megvii's first downsampling unit keeps the stem's channels in branch 1 and leaves the rest to branch 2.
std::string shape_problem(const Layer &layer, const Dims &found) {
    const int stem = layer.in_channels(), half = layer.out_channels;
    if (layer.id == "stage2_unit0_branch1_pw" && found == Dims{stem, stem, 1, 1}) {
        return "this is Megvii's own network, which splits the channels of stage 2 into " + std::to_string(stem) +
               " + " + std::to_string(2 * half - stem) + " where torchvision has " + std::to_string(half) + " + " +
               std::to_string(half) + ": other sums, not the same in another order; only its x0.5 can be converted";
    }
    return "has weights of shape " + message::shape_text(found) + ", expected " +
           message::shape_text(weight_dims(layer));
}

/// `values` of each channel, `each` of them, moved to where the channel goes.
std::vector<float> permuted(std::span<const float> values, const std::vector<int> &to, size_t each) {
    std::vector<float> out(values.size());
    for (size_t i = 0; i < to.size(); ++i) std::ranges::copy(values.subspan(i * each, each), &out[to[i] * each]);
    return out;
}

/// Filters moved to the places of the outputs, what they have of each input to that of the input.
std::vector<float> renumbered(const Layer &layer, std::span<const float> values, const std::vector<int> &inputs,
                              const std::vector<int> &outputs) {
    const auto taps = static_cast<size_t>(layer.window.kernel.pixels()), filter = layer.group_channels() * taps;
    if (layer.groups > 1 && !layer.depthwise() &&
        !(std::ranges::is_sorted(inputs) && std::ranges::is_sorted(outputs))) {
        throw Refusal("the channels of groups are in another order (" + layer.id + ")");
    }
    if (layer.groups > 1) return permuted(values, outputs, filter);
    std::vector<float> filters;
    for (size_t o = 0; o < outputs.size(); ++o) {
        const std::vector<float> one = permuted(values.subspan(o * filter, filter), inputs, taps);
        filters.insert(filters.end(), one.begin(), one.end());
    }
    return permuted(filters, outputs, filter);
}

/// The norm that goes with the weights as they are.
Norm norm_of(const FileLayer &file, size_t channels) {
    if (!file.norm) {
        const auto variance = static_cast<float>(1 - kBatchNormEps);
        const std::vector<float> zeros(channels, 0);
        return {std::vector<float>(channels, 1), file.bias.empty() ? zeros : file.bias, zeros,
                std::vector<float>(channels, variance), kBatchNormEps};
    }
    Norm norm = *file.norm;
    // Files store a float.
    const bool usual = static_cast<float>(norm.epsilon) == static_cast<float>(kBatchNormEps);
    for (size_t i = 0; i < channels; ++i) {
        if (!file.bias.empty()) norm.mean[i] -= file.bias[i];
        if (usual) continue;
        const double variance = norm.variance[i];
        const double ratio = std::sqrt((variance + kBatchNormEps) / (variance + norm.epsilon));
        norm.gamma[i] = static_cast<float>(norm.gamma[i] * ratio);
    }
    return norm;
}

/// What belongs to a layer's channels: its norm or its bias.
void add_vectors(const Layer &layer, const FileLayer &file, const std::vector<int> &outputs,
                 std::vector<StateTensor> *state) {
    const auto add = [&](const std::string &name, const std::vector<float> &values) {
        state->push_back({name, {layer.out_channels}, permuted(values, outputs, 1)});
    };
    if (layer.norm.empty()) {
        if (file.norm) throw Refusal(file.name + ": has a batch normalisation, expected none (" + layer.id + ")");
        if (layer.bias)
            add(layer.module + ".bias", file.bias.empty() ? std::vector<float>(outputs.size(), 0) : file.bias);
        return;
    }
    const Norm norm = norm_of(file, outputs.size());
    add(layer.norm + ".weight", norm.gamma);
    add(layer.norm + ".bias", norm.beta);
    add(layer.norm + ".running_mean", norm.mean);
    add(layer.norm + ".running_var", norm.variance);
}

}  // namespace

void check_shapes(std::span<const FileLayer> files, const networks::Graph &network) {
    for (size_t i = 0; i < files.size(); ++i) {
        const Layer &layer = network.layers[i];
        if (!layer.has_weights() || files[i].weight->dims == weight_dims(layer)) continue;
        throw Refusal(files[i].name + ": " + shape_problem(layer, files[i].weight->dims) + " (" + layer.id + ")");
    }
}

std::vector<StateTensor> state_dict(std::span<const FileLayer> files, const ChannelMap &map,
                                    const networks::Graph &network) {
    std::vector<StateTensor> state;
    for (size_t i = 0; i < files.size(); ++i) {
        const Layer &layer = network.layers[i];
        if (!layer.has_weights()) continue;
        const Array<float> &weight = *files[i].weight;
        state.push_back(
            {layer.module + ".weight", weight.dims, renumbered(layer, weight.data, map.inputs[i], map.outputs[i])});
        add_vectors(layer, files[i], map.outputs[i], &state);
    }
    return state;
}

std::vector<std::byte> to_safetensors(std::span<const StateTensor> state) {
    std::vector<Tensor> tensors;
    for (const StateTensor &tensor : state) {
        tensors.push_back({tensor.name, "F32", tensor.dims, std::as_bytes(std::span(tensor.values))});
    }
    return serialize_safetensors(tensors);
}

}  // namespace shufflenet::imports
