// Text as UTF-8.
#pragma once

#include <cstddef>
#include <string_view>

#include "shufflenet/version.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Length of the UTF-8 sequence that starts at text[0]; 0: not UTF-8 (RFC 3629).
inline size_t utf8_length(std::string_view text) {
    const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const auto continues = [&](size_t i) { return (byte(i) & 0xC0U) == 0x80; };
    const unsigned lead = byte(0);
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4 || !continues(1)) return 0;
    if (lead < 0xE0) return 2;
    if (!continues(2)) return 0;
    const unsigned second = byte(1);
    const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
    const bool surrogate = lead == 0xED && second >= 0xA0;
    const bool beyond_unicode = lead == 0xF4 && second >= 0x90;
    if (overlong || surrogate || beyond_unicode) return 0;
    if (lead < 0xF0) return 3;
    return continues(3) ? 4 : 0;
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
