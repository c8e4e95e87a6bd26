// A run of a whole batch: which thread computes which image, and what they share.
#pragma once

#include <memory>
#include <vector>

#include "call.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Memory of one thread.
struct Arena {
    HugePages pages;
    AlignedArray<float> activations;  ///< Of one image; then the rows of a group, where there are such.
    AlignedArray<std::byte> scratch;

    /// False: out of memory.
    [[nodiscard]] bool allocate(size_t floats, size_t scratch_bytes);
};

/// What a Model object holds.
struct ModelState {
    const shufflenet_descriptor *descriptor = nullptr;
    const shufflenet_kernels *kernels = nullptr;
    int classes_output = -1;  ///< See checkpoint.h.
    std::shared_ptr<const PackedWeights> weights;
    std::vector<Arena> arenas;     ///< One for each thread that takes part in runs; the first one has the rows.
    std::vector<Scratch> scratch;  ///< Likewise.
    ThreadPool pool;
    /// Of each output that calls write: where, in a run; null: it is not wanted.
    std::vector<float *> targets;
    const float *last_arena = nullptr;  ///< Where the last image of the last run went.

    const shufflenet_program &program() const { return *descriptor->program; }
    /// Classes as the weights have them, or as built.
    int classes() const;
    RunShape shape() const { return {descriptor, &program(), classes_output, classes()}; }
};

/// `input` and `outputs` are checked.
Status run_batch(ModelState &model, std::span<const float> input, int batch, std::span<const OutputRequest> outputs);

}  // namespace shufflenet::inline SHUFFLENET_ABI
