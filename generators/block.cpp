// The kernels of experiments: an operation alone, and a block as a whole (networks/blocks.h).
#include "generators/kernel_generator.h"
#include "networks/guidelines.h"

namespace shufflenet::generators {

namespace {

/// Reads a buffer (lanes, pixels).
template <typename Buffer>
Activation reading(const Buffer &buffer) {
    return [&buffer](const Expr &lane, const Expr &pixel) { return buffer(lane, pixel); };
}

/// The summands of a 1x1 convolution that are side by side in memory, all of them.
std::vector<Summands> dense_summands(int channels, bool lane_operands, const Activation &at) {
    return gathered(channels, channels / kFour, lane_operands,
                    [at](const Expr &entry, const Expr &lanes, const Expr &pixel) { return at(entry + lanes, pixel); });
}

Expr cut_off(const Expr &value, int limit) {
    const Expr positive = at_least(value, 0.0F);
    return limit > 0 ? at_most(positive, static_cast<float>(limit)) : positive;
}

Epilogue epilogue_of(bool rectified) { return rectified ? relu : linear; }

std::vector<Activation> shifted(const std::vector<ChannelPart> &parts, const Activation &at) {
    std::vector<Activation> activations;
    for (const ChannelPart &part : parts) {
        activations.emplace_back([at, first = part.first](Expr lane, Expr pixel) { return at(first + lane, pixel); });
    }
    return activations;
}

}  // namespace

/// What the kernels of windows, 1x1 included, share. Channels are those of one group, lanes those of a pixel.
template <typename T>
class LayerKernel : public Kernel<T> {
  public:
    template <typename U>
    using Output = typename Generator<T>::template Output<U>;
    template <typename U>
    using Buffer = typename Generator<T>::template Buffer<U>;
    template <typename U>
    using Input = typename Generator<T>::template Input<U>;

    GeneratorParam<int> window{"window", 1};
    GeneratorParam<int> stride{"stride", 1};
    GeneratorParam<int> in_channels{"in_channels", 16};
    GeneratorParam<int> in_lanes{"in_lanes", 16};
    GeneratorParam<int> out_channels{"out_channels", 16};
    GeneratorParam<int> out_lanes{"out_lanes", 16};
    GeneratorParam<int> rows{"rows", 56};
    GeneratorParam<int> columns{"columns", 56};
    Input<Buffer<float>> in{"in", 2};

  protected:
    int summands_of() const { return window.value() * window.value() * in_channels.value(); }
    Size in_size() const { return {rows, columns}; }
    Size out_size() const { return {(rows - 1) / stride + 1, (columns - 1) / stride + 1}; }
    /// Of a convolution of one group; and of a window over lanes that do not meet.
    std::vector<ChannelPart> parts() const { return conv_parts(out_channels, out_lanes, this->machine().vec); }

    std::vector<ChannelPart> window_parts() const { return lane_parts(out_lanes); }

    /// A group reads its own channels, which start at a multiple of the shortest vector.
    void fix_input() {
        this->fix(in, 0, window == 1 ? in_channels : in_lanes, 1);
        this->fix(in, 1, in_size().pixels(), in_lanes);
        in.set_host_alignment(16);
    }
    template <typename Layer>
    void store(Layer layer, Output<Buffer<float>> &out, Output<Buffer<float>> &tail) {
        this->emit(layer.parts, out_lanes, out_size().pixels(), out, tail);
        if (out_channels.value() < out_lanes.value()) out.set_host_alignment(16);
        SingleLayer f{this->c, this->x, this->y, this->p, out_size(), layer};
        this->schedule(f);
    }
};

/// One group of a convolution, dense within the group.
class LayerConvGenerator : public LayerKernel<LayerConvGenerator> {
  public:
    GeneratorParam<bool> relu{"relu", false};
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>> out{"out", 2};
    Output<Buffer<float>> tail{"tail", 2};

    void generate() {
        const PointwiseLayout layout = pointwise_layout(0, summands_of(), out_channels, kPanelFloats);
        const Blob blob = [this](Expr i) { return weights(i); };
        fix_input();
        fix_line(weights, layout.end());
        if (window == 1) {
            const auto summands = dense_summands(in_channels, machine().lane_operands, reading(in));
            store(pointwise("pw", layout, parts(), in_size().pixels(), blob, summands, c, p, epilogue_of(relu)), out,
                  tail);
        } else {
            store(convolution("conv", layout, parts(), in_channels, in_lanes, in_size(), window, stride, blob,
                              reading(in), c, x, y, p, epilogue_of(relu)),
                  out, tail);
        }
    }
};

class LayerDepthwiseGenerator : public LayerKernel<LayerDepthwiseGenerator> {
  public:
    GeneratorParam<bool> relu{"relu", false};
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>> out{"out", 2};
    Output<Buffer<float>> tail{"tail", 2};

