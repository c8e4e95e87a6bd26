// The kernels of ShuffleNetV2: stem, branch 1 and branch 2 of a unit, conv5 (with and without pool), FC.
// Shapes come from networks/ by name; everything but the number of images (FC) and classes is a constant.
#include "chain_layout.h"
#include "comparison.h"
#include "generators/kernel_generator.h"

namespace shufflenet::generators {

using Halide::unsafe_promise_clamped;

/// 3x3 stride-2 convolution with ReLU, then 3x3 stride-2 max-pool (paper Table 5: Conv1, MaxPool).
class StemGenerator : public Kernel<StemGenerator> {
  public:
    Input<Buffer<float>> in{"in", 3};  ///< (x, y, ci): one NCHW image.
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>> out{"out", 2};
    Output<Buffer<float>> tail{"tail", 2};

    void generate() {
        const WindowLayout layout = stem_layout(net(), vec());
        const Size size = input_size();
        Stem f = stem(
            "stem", layout, stem_parts(net(), vec(), machine().vectors()), size, true,
            [this](Expr i) { return weights(i); }, [this](Expr ix, Expr iy, Expr ci) { return in(ix, iy, ci); }, c, x,
            y, p, rectifier());
        fix(in, 0, size.width, 1);
        fix(in, 1, size.height, size.width);
        fix(in, 2, 3, size.pixels());
        fix_line(weights, layout.end());
        emit(f.parts, layout.lanes, f.out_size.pixels(), out, tail);
        schedule(f);
    }
};

/// Branch 2 of a unit: 1x1 with ReLU, 3x3 depthwise, 1x1 with ReLU (paper figure 3 c and d).
/// Its input channels are wherever earlier units left them: `table` holds the offset of each.
class Branch2Generator : public Kernel<Branch2Generator> {
  public:
    GeneratorParam<int> stage{"stage", 2, 2, 4};
    /// The downsampling unit (stride 2) or a basic unit (stride 1).
    GeneratorParam<bool> downsample{"downsample", false};
    Input<Buffer<float>> in{"in", 1};
    Input<Buffer<int32_t>> table{"table", 1};
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>> out{"out", 2};
    Output<Buffer<float>> tail{"tail", 2};

    void generate() {
        const StageShape s = stage_shape(net(), input_size(), stage);
        const StageInput from = stage_input(net(), input_size(), stage, vec());
        const BlockLayout block = downsample ? from.block : stage_block(s, vec());
        const int cin = downsample ? s.in_channels : s.branch_channels;
        const int fours = downsample ? from.fours : basic_fours(make_stage_plan(s.branch_channels, s.units));
        const Size in_size = downsample ? s.in : s.out;
        const Branch2Layout layout = branch2_layout(cin, s.branch_channels, vec());
        const std::vector<ChannelPart> parts = branch2_parts(s, downsample, vec(), machine().vectors());
        const Blob blob = [this](Expr i) { return weights(i); };

        const auto gather = [&](const Expr &entry, const Expr &lanes, const Expr &pixel) {
            return in(unsafe_promise_clamped(table(entry), 0, block.size() - block.lanes() * block.pixels) + lanes +
                      pixel * block.lanes());
        };
        Branch2 f{c, x, y, p, {}, {}, {}};
        f.pw1 = pointwise("pw1", layout.pw1, parts, in_size.pixels(), blob,
                          gathered(cin, fours, machine().lane_operands, gather), c, p, rectifier());
        std::vector<Activation> expanded;
        for (const Pointwise::Part &part : f.pw1.parts) {
            expanded.emplace_back([pw1 = part.out](Expr lane, Expr pixel) { return pw1(lane, pixel); });
        }
        f.dw = depthwise("dw", layout.dw, parts, in_size, downsample ? 2 : 1, blob, expanded, c, x, y, p, linear, {},
                         depthwise_window());
        f.pw2 = pointwise("pw2", layout.pw2, parts, s.out.pixels(), blob,
                          f.dw.summands(s.branch_channels, machine().lane_operands), c, p, rectifier());

        fix_line(in, block.size());
        fix_line(table, cin);
        fix_line(weights, layout.size());
        emit(f.pw2.parts, layout.pw2.lanes, s.out.pixels(), out, tail);
        schedule(f);
    }
};

/// Branch 1 of a downsampling unit: 3x3 stride-2 depthwise, 1x1 with ReLU (paper figure 3 d).
class Branch1Generator : public Kernel<Branch1Generator> {
  public:
    GeneratorParam<int> stage{"stage", 2, 2, 4};
    Input<Buffer<float>> in{"in", 1};
    Input<Buffer<int32_t>> table{"table", 1};
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>> out{"out", 2};
    Output<Buffer<float>> tail{"tail", 2};

