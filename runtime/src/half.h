// IEEE 754 half precision, as safetensors' F16 stores it.
#pragma once

#include <bit>
#include <cstdint>

#include "shufflenet/version.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Exact.
inline float half_to_float(uint16_t bits) {
    // mantissa * 2^(exponent - 25), for all values alike and without a condition, so that loops are vectorised; no
    // subnormal floats, which a program may have turned off.
    const uint32_t exponent = bits >> 10 & 0x1FU;
    const uint32_t subnormal = (exponent - 1) >> 31, not_finite = (exponent + 1) >> 5;  // 0 or 1
    const uint32_t mantissa = (bits & 0x3FFU) | (1 - subnormal) << 10;
    const auto unit = std::bit_cast<float>((exponent + subnormal + 127 - 25) << 23);
    const float magnitude = static_cast<float>(static_cast<int32_t>(mantissa)) * unit;
    const uint32_t sign = (bits & 0x8000U) << 16;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign | not_finite * 0x7F800000U);
}

}  // namespace shufflenet
