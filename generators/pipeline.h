// A kernel as Halide's pipeline, with its schedule.
#pragma once

#include <memory>
#include <vector>

#include "generators/halide_compat.h"
#include "networks/kernel.h"
#include "schedules/schedules.h"
#include "schedules/scratch.h"

namespace shufflenet::generators {

/// Arguments of a generated function, beside the user context, in their order: in, table, weights, elements, out, tail.
struct KernelPipeline {
    Halide::Pipeline pipeline;
    Halide::ImageParam in, table, weights, elements;
    std::vector<ChannelPart> parts;  ///< Of each group of the output: out, and tail if there is one.
    /// What the lowered code needs; 0 before it is compiled.
    std::shared_ptr<schedules::ScratchBytes> scratch;

    std::vector<Halide::Argument> arguments() const { return {in, table, weights, elements}; }
};

/// See build_device_kernel().
KernelPipeline make_device_pipeline(const networks::Kernel &kernel, const Halide::Target &target,
                                    const schedules::Tuning &tuning);

/// A kernel for a machine, with whatever schedule.
KernelPipeline make_pipeline(const networks::Kernel &kernel, const schedules::Machine &machine,
                             const schedules::Schedule &schedule);

/// With a target's own: see build_kernel().
KernelPipeline make_pipeline(const networks::Kernel &kernel, const Halide::Target &target, int fma_units,
                             const schedules::Tuning &tuning, bool reference);

}  // namespace shufflenet::generators
