// Random networks and inputs for tests, the same bits on every machine and in every language: a tensor is a function
// of a seed, its name and its shape. tests/golden/make_golden.py generates the same in numpy.
//
// Element i of the tensor NAME comes from a counter-based splitmix64:
//     bits(i) = mix(mix(seed + fnv1a(NAME)) + (i + 1) * 0x9E3779B97F4A7C15)
// Arithmetic on it is exact but for chains of single rounded multiplications, divisions and square roots, so that
// fused multiply-adds cannot change a result.
//
// Statistics are those of a trained network: a convolution's row produces about the variance that its running_var
// claims, so that activations neither vanish nor explode; some variances are small enough for epsilon to matter.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "reference.h"

namespace shufflenet::reference {

/// BatchNorm2d's default.
inline constexpr double kEpsilon = 1e-5;

/// splitmix64's output function.
constexpr uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

constexpr uint64_t fnv1a(std::string_view text) {
    uint64_t hash = 0xCBF29CE484222325;
    for (const char ch : text) hash = (hash ^ static_cast<unsigned char>(ch)) * 0x100000001B3;
    return hash;
}

/// The random numbers of one tensor.
class Stream {
  public:
    constexpr Stream(uint64_t seed, std::string_view name) : start_(mix(seed + fnv1a(name))) {}
    constexpr uint64_t bits(size_t i) const { return mix(start_ + (i + 1) * 0x9E3779B97F4A7C15); }
    /// Multiples of 1/65536 in [0, 1).
    constexpr double uniform(size_t i) const { return static_cast<double>(bits(i) >> 48) / 65536; }
    /// About N(0, variance): the sum of four uniforms.
    double normal(size_t i, double variance) const {
        const uint64_t b = bits(i);
        const uint64_t sum = (b & 0xFFFF) + (b >> 16 & 0xFFFF) + (b >> 32 & 0xFFFF) + (b >> 48);
        return static_cast<double>(static_cast<int64_t>(sum) - 2 * 0xFFFF) * (std::sqrt(3 * variance) / 65536);
    }

  private:
    uint64_t start_;
};

/// One tensor of a state_dict; `integer`: int64 in files (num_batches_tracked).
struct NamedTensor {
    std::string name;
    std::vector<int64_t> shape;
    std::vector<float> values;
    bool integer = false;
};

namespace detail {

using Element = std::function<double(size_t)>;
using networks::Layer;
using networks::LayerKind;

inline NamedTensor make_tensor(const std::string &name, const std::vector<int64_t> &shape, const Element &element) {
    int64_t elements = 1;
    for (const int64_t extent : shape) elements *= extent;
    NamedTensor tensor{name, shape, std::vector<float>(elements), false};
    for (size_t i = 0; i < tensor.values.size(); ++i) tensor.values[i] = static_cast<float>(element(i));
    return tensor;
}

/// A row's running_var is (0.5 + uniform) * (2^-e)^2 with e in 0..7; this is 2^-e.
inline double row_scale(const Stream &running_var, size_t row) {
    return std::ldexp(1.0, -static_cast<int>(running_var.bits(row) & 7));
}

inline double row_variance(const Stream &running_var, size_t row) {
    return (0.5 + running_var.uniform(row)) * row_scale(running_var, row) * row_scale(running_var, row);
}

/// What makes up for a ReLU, which halves the mean square, on a layer's input.
constexpr double gain(bool after_relu) { return after_relu ? 2 : 1; }

inline void add_convolution(std::vector<NamedTensor> &tensors, const Layer &layer, bool after_relu, uint64_t seed) {
    const auto name_of = [](const std::string &module, const char *field) { return module + field; };
    const Stream var(seed, name_of(layer.norm, ".running_var"));
    const int64_t fan_in = layer.weight_elements() / layer.out_channels;

    const std::string weight = name_of(layer.module, ".weight");
    tensors.push_back(make_tensor(
        weight, {layer.out_channels, layer.group_channels(), layer.window.kernel.height, layer.window.kernel.width},
        [&, stream = Stream(seed, weight)](size_t i) {
            const double row = row_variance(var, i / fan_in);
            return stream.normal(i, gain(after_relu) * row / double(fan_in));
        }));
    const auto add_norm = [&](const char *field, const auto &element) {
        const Stream stream(seed, name_of(layer.norm, field));
        tensors.push_back(make_tensor(name_of(layer.norm, field), {layer.out_channels},
                                      [&](size_t i) { return element(stream.uniform(i), i); }));
    };
    add_norm(".weight", [](double u, size_t) { return 0.75 + u / 2; });
    add_norm(".bias", [](double u, size_t) { return u - 0.5; });
    add_norm(".running_mean", [&](double u, size_t i) { return (u - 0.5) * row_scale(var, i); });
    add_norm(".running_var", [&](double, size_t i) { return row_variance(var, i); });
    tensors.push_back({name_of(layer.norm, ".num_batches_tracked"), {}, {1000}, true});
}

inline void add_fully_connected(std::vector<NamedTensor> &tensors, const Layer &layer, uint64_t seed) {
    const std::string &name = layer.module;
    const Stream weight(seed, name + ".weight"), bias(seed, name + ".bias");
    tensors.push_back(make_tensor(name + ".weight", {layer.out_channels, layer.in_channels()},
                                  [&](size_t i) { return weight.normal(i, 2.0 / layer.in_channels()); }));
    if (!layer.bias) return;
    tensors.push_back(
        make_tensor(name + ".bias", {layer.out_channels}, [&](size_t i) { return bias.uniform(i) - 0.5; }));
}

/// float16, rounded to nearest even.
inline uint16_t to_half(float value) {
    const double magnitude = std::abs(static_cast<double>(value));
    const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
    if (magnitude >= 65520) return sign | 0x7C00;
    if (magnitude < 0x1p-14) return sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24));
    int exponent = 0;
    const double mantissa = std::frexp(magnitude, &exponent);  // [0.5, 1)
    return sign | static_cast<uint16_t>(((exponent + 13) << 10) + static_cast<int>(std::nearbyint(mantissa * 0x1p11)));
}

