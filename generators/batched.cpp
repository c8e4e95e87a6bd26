// The kernels of a device: the same layers as in shufflenet_v2.cpp, for a whole batch, one launch each.
//
// A tensor that units share lies as [block][image][pixel][lane], so that each block is a run of its own: `in` is read
// at an offset, where a table holds the offset of each channel of the first image. Branch 2 comes whole, for a device
// that keeps a unit's intermediates in the shared memory of a block, and in two: expand and project.
#include "generators/kernel_generator.h"

namespace shufflenet::generators {

using Halide::unsafe_promise_clamped;

/// What the kernels of this file share: the image's Var, and buffers with images.
template <typename T>
class BatchedKernel : public Kernel<T> {
  public:
    template <typename U>
    using Buffer = typename Generator<T>::template Buffer<U>;

  protected:
    Var n{"n"};

    /// Lanes that are computed: no more than whole vectors of four, because threads are many and vectors are short.
    static std::vector<ChannelPart> device_parts(int channels) { return {device_part(channels, kPanelFloats)}; }

    /// Fixes a tensor (lanes, pixels, n) of which `lanes` of `stored` lanes are used.
    template <typename Tensor>
    void fix_images(Tensor &tensor, int lanes, int stored, int pixels) const {
        this->fix(tensor, 0, lanes, 1);
        this->fix(tensor, 1, pixels, stored);
        tensor.dim(2).set_min(0).set_stride(stored * pixels);
        tensor.set_host_alignment(64);
    }

    /// The same with rows and columns apart: (lanes, x, y, n).
    template <typename Tensor>
    void fix_rows(Tensor &tensor, int lanes, int stored, Size size) const {
        this->fix(tensor, 0, lanes, 1);
        this->fix(tensor, 1, size.width, stored);
        this->fix(tensor, 2, size.height, stored * size.width);
        tensor.dim(3).set_min(0).set_stride(stored * size.pixels());
        tensor.set_host_alignment(64);
    }

    /// Fixes a tensor of blocks. It has no dimension of images, which lie within those of offsets: Halide multiplies
    /// extents, and large batches would be too many.
    template <typename Tensor>
    void fix_blocks(Tensor &tensor) const {
        tensor.dim(0).set_min(0).set_stride(1);
        tensor.set_host_alignment(64);
    }

    /// A tensor of blocks, at `lane` lanes after the offset that `entry` of the table holds.
    template <typename Tensor, typename Table>
    Expr at_entry(const Tensor &in, const Table &table, const BlockLayout &block, const Expr &entry, const Expr &lane,
                  const Expr &pixel) const {
        // Entries are lanes of the first image's first pixel, the last of them in the last block; from each, as many
        // lanes are read as `lane` has values.
        const int side = Halide::Internal::is_const_zero(lane) ? 1 : block.vec;
        const Expr last = in.dim(0).extent() / block.blocks * (block.blocks - 1) + block.lanes() - side;
        return in(unsafe_promise_clamped(table(entry), 0, last) + lane + pixel * block.lanes() +
                  n * block.block_stride());
    }

    /// Reads a tensor (lanes, pixels, n).
    template <typename Tensor>
    Activation reader(const Tensor &in) const {
        return [&in, n = n](Expr lane, Expr pixel) { return in(lane, pixel, n); };
    }
};

class BatchedStemGenerator : public BatchedKernel<BatchedStemGenerator> {
  public:
    Input<Buffer<float>> in{"in", 4};  ///< (x, y, ci, n): NCHW images.
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>> out{"out", 4};

    void generate() {
        const WindowLayout layout = stem_layout(net(), vec());
        const Size size = input_size();
        Stem f = stem_rows(
            "stem", layout, device_parts(net().stem_channels), size, [this](Expr i) { return weights(i); },
            [this](Expr ix, Expr iy, Expr ci) { return in(ix, iy, ci, n); }, c, x, y, p, {n});
        out = f.parts[0].out;

        fix(in, 0, size.width, 1);
        fix(in, 1, size.height, size.width);
        fix(in, 2, 3, size.pixels());
        in.dim(3).set_min(0).set_stride(3 * size.pixels());
        fix_line(weights, layout.end());
        fix_rows(out, f.parts[0].channels.lanes, layout.lanes, f.out_size);
        schedule(f);
    }
};

/// Branch 2 of a unit, which is expand and project: shapes and layouts.
template <typename T>
class Branch2Kernel : public BatchedKernel<T> {
  public:
    GeneratorParam<int> stage{"stage", 2, 2, 4};
    GeneratorParam<bool> downsample{"downsample", false};

