// What generated kernels get as Halide's user context: where their scratch memory, threads and errors go.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>

#include "thread_pool.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Precedes each piece of scratch memory. Kernels free in any order; space is reused from the top down.
struct ScratchBlock {
    ScratchBlock *before;
    bool live;
};

/// Scratch memory of one thread.
struct Scratch {
    std::byte *begin = nullptr;
    size_t size = 0;
    size_t used = 0;
    ScratchBlock *last = nullptr;
};

class DeviceLauncher;

/// One run's context. `scratch[i]` belongs to the pool's thread i; without a pool, everything runs on the caller,
/// with `scratch[0]`.
struct KernelContext {
    ThreadPool *pool = nullptr;
    Scratch *scratch = nullptr;
    /// First error message of the run; written by whichever thread claims it.
    std::atomic<bool> failed{false};
    std::array<char, 512> message{};
    /// Where a device's kernels are launched; null on the CPU.
    DeviceLauncher *device = nullptr;
};

/// Makes `scratch` the current thread's; kernels called on this thread allocate from it.
void use_scratch(Scratch *scratch) noexcept;

}  // namespace shufflenet::inline SHUFFLENET_ABI
