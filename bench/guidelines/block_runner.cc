#include "block_runner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "networks/targets.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kSeed = 7;
/// For the intermediates of a whole block.
constexpr size_t kScratch = size_t{16} << 20;
// Single precision through at most 2,400 summands a layer and eleven layers, as a share of the range of the outputs.
constexpr double kTolerance = 1e-5;

template <typename T>
void allocate(AlignedArray<T> &array, size_t size) {
    if (!array.allocate(size)) throw std::bad_alloc();
}

}  // namespace

BlockRunner::BlockRunner(const Block &block, std::span<const BlockKernel> kernels, std::string_view isa, bool fused,
                         int repeats, int threads)
    : block_(block),
      kernels_(kernels),
      isa_(isa),
      fused_(fused),
      repeats_(repeats),
      machine_vec_(find_target(isa)->vec),
      values_(reference::random_block_weights(block, kSeed)),
      input_(reference::random_tensor(block.tensor(0), kSeed)),
      scratch_memory_(threads),
      scratch_(threads) {
    if (const Status status = pool_.start(threads); !status.ok()) throw std::runtime_error(status.message());
    if (threads > 1) context_.pool = &pool_;
    for (int i = 0; i < threads; ++i) {
        bench::allocate(scratch_memory_[i], kScratch);
        scratch_[i] = {scratch_memory_[i].data(), kScratch};
    }
    context_.scratch = scratch_.data();
    allocate();
    for (int r = 0; r < repeats_; ++r) {
        if (fused && block_.step) {
            pack_unit(r);
            plan_unit(r);
            continue;
        }
        pack(r);
        if (fused) {
            plan_fused(r);
        } else {
            plan_unfused(r);
        }
    }
}

void BlockRunner::allocate() {
    const int count = static_cast<int>(block_.operations.size()) + 1;
    tensors_.resize(count);
    for (int i = 0; i < count; ++i) bench::allocate(tensors_[i], layout(i).floats() + kPanelFloats);
    bench::allocate(other_output_, layout(count - 1).floats() + kPanelFloats);
    const TensorLayout in = layout(0);
    for (int c = 0; c < in.channels; ++c) {
        for (int p = 0; p < in.size.pixels(); ++p) {
            tensors_[0].data()[p * in.lanes() + in.lane(c)] = static_cast<float>(input_.plane(c)[p]);
        }
    }
    int floats = 0;
    for (const Operation &op : block_.operations) {
        first_weight_.push_back(floats);
        floats += weight_floats(block_, op);
    }
    weights_.resize(repeats_);
    const auto blob_floats = static_cast<int>(fused_ ? fused_weight_floats(block_) : floats);
    for (AlignedArray<float> &blob : weights_) bench::allocate(blob, std::max(blob_floats, 1));
}

/// A block's output is the next one's input, if it is as large; if not, all read the same.
float *BlockRunner::tensor(int number, int repeat) {
    const int last = static_cast<int>(block_.operations.size());
    const bool chained = block_.output().floats() == block_.tensor(0).floats();
    if (number == 0 && (repeat == 0 || !chained)) return tensors_[0].data();
    const int writer = number == 0 ? repeat - 1 : repeat;
    if (number != 0 && number != last) return tensors_[number].data();
    return writer % 2 == 0 ? tensors_[last].data() : other_output_.data();
}

float *BlockRunner::weights(int repeat, int number) { return weights_[repeat].data() + first_weight_[number]; }

void BlockRunner::pack(int repeat) {
    for (size_t i = 0; i < block_.operations.size(); ++i) {
        const Operation &op = block_.operations[i];
        if (op.kind != OperationKind::kConv) continue;
        const reference::LayerWeights &from = values_[i];
        float *to = weights(repeat, static_cast<int>(i));
        const int taps = op.kernel * op.kernel;
        if (op.depthwise()) {
            const TensorLayout in = block_.tensor(op.in[0]);
            const WindowLayout at = depthwise_weights(op, in.lanes(), 0);
            for (int c = 0; c < op.out_channels; ++c) {
                to[at.bias + in.lane(c)] = static_cast<float>(from.bias[c]);
                for (int tap = 0; tap < taps; ++tap) {
                    to[at.weight_index(in.lane(c), tap)] = static_cast<float>(from.weights[c * taps + tap]);
                }
            }
            continue;
        }
        const PointwiseLayout at = dense_weights(op, 0);
        const int inputs = op.in_channels / op.groups, outputs = op.out_channels / op.groups;
        for (int co = 0; co < op.out_channels; ++co) {
            float *group = to + co / outputs * at.end();
            group[at.bias + co % outputs] = static_cast<float>(from.bias[co]);
            for (int k = 0; k < inputs * taps; ++k) {
                const int ci = k % inputs, tap = k / inputs;
                group[at.weight_index(co % outputs, k)] =
                    static_cast<float>(from.weights[(size_t(co) * inputs + ci) * taps + tap]);
            }
        }
    }
}

