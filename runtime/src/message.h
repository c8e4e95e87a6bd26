// The words of error messages: one line, bounded, whatever a file calls its contents.
#pragma once

#include <cstdint>
#include <exception>
#include <limits>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI::message {

/// `text` with control characters, and characters above `last`, escaped.
inline std::string escaped(std::string_view text, unsigned char last) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string line;
    for (const char ch : text) {
        const auto code = static_cast<unsigned char>(ch);
        if (code >= 0x20 && code != 0x7F && code <= last) {
            line += ch;
        } else {
            line += {'\\', 'x', kDigits[code / 16], kDigits[code % 16]};
        }
    }
    return line;
}

/// For text that is probably UTF-8: a file's name, a tensor's.
inline std::string one_line(std::string_view text) { return escaped(text, 0xFF); }

/// A file as messages call it, which can be seen even if its name is empty.
inline std::string file_text(std::string_view file) { return file.empty() ? "\"\"" : one_line(file); }

/// For bytes that need not be text.
inline std::string ascii(std::string_view bytes) { return escaped(bytes, 0x7F); }

/// one_line(), cut between UTF-8 characters if it is long.
inline std::string shortened(std::string_view text) {
    constexpr size_t kLongest = 120;
    if (text.size() <= kLongest) return one_line(text);
    size_t end = kLongest;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80) --end;
    return one_line(text.substr(0, end)) + "...";
}

/// "[24, 3, 3, 3]"
inline std::string shape_text(std::span<const int64_t> shape) {
    constexpr size_t kMost = 8;
    std::string text = "[";
    for (size_t i = 0; i < shape.size(); ++i) {
        if (i > 0) text += ", ";
        if (i == kMost) {
            text += "...";
            break;
        }
        text += std::to_string(shape[i]);
    }
    return text + "]";
}

/// The first few, then how many more.
inline std::string list_text(std::span<const std::string> items) {
    constexpr size_t kMost = 8;
    std::string text;
    for (size_t i = 0; i < items.size() && i < kMost; ++i) text += (i > 0 ? "; " : "") + items[i];
    if (items.size() > kMost) text += "; and " + std::to_string(items.size() - kMost) + " more";
    return text;
}

inline Status bad_input(std::string_view file, std::string_view problem) {
    return {Code::kBadInput, file_text(file) + ": " + std::string(problem)};
}

/// Where there may be no memory for a message: this one is short enough to need no heap.
inline constexpr const char *kOutOfMemory = "out of memory";

/// "out of memory for the model", if there is memory to say so.
inline Status out_of_memory(std::string_view what) noexcept {
    try {
        return {Code::kOutOfMemory, kOutOfMemory + (" for " + std::string(what))};
    } catch (...) {
        return {Code::kOutOfMemory, kOutOfMemory};
    }
}

/// What `call` returns; if that takes more memory than there is, a status that says for what.
template <typename F>
Status guarded(const char *what, F &&call) noexcept {
    try {
        return call();
    } catch (const std::bad_alloc &) {
        return out_of_memory(what);
    }
}

/// For a catch (...) clause: the exception in flight as a status.
inline Status from_exception(std::string_view file) noexcept {
    try {
        try {
            throw;
        } catch (const std::bad_alloc &) {
            return {Code::kOutOfMemory, file_text(file) + ": out of memory"};
        } catch (const std::length_error &) {
            return {Code::kOutOfMemory, file_text(file) + ": out of memory"};
        } catch (const std::exception &error) {
            return bad_input(file, shortened(error.what()));
        }
    } catch (...) {
        return {Code::kOutOfMemory, kOutOfMemory};
    }
}

}  // namespace shufflenet::message

namespace shufflenet::inline SHUFFLENET_ABI {

/// Bytes of a tensor of this shape; nothing if the shape is negative or so large that the bytes overflow, even if
/// another dimension is zero.
inline std::optional<int64_t> tensor_bytes(std::span<const int64_t> shape, int64_t element_bytes) {
    int64_t bytes = element_bytes;
    bool empty = false;
    for (const int64_t n : shape) {
        if (n < 0 || (n > 0 && bytes > std::numeric_limits<int64_t>::max() / n)) return std::nullopt;
        empty |= n == 0;
        if (n > 0) bytes *= n;
    }
    return empty ? 0 : bytes;
}

}  // namespace shufflenet