  protected:
    StageShape shape() const { return stage_shape(this->net(), this->input_size(), stage); }
    UnitShape unit() const { return unit_shape(shape(), downsample); }
    Branch2Layout layout() const { return branch2_layout(unit().in_channels, unit().channels, this->vec()); }
    BlockLayout in_block() const {
        return downsample ? stage_input(this->net(), this->input_size(), stage, this->vec()).block
                          : stage_block(shape(), this->vec());
    }
    std::vector<ChannelPart> parts() const { return this->device_parts(unit().channels); }

    Pointwise pw1(const Blob &blob, const Activation &gather) const {
        return pointwise("pw1", layout().pw1, parts(), unit().in.pixels(), blob, {{unit().in_channels, 1, gather}},
                         this->c, this->p, relu, {this->n});
    }
    Depthwise dw(const Blob &blob, const Activation &in) const {
        return depthwise("dw", layout().dw, parts(), unit().in, unit().stride, blob, {in}, this->c, this->x, this->y,
                         this->p, linear, {this->n});
    }
    Pointwise pw2(const Blob &blob, const Depthwise &from) const {
        return pointwise("pw2", layout().pw2, parts(), unit().out.pixels(), blob, from.summands(unit().channels, false),
                         this->c, this->p, relu, {this->n});
    }
};

/// Branch 2 in one kernel. Rows and columns are apart, so that Halide sees how many rows a strip of rows needs.
class BatchedBranch2Generator : public Branch2Kernel<BatchedBranch2Generator> {
  public:
    Input<Buffer<float>> in{"in", 1};
    Input<Buffer<int32_t>> table{"table", 1};
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>> out{"out", 4};

    void generate() {
        const BlockLayout block = in_block();
        const Blob blob = [this](Expr i) { return weights(i); };
        const Branch2Layout packed = layout();
        const UnitShape u = unit();
        const Size size = u.in;
        const ChannelPart part = parts()[0];
        Branch2 f{c, x, y, p, {}, {}, {}};
        const auto gather = [&](Expr k, Expr column) {
            // A strip's halo may be outside of the image; what is computed there does not count.
            const Expr pixel = Halide::clamp(y, 0, size.height - 1) * size.width + column;
            return at_entry(in, table, block, k, 0, pixel);
        };
        f.pw1 =
            pointwise("pw1", packed.pw1, {part}, size.pixels(), blob, {{u.in_channels, 1, gather}}, c, x, relu, {y, n});
        const Func expanded = f.pw1.parts[0].out;
        const auto read = [&](Expr lane, Expr ix, Expr iy) {
            return expanded(lane, Halide::clamp(ix, 0, size.width - 1), iy, n);
        };
        Func dw("dw");
        dw(c, x, y, n) = depthwise_sum(packed.dw, part, size, u.stride, blob, read, c, x, y);
        f.dw = {packed.dw, size, u.out, u.stride, {{part, dw, dw}}, 1, {n}};
        const auto filtered = [&](Expr k, Expr column) { return dw(k, column, y, n); };
        f.pw2 =
            pointwise("pw2", packed.pw2, {part}, u.out.pixels(), blob, {{u.channels, 1, filtered}}, c, x, relu, {y, n});
        out = f.pw2.parts[0].out;

        fix_blocks(in);
        fix_line(table, u.in_channels);
        fix_line(weights, packed.size());
        fix_rows(out, part.lanes, packed.pw2.lanes, u.out);
        schedule(f);
    }
};

/// Branch 2's first convolution, into a tensor (lanes, pixels, n).
class BatchedExpandGenerator : public Branch2Kernel<BatchedExpandGenerator> {
  public:
    Input<Buffer<float>> in{"in", 1};
    Input<Buffer<int32_t>> table{"table", 1};
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>> out{"out", 3};

    void generate() {
        const BlockLayout block = in_block();
        Expand f{c, p,
                 pw1([this](Expr i) { return weights(i); },
                     [&](Expr k, Expr pixel) { return at_entry(in, table, block, k, 0, pixel); })};
        out = f.pw.parts[0].out;

        fix_blocks(in);
        fix_line(table, unit().in_channels);
        fix_line(weights, layout().size());
        fix_images(out, f.pw.parts[0].channels.lanes, f.pw.layout.lanes, f.pw.pixels);
        schedule(f);
    }
};

/// The rest of branch 2.
class BatchedProjectGenerator : public Branch2Kernel<BatchedProjectGenerator> {
  public:
    Input<Buffer<float>> in{"in", 3};
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>> out{"out", 3};

