// Whether numbers are finite, by their bits: std::isfinite() is true for all where a program around us is compiled with
// -ffast-math, even of ours where the linker takes that program's copy of an inline function.
#pragma once

#include <bit>
#include <cstdint>

#include "shufflenet/version.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Neither infinite nor NaN.
inline bool is_finite(float value) { return (std::bit_cast<uint32_t>(value) & 0x7F800000U) != 0x7F800000U; }
/// Likewise.
inline bool is_finite(double value) {
    constexpr uint64_t kExponent = uint64_t{0x7FF} << 52;
    return (std::bit_cast<uint64_t>(value) & kExponent) != kExponent;
}

}  // namespace shufflenet
