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

/// The first error of a run; written by whichever thread claims it.
struct KernelError {
    std::atomic<bool> failed{false};
    std::array<char, 512> message{};
};

/// What a kernel is called with. The threads of its loops have copies, each with its own scratch memory and without the
/// pool: a thread needs no storage of its own to find its memory, and a loop within a loop stays on its thread.
struct KernelContext {
    ThreadPool *pool = nullptr;    ///< Of loops; null: everything runs on the calling thread.
    Scratch *scratch = nullptr;    ///< scratch[i] belongs to the pool's thread i, scratch[0] to the caller.
    KernelError *error = nullptr;  ///< Never null where a kernel can fail.
    /// Where a device's kernels are launched; null on the CPU.
    DeviceLauncher *device = nullptr;
};

}  // namespace shufflenet
