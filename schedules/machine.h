// What a schedule may know of the target, derived in one place.
#pragma once

#include "generators/halide_compat.h"

#include "networks/devices.h"
#include "networks/panels.h"

namespace shufflenet::schedules {

struct Machine {
    int vec;                 ///< Floats in a vector register.
    int registers;           ///< Architectural vector registers.
    bool fma;                ///< Multiply-add in one instruction, with a memory operand.
    bool broadcast_operand;  ///< A multiply-add can broadcast its memory operand (AVX-512).
    bool lane_operands;      ///< A multiply-add can take one lane of a vector for all (ARM).
    /// How far ahead weights are prefetched: more than a memory latency of multiply-adds, little of a first-level
    /// cache. 0 where the loads of a tile leave no room for prefetches.
    int prefetch_bytes;
    int shared_bytes = 0;  ///< Of a device: shared memory of a block.
    int fma_units = 2;     ///< Vector multiply-adds that begin in a cycle; vector loads are two.

    /// A core that begins two multiply-adds a cycle, each with a broadcast from memory, has no load left for weights.
    bool loads_bound() const { return broadcast_operand && fma_units == 2; }
    VectorUnit vectors() const { return vector_unit(vec, fma_units); }
};

/// `fma_units` is what an x86 target does not say of itself.
inline Machine machine_of(const Halide::Target &target, int fma_units) {
    using Halide::Target;
    if (target.has_gpu_feature()) {
        const char *name = target.has_feature(Target::CUDA) ? "cuda" : "opencl";
        return {.vec = kThreadFloats,
                .registers = 0,
                .fma = true,
                .broadcast_operand = false,
                .lane_operands = false,
                .prefetch_bytes = 0,
                .shared_bytes = find_device(name)->shared_bytes};
    }
    if (target.arch == Target::ARM) {
        return {.vec = 4,
                .registers = 32,
                .fma = true,
                .broadcast_operand = false,
                .lane_operands = true,
                .prefetch_bytes = 0};
    }
    const bool avx512 = target.has_feature(Target::AVX512_Skylake);
    const bool avx2 = target.has_feature(Target::AVX2);
    return {
        .vec = avx512 ? 16
               : avx2 ? 8
                      : 4,
        .registers = avx512 ? 32 : 16,
        .fma = avx2 || avx512,
        .broadcast_operand = avx512,
        .lane_operands = false,
        .prefetch_bytes = avx512 || avx2 ? 8 << 10 : 0,
        .fma_units = fma_units,
    };
}

}  // namespace shufflenet::schedules
