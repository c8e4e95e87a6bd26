#include "log.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// One call of write() for a whole line, so that lines of several threads do not mix. Where stderr cannot be written
/// there is nobody to tell.
void write_list(std::string_view prefix, const char *format, va_list arguments) noexcept {
    const int error = errno;
    std::array<char, 1000> line{};
    std::copy(prefix.begin(), prefix.end(), line.begin());
    const size_t room = line.size() - prefix.size();
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): callers start it.
    const int wanted = std::vsnprintf(line.data() + prefix.size(), room, format, arguments);
    const size_t length = prefix.size() + std::min(static_cast<size_t>(std::max(wanted, 0)), room - 1);
    // File names may contain anything.
    std::replace_if(
        line.begin(), line.begin() + static_cast<ptrdiff_t>(length),
        [](char ch) { return static_cast<unsigned char>(ch) < 0x20 || ch == 0x7F; }, '?');
    line[length] = '\n';
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), length + 1);
    errno = error;
}

[[gnu::format(printf, 2, 3)]] void write_line(std::string_view prefix, const char *format, ...) noexcept {
    va_list arguments;
    va_start(arguments, format);
    write_list(prefix, format, arguments);
    va_end(arguments);
}

bool read_variable() noexcept {
    const char *value = std::getenv(kLogVariable);
    if (value == nullptr || *value == '\0') return false;
    if (value == std::string_view("debug")) return true;
    write_line("shufflenet: ", "%s=%s: expected debug", kLogVariable, value);
    return false;
}

}  // namespace

bool logging() noexcept {
    static const bool on = read_variable();
    return on;
}

void log_debug(const char *format, ...) noexcept {
    if (!logging()) return;
    va_list arguments;
    va_start(arguments, format);
    write_list("shufflenet: debug: ", format, arguments);
    va_end(arguments);
}

}  // namespace shufflenet
