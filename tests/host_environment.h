// Floating-point environments that a program may have set around our calls.
#pragma once

#include <cfenv>
#include <cstdint>
#include <vector>

#include "float_environment.h"

namespace shufflenet {

struct HostEnvironment {
    const char *name;
    int rounding;
    uint64_t control;  ///< Bits of MXCSR or FPCR to set beside.
    bool traps = false;
};

inline std::vector<HostEnvironment> host_environments() {
#if defined(__x86_64__)
    constexpr uint64_t kOutputs = 0x8000, kInputs = 0x0040;  // FTZ, DAZ
#else
    constexpr uint64_t kOutputs = uint64_t{1} << 24, kInputs = kOutputs;  // FZ
#endif
    return {
        {"default", FE_TONEAREST, 0},
        {"upward", FE_UPWARD, 0},
        {"downward", FE_DOWNWARD, 0},
        {"toward zero", FE_TOWARDZERO, 0},
        {"denormal outputs flushed", FE_TONEAREST, kOutputs},
        {"denormal inputs flushed", FE_TONEAREST, kInputs},
        {"denormals flushed", FE_TONEAREST, kOutputs | kInputs},
        {"upward, denormals flushed", FE_UPWARD, kOutputs | kInputs},
        {"traps", FE_TONEAREST, 0, true},
        {"downward, denormals flushed, traps", FE_DOWNWARD, kOutputs | kInputs, true},
    };
}

/// Sets an environment in its lifetime. What computes or compares floats belongs outside.
class InHostEnvironment {
  public:
    explicit InHostEnvironment(const HostEnvironment &host) {
        std::feclearexcept(FE_ALL_EXCEPT);
        std::fesetround(host.rounding);
        auto now = detail::float_control();
#if defined(__x86_64__)
        detail::set_float_control(now | static_cast<uint32_t>(host.control));
#else
        now.control |= host.control;
        detail::set_float_control(now);
#endif
        // Where the processor has no traps, nothing happens.
        if (host.traps) feenableexcept(FE_ALL_EXCEPT);
        set_ = detail::float_control();
    }
    InHostEnvironment(const InHostEnvironment &) = delete;
    InHostEnvironment &operator=(const InHostEnvironment &) = delete;
    ~InHostEnvironment() {
        fedisableexcept(FE_ALL_EXCEPT);
        std::fesetenv(FE_DFL_ENV);
    }

    /// Whether it is as it was set, without an exception flag.
    bool untouched() const {
        const auto now = detail::float_control();
#if defined(__x86_64__)
        return now == set_;
#else
        return now.control == set_.control && now.status == set_.status;
#endif
    }

  private:
    detail::FloatControl set_{};
};

}  // namespace shufflenet
