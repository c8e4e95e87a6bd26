// Blocks for experiments: a few operations on the activations of one image, with their cost, their layout in memory and
// the kernels that compute them. A block is run in two ways: unfused, a kernel for each operation as in a framework,
// and fused, all of it in one kernel.
#pragma once

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "chain_layout.h"

namespace shufflenet::inline SHUFFLENET_ABI {

enum class OperationKind { kConv, kRelu, kAdd, kSlice, kConcat, kShuffle, kMaxPool, kAveragePool, kGlobalPool };

/// What the run-time decomposition sorts operations by (paper figure 2), and the names of the parts.
enum class TimePart { kConv, kDepthwise, kElementWise, kDataMovement, kOther };
inline constexpr std::array<std::string_view, 5> kTimeParts = {"conv", "depthwise", "element_wise", "data_movement",
                                                               "other"};

/// One operation. Tensors are numbered: 0 is the block's input, i + 1 what operation i computes.
struct Operation {
    OperationKind kind{};
    std::vector<int> in;
    /// Of the first input, and of the output.
    int in_channels = 0, out_channels = 0;
    Size in_size{}, out_size{};
    /// A convolution's or pool's window is kernel x kernel, with padding kernel / 2.
    int kernel = 1, stride = 1, groups = 1;
    /// Whether a convolution applies ReLU, in the same kernel.
    bool relu = false;
    /// What a ReLU cuts off at: 6 for ReLU6; 0: nothing.
    int limit = 0;
    /// First channel of a slice.
    int first = 0;

    constexpr bool depthwise() const { return kind == OperationKind::kConv && groups > 1 && groups == in_channels; }
    /// Elements of the weight tensor (out, in / groups, ky, kx).
    constexpr int64_t weight_elements() const {
        return kind == OperationKind::kConv ? int64_t{out_channels} * (in_channels / groups) * kernel * kernel : 0;
    }
    /// Multiply-adds of one image, "FLOPs" in the paper; only convolutions have any.
    constexpr int64_t flops() const { return weight_elements() * out_size.pixels(); }
    /// Memory access cost in elements: inputs, output and weights once each (paper section 2).
    constexpr int64_t mac() const {
        // A slice reads, and a concatenation writes, each element of its channels once.
        const bool moves = kind == OperationKind::kConcat || kind == OperationKind::kSlice;
        const int64_t inputs = moves ? int64_t{out_channels} * in_size.pixels()
                                     : static_cast<int64_t>(in.size()) * in_channels * in_size.pixels();
        return inputs + int64_t{out_channels} * out_size.pixels() + weight_elements();
    }
    constexpr TimePart part() const {
        switch (kind) {
        case OperationKind::kConv:
            return depthwise() ? TimePart::kDepthwise : TimePart::kConv;
        case OperationKind::kRelu:
        case OperationKind::kAdd:
            return TimePart::kElementWise;
        case OperationKind::kSlice:
        case OperationKind::kConcat:
        case OperationKind::kShuffle:
            return TimePart::kDataMovement;
        default:
            return TimePart::kOther;
        }
    }
};

/// MAC of a 1x1 group convolution from its FLOPs B, hw c1 + B g / c1 + B / hw (paper eq. 2); g = 1 gives eq. 1's.
constexpr double grouped_mac(double hw, double in_channels, double groups, double flops) {
    return hw * in_channels + flops * groups / in_channels + flops / hw;
}

/// How an activation lies in memory: NHWC, the channels of each group together and padded, so that each group of a
/// group convolution reads and writes whole vectors of its own.
struct TensorLayout {
    int channels = 0, groups = 1;
    Size size{};
    /// What the lanes are a multiple of, where there is one group.
    int panel = kPanelFloats;

