// Counts this process's calls of malloc, by interposing it (glibc keeps the real one as __libc_malloc).
#pragma once

#include <atomic>
#include <cstddef>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// Sanitizers interpose malloc themselves.
inline constexpr bool kCountsAllocations = false;
inline long allocation_count() { return 0; }
#else
inline constexpr bool kCountsAllocations = true;
inline std::atomic<long> allocations{0};
inline long allocation_count() { return allocations.load(); }

extern "C" {
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void *malloc(size_t size) {
    ++allocations;
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
    ++allocations;
    return __libc_calloc(count, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
    ++allocations;
    return __libc_memalign(alignment, size);
}
}
#endif
