// The kernels that bench_shuffle compares with the library's: whole basic units that store their output shuffled.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "networks/network.h"
#include "shufflenet/descriptor.h"

namespace shufflenet::bench {

/// Context, in, weights, out, tail.
using ShuffledUnit = int(const void *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *);

/// The kernels of one model for one instruction set: stages 2, 3, 4.
struct ShuffledKernels {
    std::string_view model, isa;
    std::array<ShuffledUnit *, kStages> unit;
};

/// Defined by a generated file.
const std::vector<ShuffledKernels> &shuffled_kernels();

}  // namespace shufflenet::bench