    constexpr int group_channels() const { return channels / groups; }
    constexpr int group_lanes() const {
        if (groups == 1) return round_up(channels, panel);
        const ChannelPart last = channel_parts(group_channels(), kPanelFloats, kPanelFloats).back();
        return round_up(last.first + last.lanes, kShortestVector);
    }
    constexpr int lanes() const { return groups * group_lanes(); }
    /// Whether channels lie as they would without groups.
    constexpr bool dense() const { return groups == 1 || group_lanes() == group_channels(); }
    constexpr int lane(int channel) const {
        return channel / group_channels() * group_lanes() + channel % group_channels();
    }
    /// Floats in memory, without what a last vector may need beyond them.
    constexpr int floats() const { return lanes() * size.pixels(); }
};

/// Some operations in order of execution; the last one computes the block's output.
struct Block {
    Name name;
    int channels = 0;  ///< Of the input.
    Size size{};       ///< Of the input.
    int groups = 1;    ///< In which all tensors lie in memory.
    std::vector<Operation> operations;
    /// The same as a unit of a chain, where that is how it is fused (chain.h).
    std::optional<Step> step;

    constexpr TensorLayout tensor(int number) const {
        if (number == 0) return {channels, groups, size};
        const Operation &from = operations[number - 1];
        return {from.out_channels, groups, from.out_size};
    }
    constexpr TensorLayout output() const { return tensor(static_cast<int>(operations.size())); }
    /// How the fused kernel has a tensor: a chain's have no groups.
    constexpr TensorLayout fused_tensor(int number) const {
        TensorLayout layout = tensor(number);
        if (step) layout = {layout.channels, 1, layout.size, chain_panel(layout.channels)};
        return layout;
    }
    constexpr int64_t flops() const {
        int64_t sum = 0;
        for (const Operation &op : operations) sum += op.flops();
        return sum;
    }
    constexpr int64_t mac() const {
        int64_t sum = 0;
        for (const Operation &op : operations) sum += op.mac();
        return sum;
    }
};

/// Appends operations to a block; each function returns the number of the tensor that it makes.
class BlockBuilder {
  public:
    constexpr BlockBuilder(Name name, int channels, Size size, int groups = 1)
        : block_{name, channels, size, groups, {}, {}} {}

    constexpr int conv(int in, int out_channels, int kernel, bool relu, int groups = 1, int stride = 1) {
        Operation op = on({in});
        op.kind = OperationKind::kConv;
        op.out_channels = out_channels;
        op.kernel = kernel;
        op.stride = stride;
        op.groups = groups;
        op.relu = relu;
        op.out_size = {(op.in_size.height - 1) / stride + 1, (op.in_size.width - 1) / stride + 1};
        return append(op);
    }
    constexpr int slice(int in, int first, int channels) {
        Operation op = on({in});
        op.kind = OperationKind::kSlice;
        op.first = first;
        op.out_channels = channels;
        return append(op);
    }
    constexpr int depthwise(int in, int kernel, int stride = 1) {
        const int channels = block_.tensor(in).channels;
        return conv(in, channels, kernel, false, channels, stride);
    }
    /// `limit`: 6 for ReLU6.
    constexpr int relu(int in, int limit = 0) {
        Operation op = on({in});
        op.kind = OperationKind::kRelu;
        op.limit = limit;
        return append(op);
    }
    constexpr int add(int a, int b) { return simple(OperationKind::kAdd, {a, b}); }
    constexpr int shuffle(int in, int groups) {
        Operation op = on({in});
        op.kind = OperationKind::kShuffle;
        op.groups = groups;
        return append(op);
    }
    constexpr int concat(const std::vector<int> &in) {
        Operation op = on(in);
        op.kind = OperationKind::kConcat;
        op.out_channels = 0;
        for (const int tensor : in) op.out_channels += block_.tensor(tensor).channels;
        return append(op);
    }
    /// A 3x3 pool; averages leave out what is beyond the border.
    constexpr int pool(int in, OperationKind kind, int stride = 1) {
        Operation op = on({in});
        op.kind = kind;
        op.kernel = 3;
        op.stride = stride;
        op.out_size = {(op.in_size.height - 1) / stride + 1, (op.in_size.width - 1) / stride + 1};
        return append(op);
    }
    /// The mean of all pixels.
    constexpr int global_pool(int in) {
        Operation op = on({in});
        op.kind = OperationKind::kGlobalPool;
        op.out_size = {1, 1};
        return append(op);
    }

