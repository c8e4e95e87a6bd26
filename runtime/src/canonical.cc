#include "canonical.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "finite.h"
#include "half.h"
#include "message.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// IEEE 754 half precision, rounded to nearest even; nothing if that is not finite.
std::optional<uint16_t> float_to_half(float value) {
    constexpr int kInfinity = 0x7C00;
    if (!is_finite(value)) return {};
    // Unit in the last place: 2^(exponent - 10), and 2^-24 for all subnormals. A carry out of the rounded units moves
    // into the exponent's bits by itself.
    const int exponent = value == 0 ? -14 : std::max(std::ilogb(value), -14);
    const auto units = static_cast<int>(std::nearbyint(std::ldexp(std::fabs(double{value}), 10 - exponent)));
    const int bits = (exponent + 14) * 1024 + units;
    if (bits >= kInfinity) return {};
    return static_cast<uint16_t>(bits | (std::signbit(value) ? 0x8000 : 0));
}

template <typename T>
T load(std::span<const std::byte> bytes, size_t i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    return value;
}

template <typename T>
void store(std::vector<std::byte> &bytes, size_t i, T value) {
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
}

Status to_halves(const Tensor &tensor, const std::string &file_name, std::vector<std::byte> *bytes) {
    const size_t count = tensor.data.size() / sizeof(float);
    bytes->resize(count * sizeof(uint16_t));
    for (size_t i = 0; i < count; ++i) {
        const auto value = load<float>(tensor.data, i);
        const std::optional<uint16_t> half = float_to_half(value);
        if (!half) {
            return message::bad_input(
                file_name, message::shortened(tensor.name) + ": " + std::to_string(value) + " is too large for F16");
        }
        store(*bytes, i, *half);
    }
    return {};
}

std::vector<std::byte> to_floats(const Tensor &tensor) {
    const size_t count = tensor.data.size() / sizeof(uint16_t);
    std::vector<std::byte> bytes(count * sizeof(float));
    for (size_t i = 0; i < count; ++i) store(bytes, i, half_to_float(load<uint16_t>(tensor.data, i)));
    return bytes;
}

}  // namespace

Status canonical_weights(const Safetensors &file, const std::string &file_name, Precision precision,
                         CanonicalWeights *out) try {
    CanonicalWeights weights;
    for (Tensor tensor : file.tensors()) {
        if (tensor.name.ends_with(".num_batches_tracked")) continue;
        if (precision == Precision::kHalf && tensor.dtype == "F32") {
            std::vector<std::byte> &halves = weights.converted.emplace_back();
            if (Status status = to_halves(tensor, file_name, &halves); !status.ok()) return status;
            tensor.data = halves;
            tensor.dtype = "F16";
        } else if (precision == Precision::kSingle && tensor.dtype == "F16") {
            tensor.data = weights.converted.emplace_back(to_floats(tensor));
            tensor.dtype = "F32";
        }
        weights.tensors.push_back(std::move(tensor));
    }
    *out = std::move(weights);
    return {};
} catch (...) {
    return message::from_exception(file_name);
}

}  // namespace shufflenet
