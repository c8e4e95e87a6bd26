// From a kernel as data (networks/kernel.h) to code.
#pragma once

#include <string>

#include "generators/halide_compat.h"
#include "networks/kernel.h"
#include "schedules/tuning.h"

namespace shufflenet::generators {

/// What the descriptor says of a kernel for one instruction set.
struct BuiltKernel {
    int lanes[2];       ///< Of each group, those that go to `out`, and those after them that go to `tail`.
    int scratch_bytes;  ///< Heap memory that one thread needs at a time, as the runtime's allocator counts it.
};

/// Writes the assembly of `kernel` for a target, as function `symbol` (shufflenet_kernel_fn of the descriptor), to
/// `path` (.s). `target` has the features kKernelFeatures of networks/targets.h; `fma_units` is what it does not say of
/// the machine. With `reference` the schedule is no schedule. Throws std::runtime_error where numbers of `tuning` do
/// not fit the kernel, or it needs more than kScratchBytes.
BuiltKernel build_kernel(const networks::Kernel &kernel, const Halide::Target &target, int fma_units,
                         const schedules::Tuning &tuning, bool reference, const std::string &symbol,
                         const std::string &path);

/// The same for a device and whole batches (see struct shufflenet_device of the descriptor); `target` has the device's
/// features, too. Throws std::runtime_error, naming the kernel, where devices have none of its kind.
BuiltKernel build_device_kernel(const networks::Kernel &kernel, const Halide::Target &target,
                                const schedules::Tuning &tuning, const std::string &symbol, const std::string &path);

}  // namespace shufflenet::generators
