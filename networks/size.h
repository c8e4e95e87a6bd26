// Pixels, and sizes rounded up.
#pragma once

#include <compare>
#include <cstdint>

#include "shufflenet/version.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Rows and columns.
struct Size {
    int height = 0, width = 0;
    constexpr int pixels() const { return height * width; }
    constexpr bool operator==(const Size &) const = default;
    constexpr auto operator<=>(const Size &) const = default;
};

constexpr int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }
constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace shufflenet::inline SHUFFLENET_ABI