    void generate() {
        const WindowLayout layout = window_layout(0, window.value() * window.value(), in_lanes, kPanelFloats);
        fix_input();
        fix_line(weights, layout.end());
        if (relu) throw std::runtime_error("a depthwise convolution has no ReLU of its own");
        store(depthwise(
                  "dw", layout, window_parts(), in_size(), stride, [this](Expr i) { return weights(i); },
                  shifted(window_parts(), reading(in)), c, x, y, p, linear, {}, window),
              out, tail);
    }
};

template <WindowKind kind>
class LayerPoolGenerator : public LayerKernel<LayerPoolGenerator<kind>> {
  public:
    using Base = LayerKernel<LayerPoolGenerator<kind>>;
    typename Base::template Output<typename Base::template Buffer<float>> out{"out", 2};
    typename Base::template Output<typename Base::template Buffer<float>> tail{"tail", 2};

    void generate() {
        this->fix_input();
        this->store(
            pool("pool", kind, this->in_lanes, this->window_parts(), this->in_size(), this->stride, this->window,
                 shifted(this->window_parts(), reading(this->in)), this->c, this->x, this->y, this->p),
            out, tail);
    }
};

using LayerMaxPoolGenerator = LayerPoolGenerator<WindowKind::kMax>;
using LayerAveragePoolGenerator = LayerPoolGenerator<WindowKind::kMean>;

/// ReLU, or with a limit ReLU6, of a tensor as one run of floats.
class LayerReluGenerator : public Kernel<LayerReluGenerator> {
  public:
    GeneratorParam<int> floats{"floats", 16};
    GeneratorParam<int> limit{"limit", 0};
    Input<Buffer<float>> in{"in", 1};
    Output<Buffer<float>> out{"out", 1};

    void generate() {
        out(c) = cut_off(in(c), limit);
        fix_line(in, floats);
        fix_line(out, floats);
        ElementWise f{c, p, false, floats, out};
        schedule(f);
    }
};

class LayerAddGenerator : public Kernel<LayerAddGenerator> {
  public:
    GeneratorParam<int> floats{"floats", 16};
    Input<Buffer<float>> in{"in", 1};
    Input<Buffer<float>> other{"other", 1};
    Output<Buffer<float>> out{"out", 1};

    void generate() {
        out(c) = in(c) + other(c);
        fix_line(in, floats);
        fix_line(other, floats);
        fix_line(out, floats);
        ElementWise f{c, p, false, floats, out};
        schedule(f);
    }
};

/// A slice, or one input of a concatenation.
class LayerCopyGenerator : public Kernel<LayerCopyGenerator> {
  public:
    GeneratorParam<int> channels{"channels", 16};
    GeneratorParam<int> in_lanes{"in_lanes", 16};
    GeneratorParam<int> out_lanes{"out_lanes", 16};
    GeneratorParam<int> pixels{"pixels", 1};
    Input<Buffer<float>> in{"in", 2};
    Output<Buffer<float>> out{"out", 2};

    void generate() {
        out(c, p) = in(c, p);
        fix(in, 0, channels, 1);
        fix(in, 1, pixels, in_lanes);
        fix(out, 0, channels, 1);
        fix(out, 1, pixels, out_lanes);
        ElementWise f{c, p, true, channels, out};
        schedule(f);
    }
};

class LayerGlobalPoolGenerator : public Kernel<LayerGlobalPoolGenerator> {
  public:
    GeneratorParam<int> lanes{"lanes", 16};
    GeneratorParam<int> pixels{"pixels", 1};
    Input<Buffer<float>> in{"in", 2};
    Output<Buffer<float>> out{"out", 1};

    void generate() {
        const RDom pixel(0, pixels, "pixel");
        Func total("total");
        total(c) += in(c, pixel);
        out(c) = total(c) * (1.0F / static_cast<float>(pixels.value()));
        fix_block(in, lanes, pixels);
        fix_line(out, lanes);
        GlobalPool f{c, lanes, kPanelFloats, pixel, total, out};
        schedule(f);
    }
};

/// Channel shuffle: channel i of group g becomes channel i * groups + g.
class LayerShuffleGenerator : public Kernel<LayerShuffleGenerator> {
  public:
    GeneratorParam<int> channels{"channels", 16};
    GeneratorParam<int> groups{"groups", 2};
    GeneratorParam<int> layout_groups{"layout_groups", 1};
    GeneratorParam<int> pixels{"pixels", 1};
    Input<Buffer<float>> in{"in", 2};
    Output<Buffer<float>> out{"out", 2};

