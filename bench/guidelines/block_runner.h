// Blocks (networks/blocks.h) run by generated kernels: unfused, a kernel for each operation, and fused, one kernel.
#pragma once

#include <HalideRuntime.h>

#include <array>
#include <chrono>
#include <deque>
#include <limits>
#include <span>
#include <string_view>

#include "networks/guidelines.h"
#include "reference/blocks.h"
#include "runtime/src/kernel_context.h"
#include "runtime/src/pack.h"

namespace shufflenet::bench {

/// A generated function, called with pointers to its arguments.
struct BlockKernel {
    std::string_view name, isa;
    int (*run)(void **arguments);
};

/// Whether the fused kernel of a block is right. For ARM, Halide 14 makes a wrong one of NASNet-A's cell, where 5x5
/// depthwise convolutions are computed within it.
inline bool fused_is_right(const Block &block, std::string_view isa) {
    return isa != "neon" || !block.name.view().starts_with("nasnet_a");
}

/// A block, so often one after another, each with weights of its own, ready to run.
class BlockRunner {
  public:
    /// Throws std::runtime_error where `kernels` lack one that is needed. `threads` above 1 takes a pool of as many.
    BlockRunner(const Block &block, std::span<const BlockKernel> kernels, std::string_view isa, bool fused, int repeats,
                int threads);
    BlockRunner(const BlockRunner &) = delete;
    BlockRunner &operator=(const BlockRunner &) = delete;

    /// Throws where a kernel reports an error. Returns the seconds that it took.
    double run();

    /// Seconds of a run in which every call of a kernel took as little as in its fastest run so far: on a machine whose
    /// processor others use too, hardly any run is undisturbed, but for every call some run is. In all, and for each of
    /// kTimeParts.
    double fastest() const;
    std::array<double, kTimeParts.size()> fastest_parts() const;

    /// Changes one value of the first block's input, which is random.
    void set_input(int channel, int pixel, float value);

    /// Runs the first block, and throws std::runtime_error if its output differs from the naive reference's.
    /// Returns the worst difference, as a share of the output's range, where the reference's is finite.
    double verify();

    /// Calls of kernels.
    size_t calls() const { return calls_.size(); }

  private:
    struct Call {
        const BlockKernel *kernel;
        TimePart part;
        int repeat;
        std::vector<void *> arguments;
        double fastest = std::numeric_limits<double>::infinity();  ///< Seconds.
    };
    struct Dimension {
        int extent, stride;
    };
    /// A halide_buffer_t with its dimensions.
    struct Argument {
        halide_buffer_t buffer{};
        halide_dimension_t dimensions[3];
    };

    void allocate();
    void pack(int repeat);
    void pack_unit(int repeat);
    void plan_unfused(int repeat);
    void plan_fused(int repeat);
    void plan_unit(int repeat);
    void plan_convolution(int repeat, int number);
    /// How a tensor lies in memory here.
    TensorLayout layout(int number) const { return fused_ ? block_.fused_tensor(number) : block_.tensor(number); }
    float *tensor(int number, int repeat);
    float *weights(int repeat, int number);
    halide_buffer_t *argument(const float *data, std::initializer_list<Dimension> dimensions);
    void add_call(const KernelSpec &spec, TimePart part, int repeat, const std::vector<halide_buffer_t *> &arguments);
    void run_call(Call &call);

    Block block_;
    std::span<const BlockKernel> kernels_;
    std::string isa_;
    bool fused_;
    int repeats_, machine_vec_;
    reference::BlockWeights values_;
    reference::Tensor input_;
    std::vector<int> first_weight_;
    std::vector<AlignedArray<float>> tensors_, weights_;
    AlignedArray<float> other_output_;  ///< Of every second block: the next one's input is not its output.
    std::deque<Argument> arguments_;
    std::vector<Call> calls_;
    ThreadPool pool_;
    std::vector<AlignedArray<std::byte>> scratch_memory_;
    std::vector<Scratch> scratch_;
    KernelError error_;
    KernelContext context_{.error = &error_};
    void *context_pointer_ = &context_;
};

}  // namespace shufflenet::bench