    void generate() {
        const Blob blob = [this](Expr i) { return weights(i); };
        Branch1 f{c, x, y, p, {}, {}};
        f.dw = dw(blob, reader(in));
        f.pw = pw2(blob, f.dw);
        out = f.pw.parts[0].out;

        const int lanes = f.pw.parts[0].channels.lanes;
        fix_images(in, lanes, layout().pw1.lanes, unit().in.pixels());
        fix_line(weights, layout().size());
        fix_images(out, lanes, layout().pw2.lanes, unit().out.pixels());
        schedule(f);
    }
};

/// Branch 1 of a downsampling unit.
class BatchedBranch1Generator : public BatchedKernel<BatchedBranch1Generator> {
  public:
    GeneratorParam<int> stage{"stage", 2, 2, 4};
    Input<Buffer<float>> in{"in", 1};
    Input<Buffer<int32_t>> table{"table", 1};
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>> out{"out", 3};

    void generate() {
        const StageShape s = stage_shape(net(), input_size(), stage);
        const StageInput from = stage_input(net(), input_size(), stage, vec());
        const auto live = static_cast<int>(live_vectors(from.slots, vec()).size());
        const Branch1Layout layout = branch1_layout(live, s.in_channels, s.branch_channels, vec());
        const Blob blob = [this](Expr i) { return weights(i); };
        const auto live_lane = [&](Expr lane, Expr pixel) {
            return at_entry(in, table, from.block, lane / vec(), lane % vec(), pixel);
        };
        Branch1 f{c, x, y, p, {}, {}};
        f.dw = depthwise("dw", layout.dw, whole_vectors(layout.dw.lanes, vec()), s.in, 2, blob, {live_lane}, c, x, y, p,
                         linear, {n});
        const Func dw = f.dw.parts[0].out;
        const auto gather = [&](Expr k, Expr pixel) {
            const Expr lane = table(layout.vectors() + k);
            return dw(unsafe_promise_clamped(lane, 0, layout.dw.lanes - 1), pixel, n);
        };
        f.pw = pointwise("pw", layout.pw, device_parts(s.branch_channels), s.out.pixels(), blob,
                         {{s.in_channels, 1, gather}}, c, p, relu, {n});
        out = f.pw.parts[0].out;

        fix_blocks(in);
        fix_line(table, layout.table_size());
        fix_line(weights, layout.size());
        fix_images(out, f.pw.parts[0].channels.lanes, layout.pw.lanes, s.out.pixels());
        schedule(f);
    }
};

template <typename T>
class BatchedHeadKernel : public BatchedKernel<T> {
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
        const BlockLayout block = head_input(this->net(), this->input_size(), this->vec()).block;
        const PointwiseLayout layout = conv5_layout(this->net(), this->vec());
        this->fix_blocks(in);
        this->fix_line(table, layout.k);
        this->fix_line(weights, layout.end());
        const auto gather = [&](Expr k, Expr pixel) { return this->at_entry(in, table, block, k, 0, pixel); };
        return pointwise("conv5", layout, this->device_parts(this->net().conv5_channels), block.pixels,
                         [this](Expr i) { return weights(i); }, {{layout.k, 1, gather}}, this->c, this->p, relu,
                         {this->n});
    }
};

class BatchedConv5Generator : public BatchedHeadKernel<BatchedConv5Generator> {
  public:
    Output<Buffer<float>> out{"out", 3};

    void generate() {
        Expand f{c, p, conv5()};
        out = f.pw.parts[0].out;
        fix_images(out, f.pw.parts[0].channels.lanes, f.pw.layout.lanes, f.pw.pixels);
        schedule(f);
    }
};

/// conv5 and the global average pool: (c, n).
class BatchedConv5PoolGenerator : public BatchedHeadKernel<BatchedConv5PoolGenerator> {
  public:
    Output<Buffer<float>> out{"out", 2};

    void generate() {
        Conv5Pool f{c, p, conv5(), {}, Func("total"), {}};
        f.pixel = RDom(0, f.pw.pixels, "pixel");
        f.total(c, n) += f.pw.parts[0].out(c, f.pixel, n);
        out(c, n) = f.total(c, n) * (1.0F / static_cast<float>(f.pw.pixels));
        f.out = out;
        fix(out, 0, f.pw.parts[0].channels.lanes, 1);
        out.dim(1).set_min(0).set_stride(pooled_stride(net()));
        out.set_host_alignment(64);
        schedule(f);
    }
};

}  // namespace shufflenet::generators

HALIDE_REGISTER_GENERATOR(shufflenet::generators::BatchedStemGenerator, batched_stem)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::BatchedBranch1Generator, batched_branch1)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::BatchedBranch2Generator, batched_branch2)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::BatchedExpandGenerator, batched_expand)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::BatchedProjectGenerator, batched_project)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::BatchedConv5Generator, batched_conv5)
HALIDE_REGISTER_GENERATOR(shufflenet::generators::BatchedConv5PoolGenerator, batched_conv5_pool)