/// As the packed weights of a model's chain: runtime/src/pack.cc, which reads a weight file.
void BlockRunner::pack_unit(int repeat) {
    const Step &s = *block_.step;
    const UnitLayout at = unit_layout(s);
    float *blob = weights_[repeat].data();
    size_t next = 0;
    const auto pack_next = [&](const auto &first, int rows, int groups, int stride) {
        while (block_.operations[next].kind != OperationKind::kConv) ++next;
        const reference::LayerWeights &from = values_[next++];
        const int outputs = static_cast<int>(from.bias.size()) / groups;
        for (int co = 0; co < groups * outputs; ++co) {
            float *group = blob + size_t(co / outputs) * stride;
            group[first.bias + co % outputs] = static_cast<float>(from.bias[co]);
            for (int row = 0; row < rows; ++row) {
                group[first.weight_index(co % outputs, row)] =
                    static_cast<float>(from.weights[size_t(co) * rows + row]);
            }
        }
    };
    if (s.expanded > 0) pack_next(at.expand, at.expand.k, s.expand_groups, at.expand_stride);
    pack_next(at.depthwise, kTaps, s.expand_groups, at.depthwise_stride);
    pack_next(at.project, at.project.k, s.project_groups, at.project_stride);
}

halide_buffer_t *BlockRunner::argument(const float *data, std::initializer_list<Dimension> dimensions) {
    Argument &made = arguments_.emplace_back();
    // Halide's buffers are not const, but kernels write to their outputs only.
    made.buffer.host = reinterpret_cast<uint8_t *>(const_cast<float *>(data));
    made.buffer.type = halide_type_t(halide_type_float, 32);
    made.buffer.dim = made.dimensions;
    for (const Dimension &d : dimensions) {
        made.dimensions[made.buffer.dimensions++] = halide_dimension_t(0, d.extent, d.stride);
    }
    return &made.buffer;
}

void BlockRunner::add_call(const KernelSpec &spec, TimePart part, int repeat,
                           const std::vector<halide_buffer_t *> &arguments) {
    const auto kernel =
        std::ranges::find_if(kernels_, [&](const BlockKernel &k) { return k.name == spec.name && k.isa == isa_; });
    if (kernel == kernels_.end())
        throw std::runtime_error("kernel " + spec.name + " for " + isa_ + ": not compiled in");
    Call &call = calls_.emplace_back(Call{&*kernel, part, repeat, {&context_pointer_}});
    call.arguments.insert(call.arguments.end(), arguments.begin(), arguments.end());
}

/// A call for each group, of its lanes of input and output.
void BlockRunner::plan_convolution(int repeat, int number) {
    const Operation &op = block_.operations[number];
    const bool windows = op.kind != OperationKind::kConv || op.depthwise();
    const TensorLayout in = block_.tensor(op.in[0]), out = block_.tensor(number + 1);
    const int groups = windows ? 1 : op.groups;
    const int inputs = windows || op.kernel > 1 ? in.lanes() : op.in_channels / groups;
    const int outputs = windows ? out.lanes() : op.out_channels / groups;
    const std::array<ChannelPart, 2> parts =
        two_parts(windows ? lane_parts(outputs) : conv_parts(outputs, out.lanes(), machine_vec_));
    const int floats = weight_floats(block_, op) / groups;
    if (!windows && groups != block_.groups && !(groups == 1 && in.dense() && out.dense())) {
        throw std::runtime_error("a tensor's groups are those of its block");
    }
    for (int g = 0; g < groups; ++g) {
        const float *from = tensor(op.in[0], repeat) + g * in.group_lanes();
        const float *to = tensor(number + 1, repeat) + g * out.group_lanes();
        std::vector<halide_buffer_t *> list = {argument(from, {{inputs, 1}, {in.size.pixels(), in.lanes()}})};
        if (floats > 0) list.push_back(argument(weights(repeat, number) + g * floats, {{floats, 1}}));
        for (const ChannelPart &part : parts) {
            list.push_back(argument(to + part.first, {{part.lanes, 1}, {out.size.pixels(), out.lanes()}}));
        }
        add_call(unfused_kernel(block_, op), op.part(), repeat, list);
    }
}