inline float from_half(uint16_t half) {
    const int exponent = half >> 10 & 31;
    const int mantissa = half & 0x3FF;
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(0x400 + mantissa, exponent - 25);
    return static_cast<float>(half & 0x8000 ? -magnitude : magnitude);
}

template <typename T>
void append(std::vector<std::byte> &bytes, T value, size_t count = sizeof(T)) {
    for (size_t i = 0; i < count; ++i) bytes.push_back(static_cast<std::byte>(value >> (8 * i) & 0xFF));
}

inline void append_values(std::vector<std::byte> &bytes, const NamedTensor &tensor, bool f16) {
    for (const float value : tensor.values) {
        if (tensor.integer) {
            append(bytes, static_cast<uint64_t>(value));
        } else if (f16) {
            append(bytes, to_half(value));
        } else {
            append(bytes, std::bit_cast<uint32_t>(value));
        }
    }
}

inline std::string header_entry(const NamedTensor &tensor, bool f16, size_t begin, size_t end) {
    std::string shape;
    for (const int64_t extent : tensor.shape) shape += (shape.empty() ? "" : ",") + std::to_string(extent);
    const char *dtype = tensor.integer ? "I64" : f16 ? "F16" : "F32";
    return "\"" + tensor.name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" +
           std::to_string(begin) + "," + std::to_string(end) + "]}";
}

}  // namespace detail

/// An un-folded network as torchvision's state_dict() lists it. With `f16` all values are representable as float16.
inline std::vector<NamedTensor> random_state_dict(const networks::Graph &graph, uint64_t seed, bool f16 = false) {
    std::vector<NamedTensor> tensors;
    bool after_relu = false;
    for (const networks::Layer &layer : graph.layers) {
        if (layer.kind == networks::LayerKind::kLinear) {
            detail::add_fully_connected(tensors, layer, seed);
        } else if (layer.has_weights()) {
            detail::add_convolution(tensors, layer, after_relu, seed);
        }
        // The pools keep signs.
        if (layer.has_weights() || layer.kind == networks::LayerKind::kAdd) {
            after_relu = layer.activation != networks::kNoActivation;
        } else if (layer.kind == networks::LayerKind::kActivation) {
            after_relu = true;
        }
    }
    if (f16) {
        for (NamedTensor &tensor : tensors) {
            for (float &value : tensor.values) value = detail::from_half(detail::to_half(value));
        }
    }
    return tensors;
}

