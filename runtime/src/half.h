// IEEE 754 half precision, as safetensors' F16 stores it.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>

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

/// Rounded to nearest even, whatever the floating-point environment; nothing if that is not finite.
inline std::optional<uint16_t> to_half(double value) {
    constexpr uint64_t kHidden = uint64_t{1} << 52, kInfinity = 0x7C00;
    const auto bits = std::bit_cast<uint64_t>(value);
    const auto exponent = static_cast<int>(bits >> 52 & 0x7FF);
    const auto sign = static_cast<uint16_t>(bits >> 48 & 0x8000);
    // Units in the last place are 2^(e - 10) where the value is 2^e and more, and 2^-24 of all subnormals.
    constexpr int kBias = 1023, kLeast = kBias - 14, kDropped = 52 - 10;
    const int below = exponent < kLeast ? kLeast - exponent : 0;
    if (below > 12) return sign;
    const uint64_t mantissa = (bits & (kHidden - 1)) | kHidden;
    const int dropped = kDropped + below;
    const uint64_t odd = mantissa >> dropped & 1;
    const uint64_t units = (mantissa + (uint64_t{1} << (dropped - 1)) - 1 + odd) >> dropped;
    // A carry out of the units moves into the exponent's bits by itself.
    const uint64_t half = (static_cast<uint64_t>(exponent - kLeast + below) << 10) + units;
    if (half >= kInfinity) return {};
    return static_cast<uint16_t>(sign | half);
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