    void generate() {
        const TensorLayout layout{channels, layout_groups, {pixels, 1}};
        const int run = layout.group_channels();
        const auto lane = [&](const Expr &channel) { return channel / run * layout.group_lanes() + channel % run; };
        const Expr channel = Halide::min(c / layout.group_lanes() * run + c % layout.group_lanes(), channels - 1);
        const Expr from = channel % groups * (channels.value() / groups.value()) + channel / groups;
        out(c, p) = select(c % layout.group_lanes() < run, in(lane(from), p), 0.0F);
        fix_block(in, layout.lanes(), pixels);
        fix_block(out, layout.lanes(), pixels);
        ElementWise f{c, p, true, layout.lanes(), out};
        schedule(f);
    }
};

/// A block in one kernel. Its element-wise operations are part of the convolution before them where nothing else reads
/// that, and a concatenation is its inputs, stored where they belong.
class BlockGenerator : public Kernel<BlockGenerator> {
  public:
    GeneratorParam<std::string> block{"block", "g3_2_series_x1"};
    Input<Buffer<float>> in{"in", 2};
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>[]> outs { "outs", 2 };

    void generate() {
        block_ = find_block(block.value());
        if (block_.groups != 1) throw std::runtime_error(block.value() + ": a fused block has no groups");
        f_ = {c, x, y, p, {}};
        step_of_.assign(block_.operations.size() + 1, -1);
        count_readers();
        const Operation &last = block_.operations.back();
        const int tensors = static_cast<int>(block_.operations.size());
        const std::vector<int> stored = last.kind == OperationKind::kConcat ? last.in : std::vector<int>{tensors};
        int floats = 0;
        for (int i = 0; i < static_cast<int>(block_.operations.size()); ++i) {
            const Operation &op = block_.operations[i];
            add(op, i + 1, floats);
            floats += weight_floats(block_, op);
            const auto at = std::find(stored.begin(), stored.end(), i + 1);
            if (at != stored.end()) emit_one(static_cast<int>(at - stored.begin()), i + 1);
        }
        const TensorLayout from = block_.tensor(0);
        fix_block(in, from.lanes(), from.size.pixels());
        fix_line(weights, floats);
        schedule(f_);
    }

  private:
    using Step = WholeBlock::Step;

    void count_readers() {
        reads_.assign(block_.operations.size() + 1, 0);
        for (const Operation &op : block_.operations) {
            for (const int tensor : op.in) ++reads_[tensor];
        }
    }

    ChannelPart channels_of(int tensor) const {
        return single_part(block_.tensor(tensor).channels, machine().vec).front();
    }

    static Func &out_of(Step &step) {
        return std::visit(
            [](auto &layer) -> Func & {
                if constexpr (std::is_same_v<std::decay_t<decltype(layer)>, Func>) {
                    return layer;
                } else {
                    return layer.parts.front().out;
                }
            },
            step.layer);
    }

    /// A tensor's value at (lane, pixel).
    Activation value(int tensor) {
        if (tensor == 0) return reading(in);
        if (const Operation &op = block_.operations[tensor - 1]; op.kind == OperationKind::kSlice) {
            return [from = value(op.in[0]), first = op.first](const Expr &lane, const Expr &pixel) {
                return from(first + lane, pixel);
            };
        }
        return [f = out_of(f_.steps[step_of_[tensor]])](const Expr &lane, const Expr &pixel) { return f(lane, pixel); };
    }

    /// Says that a new step reads a tensor.
    void read(int tensor, int reader, bool window) {
        if (step_of_[tensor] < 0) return;
        Step &step = f_.steps[step_of_[tensor]];
        if (step.readers.empty() || step.readers.back() != reader) step.readers.push_back(reader);
        step.window = step.window || window;
    }

    int add_step(const decltype(Step::layer) &layer, int tensor) {
        f_.steps.push_back({layer, channels_of(tensor), block_.tensor(tensor).size, {}, false, false});
        step_of_[tensor] = static_cast<int>(f_.steps.size()) - 1;
        return step_of_[tensor];
    }

