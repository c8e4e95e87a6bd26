// What a fuzz target asks of a reader beside not crashing.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "shufflenet/status.h"

namespace shufflenet::fuzz {

/// What error messages are told to call the input.
inline const std::string kName = "input-file";

inline void require(bool fact, std::string_view what) {
    if (fact) return;
    std::fprintf(stderr, "not so: %.*s\n", static_cast<int>(what.size()), what.data());
    std::abort();
}

/// Bad input gets one printable line that starts with the file's name.
inline void require_error_line(std::string_view line) {
    const bool named = line.starts_with(kName + ": ") && line.size() > kName.size() + 2;
    bool one_line = line.size() < 4096;
    for (const char ch : line) one_line &= static_cast<unsigned char>(ch) >= 0x20 && ch != 0x7F;
    if (!named || !one_line) std::fprintf(stderr, "message: %.*s\n", static_cast<int>(line.size()), line.data());
    require(named, "a message starts with the file's name");
    require(one_line, "a message is one line of bounded length");
}

/// Whether the reader accepted its input; if not, how it said so.
inline bool accepted(const Status &status) {
    if (status.ok()) return true;
    require(status.code() == Code::kBadInput, "bad input is called bad input");
    require_error_line(status.message());
    return false;
}

}  // namespace shufflenet::fuzz