/// The tensors as the bytes of a safetensors file, F32 or F16. The 8-byte integers come first, to be aligned.
inline std::vector<std::byte> to_safetensors(const std::vector<NamedTensor> &tensors, bool f16 = false) {
    std::string header;
    std::vector<std::byte> data;
    for (const bool integer : {true, false}) {
        for (const NamedTensor &tensor : tensors) {
            if (tensor.integer != integer) continue;
            const size_t begin = data.size();
            detail::append_values(data, tensor, f16);
            header += (header.empty() ? "{" : ",") + detail::header_entry(tensor, f16, begin, data.size());
        }
    }
    header += "}";
    while (header.size() % 8 != 0) header += ' ';

    std::vector<std::byte> file;
    detail::append(file, static_cast<uint64_t>(header.size()));
    for (const char ch : header) file.push_back(static_cast<std::byte>(ch));
    file.insert(file.end(), data.begin(), data.end());
    return file;
}

/// The state_dict with batch normalisation folded in double: one element a layer of the graph.
inline std::vector<LayerWeights> fold(const networks::Graph &graph, const std::vector<NamedTensor> &state_dict) {
    std::map<std::string, const std::vector<float> *> values;
    for (const NamedTensor &tensor : state_dict) values[tensor.name] = &tensor.values;
    const auto field = [&](const std::string &module, const char *name) -> const std::vector<float> & {
        return *values.at(module + name);
    };
    std::vector<LayerWeights> folded;
    for (const networks::Layer &layer : graph.layers) {
        LayerWeights &row = folded.emplace_back();
        if (!layer.has_weights()) continue;
        const std::vector<float> &weight = field(layer.module, ".weight");
        row.weights.assign(weight.begin(), weight.end());
        if (layer.norm.empty()) {
            row.bias.assign(layer.out_channels, 0.0);
            if (layer.bias) std::ranges::copy(field(layer.module, ".bias"), row.bias.begin());
            continue;
        }
        const size_t row_elements = weight.size() / layer.out_channels;
        for (int co = 0; co < layer.out_channels; ++co) {
            const double variance = field(layer.norm, ".running_var")[co];
            const double scale = field(layer.norm, ".weight")[co] / std::sqrt(variance + kEpsilon);
            for (size_t i = 0; i < row_elements; ++i) row.weights[co * row_elements + i] *= scale;
            row.bias.push_back(field(layer.norm, ".bias")[co] - field(layer.norm, ".running_mean")[co] * scale);
        }
    }
    return folded;
}

/// random_state_dict() as a safetensors file.
inline std::vector<std::byte> random_safetensors(const networks::Graph &graph, uint64_t seed, bool f16 = false) {
    return to_safetensors(random_state_dict(graph, seed, f16), f16);
}

/// What that file's weights are once folded (in double, from the values as stored).
inline std::vector<LayerWeights> fold(const networks::Graph &graph, uint64_t seed, bool f16 = false) {
    return fold(graph, random_state_dict(graph, seed, f16));
}

/// The same rounded to float, for tests that hand a layer's weights straight to float code.
inline std::vector<LayerWeights> random_weights(const networks::Graph &graph, uint64_t seed) {
    std::vector<LayerWeights> layers = fold(graph, seed);
    for (LayerWeights &layer : layers) {
        for (double &value : layer.weights) value = static_cast<float>(value);
        for (double &value : layer.bias) value = static_cast<float>(value);
    }
    return layers;
}

/// NCHW, about N(0, 1) as a normalised photograph; an image is the same whatever the batch.
inline std::vector<float> random_input(Size size, int batch, uint64_t seed) {
    const Stream stream(seed, "input");
    std::vector<float> input(size_t(batch) * 3 * size.pixels());
    for (size_t i = 0; i < input.size(); ++i) input[i] = static_cast<float>(stream.normal(i, 1));
    return input;
}

}  // namespace shufflenet::reference
