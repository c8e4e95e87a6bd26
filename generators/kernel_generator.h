// What the generators share: parameters, the choice of schedule, and how buffers are fixed.
#pragma once

#include "generators/kernels.h"
#include "networks/devices.h"
#include "schedules/prefetch.h"
#include "schedules/schedules.h"

namespace shufflenet::generators {

using Halide::Generator;
using Halide::GeneratorParam;
using schedules::Machine;

/// What every kernel's generator has: the network, its input size, and a choice of schedule.
template <typename T>
class Kernel : public Generator<T> {
  public:
    template <typename U>
    using Output = typename Generator<T>::template Output<U>;
    template <typename U>
    using Buffer = typename Generator<T>::template Buffer<U>;
    template <typename U>
    using Input = typename Generator<T>::template Input<U>;

    GeneratorParam<std::string> network{"network", "shufflenet_v2_x1_0"};
    GeneratorParam<int> height{"height", kDefaultCrop, kMinInput, kMaxInput};
    GeneratorParam<int> width{"width", kDefaultCrop, kMinInput, kMaxInput};
    /// Kernel name in the tuned file, e.g. "stage3_basic".
    GeneratorParam<std::string> kernel{"kernel", ""};
    /// Path of the tuned numbers; empty: defaults.
    GeneratorParam<std::string> tuned{"tuned", ""};
    /// Of a device's kernel: images in a run, at least, for which of the tuned numbers.
    GeneratorParam<int> batch{"batch", 1, 1, kMostImages};
    /// What the target does not say of the machine: vector multiply-adds a cycle.
    GeneratorParam<int> fma_units{"fma_units", 2, 1, 2};
    /// Build with the reference schedule instead of the target's.
    GeneratorParam<bool> reference{"reference", false};
    /// Work to leave out, so that experiments see what it costs: "element_wise" (activations and additions),
    /// "depthwise" (all taps of a depthwise convolution but one), "data_movement" (shuffles); empty: nothing.
    GeneratorParam<std::string> without{"without", ""};

  protected:
    Var c{"c"}, x{"x"}, y{"y"}, p{"p"};

    const Network &net() const {
        const Network *n = find_network(network.value());
        if (n == nullptr) throw std::runtime_error("unknown network: " + network.value());
        return *n;
    }
    Size input_size() const { return {height, width}; }
    static constexpr int vec() { return kPanelFloats; }
    bool leaves_out(std::string_view work) const { return without.value() == work; }
    /// The epilogue of ShuffleNetV2's convolutions with ReLU, and the width of depthwise windows.
    Epilogue rectifier() const { return leaves_out("element_wise") ? linear : relu; }
    int depthwise_window() const { return leaves_out("depthwise") ? 1 : 3; }
    Machine machine() const { return schedules::machine_of(this->get_target(), fma_units); }

    template <typename Funcs>
    void schedule(Funcs &funcs) {
        const Halide::Target target = this->get_target();
        const auto make = target.has_gpu_feature()             ? schedules::gpu_schedule
                          : target.arch == Halide::Target::ARM ? schedules::arm_schedule
                                                               : schedules::x86_schedule;
        const auto how =
            reference ? schedules::reference_schedule() : make(machine(), schedules::read_tuning(tuned, kernel, batch));
        how->apply(funcs);
        this->get_pipeline().add_custom_lowering_pass(new schedules::SpreadPrefetches);
    }

    /// Fixes a buffer's dimension: [0, extent), with that stride.
    template <typename Buffer>
    static void fix(Buffer &buffer, int dimension, int extent, int stride) {
        buffer.dim(dimension).set_bounds(0, extent).set_stride(stride);
    }
    /// Fixes a packed (lanes, pixels) tensor.
    template <typename Buffer>
    static void fix_block(Buffer &buffer, int lanes, int pixels) {
        fix(buffer, 0, lanes, 1);
        fix(buffer, 1, pixels, lanes);
        buffer.set_host_alignment(64);
    }
    /// Hands the parts of a (lanes, pixels) tensor out: the first to `out`, the second, or nothing, to `tail`.
    /// Both lie in one packed tensor, `lanes` a pixel.
    template <typename Part>
    void emit(const std::vector<Part> &parts, int lanes, int pixels, Output<Buffer<float>> &out,
              Output<Buffer<float>> &tail) {
        out = parts[0].out;
        fix(out, 0, parts[0].channels.lanes, 1);
        if (parts.size() > 1) {
            tail = parts[1].out;
            fix(tail, 0, parts[1].channels.lanes, 1);
        } else {
            Func nothing("nothing");
            nothing(c, p) = 0.0F;
            tail = nothing;
            fix(tail, 0, 0, 1);
        }
        fix(out, 1, pixels, lanes);
        fix(tail, 1, pixels, lanes);
        out.set_host_alignment(64);
        tail.set_host_alignment(16);
    }
    template <typename Buffer>
    static void fix_line(Buffer &buffer, int size) {
        fix(buffer, 0, size, 1);
        buffer.set_host_alignment(64);
    }
};

}  // namespace shufflenet::generators