    void add(const Operation &op, int tensor, int first_weight) {
        const std::string name = "t" + std::to_string(tensor);
        const Blob blob = [this](Expr i) { return weights(i); };
        const std::vector<ChannelPart> parts = {channels_of(tensor)};
        const Size in_size = op.in_size;
        switch (op.kind) {
        case OperationKind::kConv: {
            const bool window = op.kernel > 1;
            if (op.depthwise()) {
                const WindowLayout layout = depthwise_weights(op, block_.tensor(op.in[0]).lanes(), first_weight);
                add_step(depthwise(name, layout, parts, in_size, op.stride, blob, {value(op.in[0])}, c, x, y, p, linear,
                                   {}, op.kernel),
                         tensor);
            } else if (window) {
                const int lanes = op.in[0] == 0 ? block_.tensor(0).lanes() : channels_of(op.in[0]).lanes;
                add_step(convolution(name, dense_weights(op, first_weight), parts, op.in_channels, lanes, in_size,
                                     op.kernel, op.stride, blob, value(op.in[0]), c, x, y, p, epilogue_of(op.relu)),
                         tensor);
            } else {
                const auto summands = dense_summands(op.in_channels, machine().lane_operands, value(op.in[0]));
                add_step(pointwise(name, dense_weights(op, first_weight), parts, in_size.pixels(), blob, summands, c, p,
                                   epilogue_of(op.relu)),
                         tensor);
            }
            return read(op.in[0], step_of_[tensor], window);
        }
        case OperationKind::kMaxPool:
        case OperationKind::kAveragePool: {
            const WindowKind kind = op.kind == OperationKind::kMaxPool ? WindowKind::kMax : WindowKind::kMean;
            add_step(pool(name, kind, block_.tensor(op.in[0]).lanes(), parts, in_size, op.stride, op.kernel,
                          {value(op.in[0])}, c, x, y, p),
                     tensor);
            return read(op.in[0], step_of_[tensor], true);
        }
        case OperationKind::kRelu:
        case OperationKind::kAdd:
            return add_element_wise(op, tensor);
        case OperationKind::kSlice:
            step_of_[tensor] = step_of_[op.in[0]];
            return;
        case OperationKind::kConcat:
            // Its inputs are stored where they belong, or by the shuffle that is next.
            return;
        case OperationKind::kShuffle:
            return add_shuffle(op, tensor);
        case OperationKind::kGlobalPool:
            throw std::runtime_error(block.value() + ": a fused block has no global pool");
        }
    }

    /// Two halves in turns: the store of the convolution that computes the second one.
    void add_shuffle(const Operation &op, int tensor) {
        const Operation &halves = block_.operations[op.in[0] - 1];
        const int step = halves.kind == OperationKind::kConcat && halves.in.size() == 2 ? step_of_[halves.in[1]] : -1;
        auto *pw = step < 0 ? nullptr : std::get_if<Pointwise>(&f_.steps[step].layer);
        if (pw == nullptr || op.groups != 2 || tensor != static_cast<int>(block_.operations.size())) {
            throw std::runtime_error(
                block.value() + ": a fused block shuffles two halves at its end, the second one a 1x1 convolution's");
        }
        shuffle_with(*pw, value(halves.in[0]), c, p);
        f_.steps[step].channels.lanes *= 2;
        step_of_[tensor] = step;
    }

    void add_element_wise(const Operation &op, int tensor) {
        Func result("t" + std::to_string(tensor));
        Expr sum = 0.0F;
        int latest = -1;
        for (const int from : op.in) {
            const Expr term = value(from)(c, p);
            sum = from == op.in.front() ? term : sum + term;
            if (step_of_[from] > latest && reads_[from] == 1) latest = step_of_[from];
        }
        result(c, p) = op.kind == OperationKind::kRelu ? cut_off(sum, op.limit) : sum;
        // The latest of what it reads becomes part of it: all else is there by then.
        const bool absorbs = latest == static_cast<int>(f_.steps.size()) - 1;
        const int step = absorbs && latest >= 0 ? latest : add_step(result, tensor);
        out_of(f_.steps[step]) = result;
        step_of_[tensor] = step;
        for (const int from : op.in) {
            if (step_of_[from] != step) read(from, step, false);
        }
    }

    /// Before anything reads the tensor: what does reads the output.
    void emit_one(int number, int tensor) {
        Step &step = f_.steps.at(step_of_[tensor]);
        if (step.stored) throw std::runtime_error(block.value() + ": stored twice");
        step.stored = true;
        Func stored = outs[number];
        stored(c, p) = out_of(step)(c, p);
        out_of(step) = stored;
        auto out = stored.output_buffer();
        fix(out, 0, step.channels.lanes, 1);
        fix(out, 1, step.size.pixels(), block_.output().lanes());
        out.set_host_alignment(64);
    }

    Block block_;
    WholeBlock f_;
    std::vector<int> step_of_;  ///< Of each tensor; -1: the block's input.
    std::vector<int> reads_;    ///< How often each tensor is read.
};

}  // namespace shufflenet::generators

HALIDE_REGISTER_GENERATOR(shufflenet::generators::LayerConvGenerator, layer_conv)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::LayerDepthwiseGenerator, layer_depthwise)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::LayerMaxPoolGenerator, layer_max_pool)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::LayerAveragePoolGenerator, layer_average_pool)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::LayerReluGenerator, layer_relu)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::LayerAddGenerator, layer_add)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::LayerCopyGenerator, layer_copy)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::LayerGlobalPoolGenerator, layer_global_pool)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::LayerShuffleGenerator, layer_shuffle)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::BlockGenerator, block)
