#include "call.h"

#include <HalideRuntime.h>

#include <algorithm>

#include "networks/panels.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// A kernel's argument: a dense array seen with (extent, stride) dimensions.
class Argument {
  public:
    struct Dimension {
        int extent, stride;
    };
    Argument(const float *data, std::initializer_list<Dimension> dimensions)
        : Argument(data, halide_type_t(halide_type_float, 32), dimensions) {}
    Argument(const int32_t *data, std::initializer_list<Dimension> dimensions)
        : Argument(data, halide_type_t(halide_type_int, 32), dimensions) {}
    /// `floats` of memory as elements of a type.
    Argument(const float *data, int floats, shufflenet_element element)
        : Argument(data, type_of(element), {{element == SHUFFLENET_S16 ? 2 * floats : floats, 1}}) {}
    Argument(const Argument &) = delete;
    Argument &operator=(const Argument &) = delete;

    halide_buffer_t *get() { return &buffer_; }

  private:
    static halide_type_t type_of(shufflenet_element element) {
        return element == SHUFFLENET_S16 ? halide_type_t(halide_type_int, 16) : halide_type_t(halide_type_float, 32);
    }
    Argument(const void *data, halide_type_t type, std::initializer_list<Dimension> dimensions) {
        // Without an address it would be a question for the bounds that a kernel needs. What is empty is not read.
        static const float empty = 0;
        // Halide's buffers are not const, but kernels write to their outputs only.
        buffer_.host = static_cast<uint8_t *>(const_cast<void *>(data != nullptr ? data : &empty));
        buffer_.type = type;
        buffer_.dim = dimensions_;
        for (const Dimension &d : dimensions) {
            dimensions_[buffer_.dimensions++] = halide_dimension_t(0, d.extent, d.stride);
        }
    }
    halide_dimension_t dimensions_[4];
    halide_buffer_t buffer_{};
};

/// So many lanes of each group of a kernel's output, from its plane `first` on.
class Planes : public Argument {
  public:
    Planes(const float *out, const shufflenet_shape &shape, int first, int lanes)
        : Argument(out + size_t(first) * kPlane * shape.pixels,
                   {{std::min(lanes, kPlane), 1},
                    {shape.pixels, kPlane},
                    {planes_of(lanes), kPlane * shape.pixels},
                    {shape.groups, shape.planes * kPlane * shape.pixels}}) {}
};

/// A kernel's tables and weights.
struct Constants {
    Constants(const Callee &callee, const shufflenet_call &call, int floats)
        : table(callee.program->tables + call.table, {{callee.program->shapes[call.kernel].table, 1}}),
          weights(callee.weights->floats.data() + call.weights, {{floats, 1}}),
          elements(callee.weights->floats.data() + call.weights, floats, callee.program->shapes[call.kernel].element) {}
    Argument table, weights, elements;
};

bool run(const shufflenet_kernel &kernel, Argument &in, Constants &constants, Argument &out, Argument &tail,
         KernelContext &context) {
    const int result = kernel.run(&context, in.get(), constants.table.get(), constants.weights.get(),
                                  constants.elements.get(), out.get(), tail.get());
    return result == 0 && !context.error->failed.load(std::memory_order_relaxed);
}

}  // namespace

bool call_for_image(const Callee &callee, const shufflenet_call &call, const ImageMemory &memory,
                    KernelContext &context) {
    const shufflenet_shape &shape = callee.program->shapes[call.kernel];
    const shufflenet_kernel &kernel = callee.kernels->kernels[call.kernel];
    Constants constants(callee, call, shape.weights);
    const float *to = (call.to == SHUFFLENET_TO_ROW ? memory.row : memory.arena) + call.out;
    Planes out(to, shape, 0, kernel.lanes[0]);
    Planes tail(to, shape, planes_of(kernel.lanes[0]), kernel.lanes[1]);
    const bool image = shape.in == SHUFFLENET_IMAGE;
    Argument in(image ? memory.image : memory.arena, {{image ? memory.image_floats : callee.program->arena_floats, 1}});
    return run(kernel, in, constants, out, tail, context);
}

bool call_for_group(const Callee &callee, const shufflenet_call &call, const float *rows, int images, int classes,
                    float *out, KernelContext &context) {
    const shufflenet_program &program = *callee.program;
    const shufflenet_shape &shape = program.shapes[call.kernel];
    // Those of a last linear layer end with the array, whatever their number.
    const auto left = static_cast<int>(static_cast<int64_t>(callee.weights->floats.size()) - call.weights);
    const bool as_built = classes == program.outputs[call.out].channels;
    Constants constants(callee, call, as_built ? shape.weights : left);
    Argument in(rows, {{images * program.row_floats, 1}});
    Argument to(out, {{classes, 1}, {images, classes}});
    Argument tail(out, {{0, 1}, {0, 1}});
    return run(callee.kernels->kernels[call.kernel], in, constants, to, tail, context);
}

void copy_output(const shufflenet_output &output, const float *arena, Layout layout, float *out) {
    const int pixels = output.height * output.width;
    const int channel_step = layout == Layout::kNCHW ? pixels : 1;
    const int pixel_step = layout == Layout::kNCHW ? 1 : output.channels;
    for (int c = 0; c < output.channels; ++c) {
        const float *from = arena + output.offsets[c];
        float *to = out + static_cast<ptrdiff_t>(c) * channel_step;
        for (ptrdiff_t p = 0; p < pixels; ++p) to[p * pixel_step] = from[p * kPlane];
    }
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
