#include "halide_hooks.h"

#include <cstdint>
#include <cstring>

#include "kernel_context.h"
#include "networks/panels.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

constexpr size_t kAlignment = sizeof(float) * kLineFloats;

struct Loop {
    const KernelContext *context;
    halide_task_t body;
    int first;
    uint8_t *closure;
    std::atomic<int> result{0};
};

void run_iteration(void *argument, int task, int thread) {
    auto *loop = static_cast<Loop *>(argument);
    KernelContext own = *loop->context;
    own.pool = nullptr;
    own.scratch += thread;
    const int result = loop->body(&own, loop->first + task, loop->closure);
    if (result != 0) loop->result.store(result, std::memory_order_relaxed);
}

Scratch *scratch_of(void *context) {
    return context == nullptr ? nullptr : static_cast<KernelContext *>(context)->scratch;
}

}  // namespace

}  // namespace shufflenet::inline SHUFFLENET_ABI

extern "C" {

void *SHUFFLENET_HALIDE(malloc)(void *context, size_t size) {
    shufflenet::Scratch *scratch = shufflenet::scratch_of(context);
    constexpr size_t line = shufflenet::kAlignment;
    // A line for the header, and one because kernels may read a vector past what they asked for.
    const size_t padded = (size + 3 * line - 1) / line * line;
    if (scratch == nullptr || padded < size || padded > scratch->size - scratch->used) return nullptr;
    auto *block = reinterpret_cast<shufflenet::ScratchBlock *>(scratch->begin + scratch->used);
    *block = {scratch->last, true};
    scratch->last = block;
    scratch->used += padded;
    return reinterpret_cast<std::byte *>(block) + line;
}

void SHUFFLENET_HALIDE(free)(void *context, void *memory) {
    shufflenet::Scratch *scratch = shufflenet::scratch_of(context);
    if (memory == nullptr) return;
    reinterpret_cast<shufflenet::ScratchBlock *>(static_cast<std::byte *>(memory) - shufflenet::kAlignment)->live =
        false;
    while (scratch->last != nullptr && !scratch->last->live) {
        scratch->used = static_cast<size_t>(reinterpret_cast<std::byte *>(scratch->last) - scratch->begin);
        scratch->last = scratch->last->before;
    }
}

void SHUFFLENET_HALIDE(error)(void *context, const char *message) {
    auto *run = static_cast<shufflenet::KernelContext *>(context);
    if (run == nullptr || run->error->failed.exchange(true)) return;
    std::strncpy(run->error->message.data(), message, run->error->message.size() - 1);
}

int SHUFFLENET_HALIDE(do_par_for)(void *context, halide_task_t body, int first, int size, uint8_t *closure) {
    auto *run = static_cast<shufflenet::KernelContext *>(context);
    if (run->pool == nullptr || size <= 1) {
        for (int i = 0; i < size; ++i) {
            if (const int result = body(context, first + i, closure); result != 0) return result;
        }
        return 0;
    }
    shufflenet::Loop loop{run, body, first, closure, 0};
    run->pool->run(size, shufflenet::run_iteration, &loop);
    return loop.result.load(std::memory_order_relaxed);
}

}  // extern "C"
