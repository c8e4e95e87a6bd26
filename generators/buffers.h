// The buffers that every generated function has: in, table, weights, elements, out, tail.
#pragma once

#include <vector>

#include "halide_compat.h"
#include "networks/kernel.h"

namespace shufflenet::generators {

/// What builds the pipeline of a kernel starts from these.
class KernelBuffers {
  protected:
    KernelBuffers(const networks::Kernel &kernel, int in_dimensions)
        : k_(kernel),
          layouts_(networks::weight_layouts(kernel)),
          tables_(networks::table_layout(kernel)),
          in_(Halide::Float(32), in_dimensions, "in") {
        in_.dim(0).set_min(0).set_stride(1);
        fix(table_, 0, tables_.size(), 1);
        if (k_.kind == networks::KernelKind::kLinear) {
            // As many as there are classes.
            weights_.dim(0).set_min(0).set_stride(1);
        } else {
            fix(weights_, 0, networks::weight_floats(k_), 1);
        }
        elements_ = Halide::ImageParam(type_of(k_.element), 1, "elements");
        elements_.dim(0).set_min(0).set_stride(1);
        for (Halide::ImageParam *memory : {&weights_, &elements_}) {
            memory->set_host_alignment(static_cast<int>(sizeof(float)) * kLineFloats);
        }
    }

    template <typename Buffer>
    static void fix(Buffer &&buffer, int dimension, int extent, int stride) {
        buffer.dim(dimension).set_bounds(0, extent).set_stride(stride);
    }

    static Halide::Type type_of(Element element) {
        return element == Element::kS16 ? Halide::Int(16) : Halide::Float(32);
    }

    /// An output that is empty, whatever the extents of its other dimensions.
    static Halide::Func nothing(const std::vector<Halide::Var> &at) {
        Halide::Func nothing("nothing");
        nothing(at) = 0.0F;
        nothing.output_buffer().dim(0).set_bounds(0, 0);
        return nothing;
    }

    const networks::Kernel &k_;
    std::vector<WeightLayout> layouts_;
    networks::TableLayout tables_;
    Halide::ImageParam in_, table_{Halide::Int(32), 1, "table"}, weights_{Halide::Float(32), 1, "weights"};
    Halide::ImageParam elements_;  ///< The same memory as numbers of the weights' type.
    Halide::Func outputs_[2];
};

}  // namespace shufflenet::generators
