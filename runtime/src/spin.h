// Waiting for another thread without giving up the processor.
#pragma once

#include <chrono>

#include "shufflenet/version.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace shufflenet::inline SHUFFLENET_ABI {

inline void pause() noexcept {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

/// Whether `done()` became true within `budget`. In time, because a pause takes from 3 to 50 ns, by processor. Between
/// two looks at the clock there are many at `done()`, which is then noticed as fast as without a budget.
template <typename Done>
bool spin_until(Done &&done, std::chrono::nanoseconds budget) noexcept {
    constexpr int kPauses = 16;
    using Clock = std::chrono::steady_clock;
    Clock::time_point end{};
    while (true) {
        for (int i = 0; i < kPauses; ++i) {
            if (done()) return true;
            pause();
        }
        const Clock::time_point now = Clock::now();
        if (end == Clock::time_point{}) end = now + budget;
        if (now >= end) return done();
    }
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
