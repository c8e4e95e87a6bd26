// What the library does, on stderr, for whoever asks: SHUFFLENET_LOG=debug. Silent otherwise.
#pragma once

#include <chrono>

#include "shufflenet/version.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Environment variable that turns logging on; read once, when the first line could be written.
inline constexpr const char *kLogVariable = "SHUFFLENET_LOG";

/// Whether lines are written. Any value but "debug" and "" gets one line that says so, once.
bool logging() noexcept;

/// Writes "shufflenet: debug: ...", one line, as printf() does; nothing where logging() is false. Any thread may call
/// it, lines do not mix, and it allocates nothing. A longer line is cut at 1,000 bytes.
[[gnu::format(printf, 1, 2)]] void log_debug(const char *format, ...) noexcept;

/// Times of steps for log lines; does not read the clock where logging() is false.
class LogTimer {
  public:
    LogTimer() noexcept { lap(); }
    /// Milliseconds since the last lap, or since it was made.
    double lap() noexcept {
        if (!logging()) return 0;
        const auto now = std::chrono::steady_clock::now();
        const std::chrono::duration<double, std::milli> time = now - last_;
        last_ = now;
        return time.count();
    }

  private:
    std::chrono::steady_clock::time_point last_;
};

}  // namespace shufflenet