void BlockRunner::plan_unfused(int repeat) {
    for (int i = 0; i < static_cast<int>(block_.operations.size()); ++i) {
        const Operation &op = block_.operations[i];
        const TensorLayout out = block_.tensor(i + 1);
        const auto line = [&](int number) {
            return argument(tensor(number, repeat), {{block_.tensor(number).floats(), 1}});
        };
        const auto block = [&](const float *data, int lanes, int stride) {
            return argument(data, {{lanes, 1}, {out.size.pixels(), stride}});
        };
        switch (op.kind) {
        case OperationKind::kConv:
        case OperationKind::kMaxPool:
        case OperationKind::kAveragePool:
            plan_convolution(repeat, i);
            break;
        case OperationKind::kRelu:
            add_call(unfused_kernel(block_, op), op.part(), repeat, {line(op.in[0]), line(i + 1)});
            break;
        case OperationKind::kAdd:
            add_call(unfused_kernel(block_, op), op.part(), repeat, {line(op.in[0]), line(op.in[1]), line(i + 1)});
            break;
        case OperationKind::kShuffle:
            add_call(unfused_kernel(block_, op), op.part(), repeat,
                     {block(tensor(op.in[0], repeat), out.lanes(), out.lanes()),
                      block(tensor(i + 1, repeat), out.lanes(), out.lanes())});
            break;
        case OperationKind::kGlobalPool: {
            const TensorLayout from = block_.tensor(op.in[0]);
            add_call(unfused_kernel(block_, op), op.part(), repeat,
                     {argument(tensor(op.in[0], repeat), {{from.lanes(), 1}, {from.size.pixels(), from.lanes()}}),
                      line(i + 1)});
            break;
        }
        case OperationKind::kSlice: {
            const TensorLayout from = block_.tensor(op.in[0]);
            add_call(copy_kernel(from, out), op.part(), repeat,
                     {block(tensor(op.in[0], repeat) + op.first, out.channels, from.lanes()),
                      block(tensor(i + 1, repeat), out.channels, out.lanes())});
            break;
        }
        case OperationKind::kConcat:
            int first = 0;
            for (const int from : op.in) {
                const TensorLayout part = block_.tensor(from);
                if (!part.dense() || !out.dense()) throw std::runtime_error("a concatenation's groups have padding");
                add_call(copy_kernel(part, out), op.part(), repeat,
                         {block(tensor(from, repeat), part.channels, part.lanes()),
                          block(tensor(i + 1, repeat) + first, part.channels, out.lanes())});
                first += part.channels;
            }
            break;
        }
    }
}

void BlockRunner::plan_fused(int repeat) {
    const TensorLayout in = block_.tensor(0), out = block_.output();
    const int last = static_cast<int>(block_.operations.size());
    std::vector<halide_buffer_t *> list = {
        argument(tensor(0, repeat), {{in.lanes(), 1}, {in.size.pixels(), in.lanes()}}),
        argument(weights_[repeat].data(), {{static_cast<int>(weights_[repeat].size()), 1}})};
    const Operation &end = block_.operations.back();
    const std::vector<int> stored = end.kind == OperationKind::kConcat ? end.in : std::vector<int>{last};
    int first = 0;
    for (const int number : stored) {
        const int channels = block_.tensor(number).channels;
        if (end.kind == OperationKind::kShuffle) {
            // Two lanes for each of the second half's.
            const int lanes = 2 * single_part(channels / 2, machine_vec_).front().lanes;
            list.push_back(argument(tensor(last, repeat), {{lanes, 1}, {out.size.pixels(), out.lanes()}}));
            continue;
        }
        list.push_back(argument(tensor(last, repeat) + first, {{single_part(channels, machine_vec_).front().lanes, 1},
                                                               {out.size.pixels(), out.lanes()}}));
        first += channels;
    }
    add_call(fused_kernel(block_), TimePart::kOther, repeat, list);
}

