// The floating-point environment that results must not depend on: rounding, flushing of denormals, traps.
#pragma once

#include <cstdint>

#include "shufflenet/version.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace detail {

// Volatile, and with memory clobbered, so that no arithmetic on what is read from memory moves across.

#if defined(__x86_64__)

// The x87's own control word is left alone: floats and doubles are computed by SSE.
using FloatControl = uint32_t;
/// To nearest even, denormals kept, exceptions masked and none raised.
inline constexpr FloatControl kDefaultFloatControl = 0x1F80;

inline FloatControl float_control() noexcept {
    FloatControl control = 0;
    asm volatile("stmxcsr %0" : "=m"(control) : : "memory");
    return control;
}
inline void set_float_control(FloatControl control) noexcept { asm volatile("ldmxcsr %0" : : "m"(control) : "memory"); }

#elif defined(__aarch64__)

struct FloatControl {
    uint64_t control = 0, status = 0;
};
inline constexpr FloatControl kDefaultFloatControl = {};

inline FloatControl float_control() noexcept {
    FloatControl now;
    asm volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(now.control), "=r"(now.status) : : "memory");
    return now;
}
inline void set_float_control(FloatControl control) noexcept {
    asm volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(control.control), "r"(control.status) : "memory");
}

#else
#error "expected x86-64 or 64-bit ARM"
#endif

}  // namespace detail

/// In its lifetime this thread computes as a new process does, whatever the caller has set; then the caller's
/// environment is back, its exception flags included: what was raised meanwhile does not show.
class DefaultFloatEnvironment {
  public:
    DefaultFloatEnvironment() noexcept : callers_(detail::float_control()) {
        detail::set_float_control(detail::kDefaultFloatControl);
    }
    DefaultFloatEnvironment(const DefaultFloatEnvironment &) = delete;
    DefaultFloatEnvironment &operator=(const DefaultFloatEnvironment &) = delete;
    ~DefaultFloatEnvironment() { detail::set_float_control(callers_); }

  private:
    detail::FloatControl callers_;
};

}  // namespace shufflenet::inline SHUFFLENET_ABI
