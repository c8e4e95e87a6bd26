// Takes data out of the caches, for cold measurements.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace shufflenet::bench {

/// Writes the cache line at `address` back and drops it from every level.
inline void evict_line([[maybe_unused]] const void *address) {
#if defined(__x86_64__)
    _mm_clflush(address);
#elif defined(__aarch64__)
    asm volatile("dc civac, %0" : : "r"(address) : "memory");
#endif
}

}  // namespace shufflenet::bench