    constexpr void fuse_as(const Step &step) { block_.step = step; }
    constexpr Block take() { return block_; }

  private:
    constexpr Operation on(const std::vector<int> &in) const {
        const TensorLayout first = block_.tensor(in[0]);
        Operation op;
        op.in = in;
        op.in_channels = op.out_channels = first.channels;
        op.in_size = op.out_size = first.size;
        return op;
    }
    constexpr int simple(OperationKind kind, const std::vector<int> &in) {
        Operation op = on(in);
        op.kind = kind;
        return append(op);
    }
    constexpr int append(const Operation &op) {
        block_.operations.push_back(op);
        return static_cast<int>(block_.operations.size());
    }
    Block block_;
};

/// Output channels of a kernel, as parts that are stored one by one. One part where a tensor stays within a kernel.
constexpr std::vector<ChannelPart> single_part(int channels, int machine_vec) {
    std::vector<ChannelPart> parts = channel_parts(channels, kPanelFloats, machine_vec);
    return parts.size() == 1 ? parts : whole_vectors(channels, kPanelFloats);
}

/// Lanes of a kernel that computes each for itself, whatever the groups: none beyond the tensor.
constexpr std::vector<ChannelPart> lane_parts(int lanes) { return channel_parts(lanes, kPanelFloats, kShortestVector); }

/// Output channels of a convolution's own kernel, of one group: none beyond the tensor, whose groups may leave less
/// room than whole vectors.
constexpr std::vector<ChannelPart> conv_parts(int channels, int lanes, int machine_vec) {
    const std::vector<ChannelPart> parts = channel_parts(channels, kPanelFloats, machine_vec);
    return parts.back().first + parts.back().lanes <= lanes ? parts : lane_parts(channels);
}

/// A convolution's packed weights, of one group: a depthwise one has a window's layout, all others a pointwise one's,
/// whose summands are (ky, kx, ci). `lanes`: of a depthwise convolution.
constexpr PointwiseLayout dense_weights(const Operation &op, int start) {
    const int summands = op.kernel * op.kernel * (op.in_channels / op.groups);
    return pointwise_layout(start, summands, op.out_channels / op.groups, kPanelFloats);
}
constexpr WindowLayout depthwise_weights(const Operation &op, int lanes, int start) {
    return window_layout(start, op.kernel * op.kernel, lanes, kPanelFloats);
}

/// Floats of all packed weights of an operation.
constexpr int weight_floats(const Block &block, const Operation &op) {
    if (op.kind != OperationKind::kConv) return 0;
    if (op.depthwise()) return depthwise_weights(op, block.tensor(op.in[0]).lanes(), 0).end();
    return op.groups * dense_weights(op, 0).end();
}

/// Bytes that an operation's own kernel moves: what it reads and writes, padding included, and its weights, once each.
constexpr int64_t unfused_bytes(const Block &block, int number) {
    const Operation &op = block.operations[number];
    int64_t floats = block.tensor(number + 1).floats() + weight_floats(block, op);
    for (const int in : op.in) floats += block.tensor(in).floats();
    return floats * static_cast<int64_t>(sizeof(float));
}
constexpr int64_t unfused_bytes(const Block &block) {
    int64_t bytes = 0;
    for (size_t i = 0; i < block.operations.size(); ++i) bytes += unfused_bytes(block, static_cast<int>(i));
    return bytes;
}
/// Floats of all packed weights of a block; of the fused kernel where that is a chain's.
constexpr int64_t weight_floats(const Block &block) {
    int64_t floats = 0;
    for (const Operation &op : block.operations) floats += weight_floats(block, op);
    return floats;
}
constexpr int64_t fused_weight_floats(const Block &block) {
    return block.step ? unit_layout(*block.step).size : weight_floats(block);
}

/// Bytes that the fused kernel moves: the block's input, its output and all weights.
constexpr int64_t fused_bytes(const Block &block) {
    const int last = static_cast<int>(block.operations.size());
    const int64_t tensors = block.fused_tensor(0).floats() + block.fused_tensor(last).floats();
    return (tensors + fused_weight_floats(block)) * static_cast<int64_t>(sizeof(float));
}

/// One generated function: its name, its generator, the generator's parameters, and how many outputs it has.
struct KernelSpec {
    std::string name, generator, parameters;
    int inputs = 1, outputs = 1;
    bool weights = false;
};

namespace detail {

inline std::string parameter(const std::string &key, int value) { return key + "=" + std::to_string(value) + " "; }

}  // namespace detail

/// The kernel of an operation of its own. Operations of several blocks share it where they are alike.
inline KernelSpec unfused_kernel(const Block &block, const Operation &op) {
    using detail::parameter;
    const TensorLayout in = block.tensor(op.in[0]);
    const TensorLayout out{op.out_channels, block.groups, op.out_size};
    const std::string floats = std::to_string(out.floats());
    const auto windowed = [&](const std::string &name, int in_channels, int out_channels) {
        std::string id = name + std::to_string(op.kernel) + "_s" + std::to_string(op.stride);
        for (const int n : {in_channels, in.lanes(), out_channels, out.lanes(), in.size.height, in.size.width}) {
            id += "_" + std::to_string(n);
        }
        return KernelSpec{id + (op.relu ? "_relu" : ""), "layer_" + name,
                          parameter("window", op.kernel) + parameter("stride", op.stride) +
                              parameter("in_channels", in_channels) + parameter("in_lanes", in.lanes()) +
                              parameter("out_channels", out_channels) + parameter("out_lanes", out.lanes()) +
                              parameter("rows", in.size.height) + parameter("columns", in.size.width)};
    };
    switch (op.kind) {
    case OperationKind::kConv: {
        KernelSpec spec = op.depthwise() ? windowed("depthwise", in.lanes(), in.lanes())
                                         : windowed("conv", op.in_channels / op.groups, op.out_channels / op.groups);
        spec.parameters += op.relu ? "relu=true " : "relu=false ";
        spec.weights = true;
        spec.outputs = 2;
        return spec;
    }
    case OperationKind::kMaxPool:
        return windowed("max_pool", in.lanes(), in.lanes());
    case OperationKind::kAveragePool:
        return windowed("average_pool", in.lanes(), in.lanes());
    case OperationKind::kRelu:
        return {"relu" + (op.limit > 0 ? std::to_string(op.limit) : "") + "_" + floats, "layer_relu",
                parameter("floats", out.floats()) + parameter("limit", op.limit)};
    case OperationKind::kGlobalPool:
        return {"global_pool_" + std::to_string(in.lanes()) + "_" + std::to_string(in.size.pixels()),
                "layer_global_pool", parameter("lanes", in.lanes()) + parameter("pixels", in.size.pixels())};
    case OperationKind::kAdd:
        return {"add_" + floats, "layer_add", parameter("floats", out.floats()), 2};
    case OperationKind::kSlice:
    case OperationKind::kConcat:
        // A call for each input: a copy from its lanes, or into its lanes of the output.
        throw std::logic_error("an operation of copies: copy_kernel()");
    case OperationKind::kShuffle:
        break;
    }
    const std::string shape = std::to_string(op.in_channels) + "_" + std::to_string(op.groups) + "_" +
                              std::to_string(block.groups) + "_" + std::to_string(out.size.pixels());
    return {"shuffle_" + shape, "layer_shuffle",
            parameter("channels", op.in_channels) + parameter("groups", op.groups) +
                parameter("layout_groups", block.groups) + parameter("pixels", out.size.pixels())};
}

/// The kernel that copies channels of a tensor to another one: a slice, or one input of a concatenation.
inline KernelSpec copy_kernel(const TensorLayout &from, const TensorLayout &to) {
    using detail::parameter;
    const int channels = std::min(from.channels, to.channels);
    std::string id = "copy";
    for (const int n : {channels, from.lanes(), to.lanes(), from.size.pixels()}) id += "_" + std::to_string(n);
    return {id, "layer_copy",
            parameter("channels", channels) + parameter("in_lanes", from.lanes()) + parameter("out_lanes", to.lanes()) +
                parameter("pixels", from.size.pixels())};
}

}  // namespace shufflenet
