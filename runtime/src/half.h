// IEEE 754 half precision, as safetensors' F16 stores it.
#pragma once

#include <bit>
#include <cstdint>

namespace shufflenet {

/// Exact.
inline float half_to_float(uint16_t bits) {
    constexpr uint32_t kFloatExponent = 0x7F800000;
    const uint32_t sign = (bits & 0x8000U) << 16;
    // Mantissa and exponent in a float's place; its exponent's bias is 112 more. The product is exact, and makes
    // subnormal halves, which are subnormal floats here, normal.
    const uint32_t shifted = (bits & 0x7FFFU) << 13;
    const bool finite = (bits & 0x7C00U) != 0x7C00U;
    const float magnitude =
        finite ? std::bit_cast<float>(shifted) * 0x1p112F : std::bit_cast<float>(shifted | kFloatExponent);
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
}

}  // namespace shufflenet
