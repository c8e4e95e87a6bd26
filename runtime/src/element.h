// The floating-point types that weights may have, as safetensors stores them.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include "half.h"

namespace shufflenet::inline SHUFFLENET_ABI {

enum class ElementType { kF32, kF16, kBf16, kF64 };

/// For messages.
inline constexpr std::string_view kElementTypes = "F32, F16, BF16 or F64";

/// Of a tensor's dtype; nothing if weights cannot have it.
inline std::optional<ElementType> element_type(std::string_view dtype) {
    if (dtype == "F32") return ElementType::kF32;
    if (dtype == "F16") return ElementType::kF16;
    if (dtype == "BF16") return ElementType::kBf16;
    if (dtype == "F64") return ElementType::kF64;
    return std::nullopt;
}

constexpr size_t element_bytes(ElementType type) {
    constexpr std::array<size_t, 4> kBytes = {4, 2, 2, 8};
    return kBytes[static_cast<size_t>(type)];
}

/// bfloat16 is the upper half of a float. Exact.
inline float bfloat16_to_float(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

/// Element `i` at `from`, which need not be aligned.
template <typename T>
T load_element(const std::byte *from, size_t i) {
    T value;
    std::memcpy(&value, from + i * sizeof value, sizeof value);
    return value;
}

/// Element `i`. Exact.
inline double element_to_double(ElementType type, const std::byte *from, size_t i) {
    switch (type) {
    case ElementType::kF32:
        return load_element<float>(from, i);
    case ElementType::kF16:
        return half_to_float(load_element<uint16_t>(from, i));
    case ElementType::kBf16:
        return bfloat16_to_float(load_element<uint16_t>(from, i));
    case ElementType::kF64:
        break;
    }
    return load_element<double>(from, i);
}

/// As many elements as `to` has, rounded to nearest; what is too large for a float becomes infinite.
inline void elements_to_floats(ElementType type, const std::byte *from, std::span<float> to) {
    switch (type) {
    case ElementType::kF32:
        if (!to.empty()) std::memcpy(to.data(), from, to.size_bytes());
        return;
    case ElementType::kF16:
        for (size_t i = 0; i < to.size(); ++i) to[i] = half_to_float(load_element<uint16_t>(from, i));
        return;
    case ElementType::kBf16:
        for (size_t i = 0; i < to.size(); ++i) to[i] = bfloat16_to_float(load_element<uint16_t>(from, i));
        return;
    case ElementType::kF64:
        for (size_t i = 0; i < to.size(); ++i) to[i] = static_cast<float>(load_element<double>(from, i));
        return;
    }
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