    void generate() {
        const StageShape s = stage_shape(net(), input_size(), stage);
        const StageInput from = stage_input(net(), input_size(), stage, vec());
        const auto live = static_cast<int>(live_vectors(from.slots, vec()).size());
        const Branch1Layout layout = branch1_layout(live, s.in_channels, s.branch_channels, vec());
        const Blob blob = [this](Expr i) { return weights(i); };

        const int last_offset = from.block.size() - from.block.lanes() * from.block.pixels;
        const auto live_lane = [&](Expr lane, Expr pixel) {
            const Expr vector = unsafe_promise_clamped(table(lane / vec()), 0, last_offset);
            return in(vector + lane % vec() + pixel * from.block.lanes());
        };
        Branch1 f{c, x, y, p, {}, {}};
        f.dw = depthwise("dw", layout.dw, whole_vectors(layout.dw.lanes, vec()), s.in, 2, blob, {live_lane}, c, x, y, p,
                         linear, {}, depthwise_window());
        const auto gather = [&](const Expr &entry, const Expr &lanes, const Expr &pixel) {
            const Expr lane = table(layout.vectors() + entry) + lanes;
            return f.dw.parts[0].out(unsafe_promise_clamped(lane, 0, layout.dw.lanes - 1), pixel);
        };
        const std::vector<ChannelPart> parts = branch1_parts(net(), input_size(), stage, vec(), machine().vectors());
        f.pw = pointwise("pw", layout.pw, parts, s.out.pixels(), blob,
                         gathered(s.in_channels, from.fours, machine().lane_operands, gather), c, p, rectifier());

        fix_line(in, from.block.size());
        fix_line(table, layout.table_size());
        fix_line(weights, layout.size());
        emit(f.pw.parts, layout.pw.lanes, s.out.pixels(), out, tail);
        schedule(f);
    }
};

/// conv5: 1x1 with ReLU over the last stage's output; shared by the two generators below.
template <typename T>
class HeadKernel : public Kernel<T> {
  public:
    template <typename U>
    using Input = typename Generator<T>::template Input<U>;
    template <typename U>
    using Buffer = typename Generator<T>::template Buffer<U>;
    Input<Buffer<float>> in{"in", 1};
    Input<Buffer<int32_t>> table{"table", 1};
    Input<Buffer<float>> weights{"weights", 1};

  protected:
    Pointwise conv5() {
        const int vec = this->vec();
        const StageInput from = head_input(this->net(), this->input_size(), vec);
        const BlockLayout block = from.block;
        const PointwiseLayout layout = conv5_layout(this->net(), vec);
        const auto gather = [&](const Expr &entry, const Expr &lanes, const Expr &pixel) {
            return in(unsafe_promise_clamped(table(entry), 0, block.size() - block.lanes() * block.pixels) + lanes +
                      pixel * block.lanes());
        };
        this->fix_line(in, block.size());
        this->fix_line(table, layout.k);
        this->fix_line(weights, layout.end());
        return pointwise(
            "conv5", layout, whole_vectors(layout.lanes, vec), block.pixels, [this](Expr i) { return weights(i); },
            gathered(layout.k, from.fours, this->machine().lane_operands, gather), this->c, this->p, this->rectifier());
    }
};

/// conv5 as a tensor, for those who use the network as a backbone.
class Conv5Generator : public HeadKernel<Conv5Generator> {
  public:
    Output<Buffer<float>> out{"out", 2};

    void generate() {
        Conv5 f{c, p, conv5()};
        out = f.pw.parts[0].out;
        fix_block(out, f.pw.layout.lanes, f.pw.pixels);
        schedule(f);
    }
};

/// conv5 and the global average pool, without storing conv5.
class Conv5PoolGenerator : public HeadKernel<Conv5PoolGenerator> {
  public:
    Output<Buffer<float>> out{"out", 1};

    void generate() {
        Conv5Pool f{c, p, conv5(), {}, Func("total"), {}};
        f.pixel = RDom(0, f.pw.pixels, "pixel");
        sum_pixels(f.total, c, f.pw.parts[0].out(c, f.pixel));
        out(c) = f.total(c) * (1.0F / static_cast<float>(f.pw.pixels));
        f.out = out;
        fix_line(out, f.pw.layout.lanes);
        schedule(f);
    }
};

/// The fully connected layer over a group of pooled images: in (k, n), out (class, n).
class FcGenerator : public Kernel<FcGenerator> {
  public:
    Input<Buffer<float>> in{"in", 2};
    Input<int> classes{"classes", kDefaultClasses, 1, kMaxClasses};
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>> out{"out", 2};

    void generate() {
        // Any class count gives the same kernel: offsets within the blob follow from it.
        const int panel = vec() * kFcPanels;
        const Comparison *comparison = find_comparison(network.value());
        const PointwiseLayout one_panel =
            comparison != nullptr ? fc_layout(comparison->chain(input_size()), panel) : fc_layout(net(), panel, vec());
        const int k = one_panel.k;
        const Expr lanes = (classes + panel - 1) / panel * panel;
        const Expr first_weight = (lanes + kLineFloats - 1) / kLineFloats * kLineFloats;
        Var n{"n"};
        FullyConnected f{c,
                         n,
                         one_panel,
                         vec(),
                         RDom(0, k, "k"),
                         Func("fc_sum"),
                         {},
                         buffer_of([this](Expr i) { return weights(i); }),
                         {}};
        f.sum(c, n) = weights(c);
        f.sum(c, n) += weights(first_weight + (c / panel * k + f.k) * panel + c % panel) * in(f.k, n);
        out(c, n) = f.sum(c, n);
        f.out = out;
        f.images = out.dim(1).extent();

        fix(in, 0, k, 1);
        in.dim(1).set_min(0).set_stride(round_up(k, kLineFloats));
        out.dim(0).set_bounds(0, classes).set_stride(1);
        out.dim(1).set_min(0).set_stride(classes);
        schedule(f);
    }
};

}  // namespace shufflenet::generators

HALIDE_REGISTER_GENERATOR(shufflenet::generators::StemGenerator, stem)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::Branch1Generator, branch1)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::Branch2Generator, branch2)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::Conv5Generator, conv5)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::Conv5PoolGenerator, conv5_pool)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::FcGenerator, fc)
