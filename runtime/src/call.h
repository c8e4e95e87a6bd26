// One call of a program: a kernel with the buffers that it reads and writes.
#pragma once

#include "kernel_context.h"
#include "pack.h"
#include "run_check.h"
#include "shufflenet/descriptor.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// What calls need and a run does not change.
struct Callee {
    const shufflenet_program *program;
    const shufflenet_kernels *kernels;
    const PackedWeights *weights;
};

/// Memory of one image.
struct ImageMemory {
    const float *image;  ///< The input, [channel][row][column].
    int image_floats;
    float *arena;  ///< Activations.
    float *row;    ///< Its row of the group's; null: there are none.
};

/// Each returns whether the kernel succeeded; otherwise the context has the message.
bool call_for_image(const Callee &callee, const shufflenet_call &call, const ImageMemory &memory,
                    KernelContext &context);

/// `rows`: of the group's images. `out`: images * classes floats.
bool call_for_group(const Callee &callee, const shufflenet_call &call, const float *rows, int images, int classes,
                    float *out, KernelContext &context);

/// Copies to `out`, laid out as `layout` says, an output that lies in an arena.
void copy_output(const shufflenet_output &output, const float *arena, Layout layout, float *out);

}  // namespace shufflenet::inline SHUFFLENET_ABI