/// A unit's output is (channel of a group, pixel, group), as of every kernel of a chain.
void BlockRunner::plan_unit(int repeat) {
    const Step &s = *block_.step;
    const UnitLayout at = unit_layout(s);
    const int last = static_cast<int>(block_.operations.size());
    const TensorLayout out = layout(last);
    add_call(fused_kernel(block_), TimePart::kOther, repeat,
             {argument(tensor(0, repeat), {{layout(0).floats(), 1}}), argument(weights_[repeat].data(), {{at.size, 1}}),
              argument(tensor(last, repeat), {{at.project.lanes, 1},
                                              {out.size.pixels(), out.lanes()},
                                              {s.project_groups, s.projected() / s.project_groups}})});
}

void BlockRunner::run_call(Call &call) {
    if (call.kernel->run(call.arguments.data()) != 0 || error_.failed) {
        throw std::runtime_error(std::string(call.kernel->name) + " on " + isa_ + ": " + error_.message.data());
    }
}

double BlockRunner::run() {
    const auto start = Clock::now();
    auto before = start;
    for (Call &call : calls_) {
        run_call(call);
        const auto after = Clock::now();
        call.fastest = std::min(call.fastest, std::chrono::duration<double>(after - before).count());
        before = after;
    }
    return std::chrono::duration<double>(before - start).count();
}

double BlockRunner::fastest() const {
    double sum = 0;
    for (const double part : fastest_parts()) sum += part;
    return sum;
}

std::array<double, kTimeParts.size()> BlockRunner::fastest_parts() const {
    std::array<double, kTimeParts.size()> parts{};
    for (const Call &call : calls_) parts[static_cast<int>(call.part)] += call.fastest;
    return parts;
}

void BlockRunner::set_input(int channel, int pixel, float value) {
    const TensorLayout in = layout(0);
    tensors_[0].data()[pixel * in.lanes() + in.lane(channel)] = value;
    input_.plane(channel)[pixel] = value;
}

namespace {

double finite_range(std::vector<double> values) {
    std::erase_if(values, [](double value) { return !std::isfinite(value); });
    if (values.empty()) return 1;
    const auto [low, high] = std::ranges::minmax(values);
    return high - low;
}

/// What is not finite is right or infinitely wrong.
double error_of(double found, double expected) {
    if (std::isfinite(expected)) return std::abs(found - expected);
    const bool same = std::isnan(expected) ? std::isnan(found) : found == expected;
    return same ? 0 : std::numeric_limits<double>::infinity();
}

}  // namespace

double BlockRunner::verify() {
    const int last = static_cast<int>(block_.operations.size());
    const TensorLayout out = layout(last);
    const float *found = tensor(last, 0);
    for (int c = 0; c < out.channels; ++c) {
        for (int p = 0; p < out.size.pixels(); ++p) {
            tensor(last, 0)[p * out.lanes() + out.lane(c)] = std::numeric_limits<float>::quiet_NaN();
        }
    }
    for (Call &call : calls_) {
        if (call.repeat == 0) run_call(call);
    }
    const reference::Tensor expected = reference::run_block(block_, values_, input_).back();
    const double range = finite_range(expected.data);
    double worst = 0;
    for (int c = 0; c < out.channels; ++c) {
        for (int p = 0; p < out.size.pixels(); ++p) {
            const double error = error_of(found[p * out.lanes() + out.lane(c)], expected.plane(c)[p]) / range;
            if (!(error <= kTolerance)) {
                throw std::runtime_error(std::string(block_.name.view()) + " on " + isa_ + ": channel " +
                                         std::to_string(c) + " at pixel " + std::to_string(p) + " is wrong by " +
                                         std::to_string(error) + " of the range");
            }
            worst = std::max(worst, error);
        }
    }
    return worst;
}

}  // namespace shufflenet::bench
