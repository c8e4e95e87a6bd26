// GPUs, by Halide's model of them (CUDA, OpenCL): blocks of threads with shared memory.
//
// A pointwise convolution is a matrix product. A thread computes thread_pixels x 4 lanes in registers: each step of k
// loads one vector of weights and broadcasts thread_pixels activations, which lie in shared memory, for
// 4 * thread_pixels multiply-adds. Threads that differ in lanes read the same activations, a broadcast, and
// neighbouring vectors of weights; those of other pixels find theirs in other banks. Everything that is loaded or
// stored in a row is a vector of four.
#include <algorithm>

#include "schedules.h"

namespace shufflenet::schedules {

namespace {

using generators::Pointwise;
using Halide::Func;
using Halide::MemoryType;
using Halide::RVar;
using Halide::TailStrategy;
using Halide::Var;

constexpr int pieces(int size, int piece) { return (size + piece - 1) / piece; }

/// What a block computes of a pointwise convolution, and how many pixels each thread of it.
struct Tile {
    int pixels = 0, lanes = 0, thread_pixels = 0;
};

class Gpu final : public Schedule {
  public:
    Gpu(const Machine &machine, const Tuning &tuning) : m_(machine), tuning_(tuning) {}

    void apply(Stem &f) const override;
    void apply(Separable &f) const override;
    void apply(SingleLayer &f) const override;
    void apply(PooledPointwise &f) const override;
    void apply(FullyConnected &f) const override;
    void apply(GlobalPool &f) const override;
    void apply(Unit & /*f*/) const override { not_for_devices(); }
    void apply(PlaneByPlane & /*f*/) const override { not_for_devices(); }
    void apply(Softmax & /*f*/) const override { not_for_devices(); }

  private:
    [[noreturn]] static void not_for_devices() { throw std::logic_error("a kernel for CPUs only"); }

    /// Pixels of a thread: an odd number, for shared_stride(). Each step of k costs a thread its pixels, and about two
    /// more for the weights' vector.
    int thread_pixels(int pixels) const {
        if (tuning_.tile_pixels > 0) return std::min(tuning_.tile_pixels, pixels);
        const auto cost = [pixels](int each) { return pieces(pixels, each) * (each + 2); };
        int best = 1;
        for (const int candidate : {3, 5, 7}) {
            if (candidate <= pixels && cost(candidate) <= cost(best)) best = candidate;
        }
        return best;
    }

    /// Lanes of a block: about 64, shared out evenly.
    int block_lanes(int lanes) const {
        const int wanted = tuning_.tile_vectors > 0 ? tuning_.tile_vectors * kThreadFloats : 64;
        const int blocks = pieces(lanes, wanted);
        return std::min(lanes, round_up(pieces(lanes, blocks), kThreadFloats));
    }

    /// The tile of a convolution for whose inputs a block keeps `pixel_bytes` for each of its pixels.
    Tile tile_of(const Pointwise &f, int pixel_bytes) const {
        Tile t;
        t.lanes = block_lanes(f.parts[0].channels.lanes);
        t.thread_pixels = thread_pixels(f.pixels);
        const int fit = pixel_bytes > 0 ? m_.shared_bytes / pixel_bytes : f.pixels;
        t.thread_pixels = std::max(1, std::min(t.thread_pixels, fit));
        const int most = std::max(1, kMostThreads / 2 / (t.lanes / kThreadFloats));
        const int threads = std::clamp(fit / t.thread_pixels, 1, std::min(most, pieces(f.pixels, t.thread_pixels)));
        t.pixels = std::min(f.pixels, threads * t.thread_pixels);
        return t;
    }

    /// Shares a Func's (c, p, ...) out to threads: four lanes and `pixels` pixels each, of `lanes` x `of` in all.
    /// More threads than a block may have take several turns. Threads are one dimension, because a block is as large in
    /// each as the largest of its Funcs. With `tail` ShiftInwards two threads may compute one value, which has to be
    /// the same code then.
    static void share(Func f, Var c, Var p, int lanes, int of, int pixels, Var thread, TailStrategy tail) {
        Var ct("ct"), cv("cv"), pt("pt"), pi("pi"), turn("turn");
        const int columns = lanes / kThreadFloats;
        const int most = std::max(1, kMostThreads / columns);
        const int chunk = pixels * pieces(pieces(of, pixels), most);
        f.split(c, ct, cv, kThreadFloats).vectorize(cv);
        if (chunk <= pixels || chunk >= of) {
            const int all = std::min(chunk, of);
            f.split(p, pt, pi, all, tail).reorder(cv, pi, ct, pt);
            if (all <= pixels) f.unroll(pi);
        } else {
            f.split(p, pt, pi, chunk, tail)
                .split(pi, turn, pi, pixels, TailStrategy::ShiftInwards)
                .reorder(cv, pi, turn, ct, pt)
                .unroll(pi);
        }
        f.fuse(ct, pt, thread).gpu_threads(thread);
    }

    /// Shares out a Func's (c, x, y, ...), `size` in all, within the loop over `outer`.
    static void share_rows(Func f, Var c, Var x, Var y, int lanes, Size size, int pixels, Var outer, Var thread) {
        Var ct("ct"), cv("cv"), xt("xt"), xi("xi"), yt("yt"), turn("turn"), in_row("in_row");
        const int columns = lanes / kThreadFloats;
        while (pixels < size.width && columns * pieces(size.width, pixels) > kMostThreads) ++pixels;
        const int rows = std::clamp(kMostThreads / (columns * pieces(size.width, pixels)), 1, size.height);
        f.split(c, ct, cv, kThreadFloats)
            .split(x, xt, xi, pixels, TailStrategy::ShiftInwards)
            .split(y, turn, yt, rows, TailStrategy::GuardWithIf)  // No row twice, by two threads.
            .reorder(cv, xi, ct, xt, yt, turn, outer)
            .vectorize(cv)
            .unroll(xi)
            .fuse(ct, xt, in_row)
            .fuse(in_row, yt, thread)
            .gpu_threads(thread);
    }

    /// The accumulators of one thread.
    static void accumulate(Pointwise &f, Var c, Var p, Func at, Var loop) {
        Pointwise::Part &part = f.parts[0];
        part.sum.compute_at(at, loop).vectorize(c).unroll(p);
        const auto count = static_cast<int>(f.k[0].x.extent().as<Halide::Internal::IntImm>()->value);
        const int step = count % 4 == 0 ? 4 : count % 2 == 0 ? 2 : 1;
        RVar ko("ko"), ki("ki");
        part.sum.update().split(f.k[0].x, ko, ki, step).reorder(c, p, ki, ko).vectorize(c).unroll(p).unroll(ki);
    }

    /// Blocks of a convolution's output, which lies in planes; `block` is the innermost loop over them.
    static void blocks(Pointwise &f, Var p, const Tile &t, Var block, Var thread) {
        Var lt("lt"), ct("ct"), pb("pb"), pt("pt"), pi("pi"), cv("cv");
        const auto &[lane, plane, n] = *f.planes;
        // Vectors first: the bounds of what a thread computes are then constants.
        f.parts[0]
            .out.split(lane, lt, cv, kThreadFloats)
            .fuse(lt, plane, ct)
            .split(ct, block, ct, t.lanes / kThreadFloats, TailStrategy::ShiftInwards)
            .split(p, pb, pt, t.pixels, TailStrategy::ShiftInwards)
            .split(pt, pt, pi, t.thread_pixels, TailStrategy::ShiftInwards)
            .reorder(cv, pi, ct, pt, block, pb, n)
            .vectorize(cv)
            .unroll(pi)
            .fuse(ct, pt, thread)
            .gpu_blocks(block, pb, n)
            .gpu_threads(thread);
    }

    Machine m_;
    Tuning tuning_;
};

void Gpu::apply(SingleLayer &f) const {
    auto *const pw = std::get_if<Pointwise>(&f.layer);
    if (pw == nullptr) not_for_devices();
    Pointwise::Part &part = pw->parts[0];
    const int k = pw->layout.rows;
    const int bytes = shared_stride(k) * static_cast<int>(sizeof(float));
    // Activations go through shared memory where it holds those of enough threads.
    const bool shared = m_.shared_bytes / bytes >= 4 * thread_pixels(pw->pixels);
    const Tile t = tile_of(*pw, shared ? bytes : 0);
    Var block("block"), thread("thread");
    blocks(*pw, f.p, t, block, thread);
    accumulate(*pw, f.c, f.p, part.out, thread);
    if (!shared) return;
    const Var lane = part.in[0].args()[0];
    const Var pixel = part.in[0].args()[1];
    Var lt("lt"), po("po"), loader("loader");
    part.in[0].compute_at(part.out, block).store_in(MemoryType::GPUShared).align_storage(lane, shared_stride(k));
    const int columns = std::min(k, 32);
    part.in[0]
        .split(lane, lane, lt, columns, TailStrategy::ShiftInwards)
        .split(pixel, pixel, po, std::min(t.pixels, 4), TailStrategy::ShiftInwards)
        .reorder(lane, pixel, lt, po)
        .fuse(lt, po, loader)
        .gpu_threads(loader);
}

void Gpu::apply(Separable &f) const {
    Func out = f.pw.parts[0].out, dw = f.dw.parts[0].out;
    const int lanes = f.dw.parts[0].channels.lanes;
    const Tile t = tile_of(f.pw, shared_stride(lanes) * static_cast<int>(sizeof(float)));
    Var block("block"), thread("thread");
    blocks(f.pw, f.p, t, block, thread);
    accumulate(f.pw, f.c, f.p, out, thread);
    dw.compute_at(out, block)
        .store_in(MemoryType::GPUShared)
        .align_bounds(f.c, kThreadFloats)
        .align_storage(f.c, shared_stride(lanes));
    // Its code at the borders and that of the rest may round differently.
    share(dw, f.c, f.p, lanes, t.pixels, std::min(t.pixels, 2), thread, TailStrategy::GuardWithIf);
}

void Gpu::apply(PooledPointwise &f) const {
    Func pw = f.pw.parts[0].out;
    // All pixels of a few lanes; as many blocks as there are lanes for, since one image has only these.
    int lanes = tuning_.tile_vectors > 0 ? tuning_.tile_vectors * kThreadFloats : 32;
    const int bytes = f.pw.pixels * static_cast<int>(sizeof(float));
    lanes = std::min({lanes, m_.shared_bytes / bytes, f.pw.parts[0].channels.lanes});
    // Whole planes, or halves of one.
    const int planes = std::max(lanes / kPanelFloats, 1);
    lanes = lanes >= kPanelFloats ? kPanelFloats : lanes >= 2 * kThreadFloats ? 2 * kThreadFloats : kThreadFloats;
    const auto &[lane, plane, n] = f.planes;
    Var block("block"), plane_block("plane_block"), ct("ct"), cv("cv"), thread("thread");
    f.out.split(lane, block, ct, lanes)
        .split(ct, ct, cv, kThreadFloats)
        .split(plane, plane_block, plane, planes, TailStrategy::ShiftInwards)
        .reorder(cv, f.p, ct, plane, block, plane_block, n)
        .vectorize(cv)
        .fuse(ct, plane, thread)
        .gpu_blocks(block, plane_block, n)
        .gpu_threads(thread);
    f.total.compute_at(f.out, thread).bound_extent(f.c, kThreadFloats).vectorize(f.c).update().vectorize(f.c);
    pw.compute_at(f.out, block).store_in(MemoryType::GPUShared);
    share(pw, f.c, f.p, lanes * planes, f.pw.pixels, thread_pixels(f.pw.pixels), thread, TailStrategy::ShiftInwards);
    accumulate(f.pw, f.c, f.p, pw, thread);
}

void Gpu::apply(GlobalPool &f) const {
    const auto &[lane, plane, n] = f.planes;
    Var ct("ct"), cv("cv"), block("block"), thread("thread");
    // Blocks of one warp: one image alone is to occupy many.
    const int vectors = std::min(f.count * kPanelFloats / kThreadFloats, 32);
    f.out.split(lane, ct, cv, kThreadFloats)
        .fuse(ct, plane, ct)
        .split(ct, block, thread, vectors, TailStrategy::ShiftInwards)
        .reorder(cv, f.out.args()[1], thread, block, n)
        .vectorize(cv)
        .gpu_blocks(block, n)
        .gpu_threads(thread);
    f.total.compute_at(f.out, thread).bound_extent(lane, kThreadFloats).vectorize(lane).update().vectorize(lane);
}

void Gpu::apply(FullyConnected &f) const {
    // A block has 64 classes of one image; its threads share out the summands of each, then one adds these up.
    constexpr int kSlices = 16;
    const auto k = static_cast<int>(f.k.x.extent().as<Halide::Internal::IntImm>()->value);
    constexpr int kClasses = 64;
    Var block("block"), ct("ct"), slice("slice");
    f.out.split(f.c, block, ct, kClasses, TailStrategy::GuardWithIf)
        .reorder(ct, block, f.n)
        .gpu_blocks(block, f.n)
        .gpu_threads(ct);
    f.sum.compute_at(f.out, ct);
    if (k % kSlices != 0) return;
    RVar ko("ko"), ki("ki");
    f.sum.update().split(f.k.x, ki, ko, k / kSlices);
    Func partial = f.sum.update().rfactor(ki, slice);
    Var cv("cv"), cp("cp"), thread("thread");
    partial.compute_at(f.out, block).store_in(MemoryType::GPUShared).bound_extent(f.c, kClasses);
    partial.split(f.c, cp, cv, kThreadFloats)
        .reorder(cv, cp, slice)
        .vectorize(cv)
        .fuse(cp, slice, thread)
        .gpu_threads(thread);
    partial.update()
        .split(f.c, cp, cv, kThreadFloats)
        .reorder(cv, ko, cp, slice)
        .vectorize(cv)
        .unroll(ko, 4)
        .fuse(cp, slice, thread)
        .gpu_threads(thread);
}

void Gpu::apply(Stem &f) const {
    Stem::Part &part = f.parts[0];
    // A row of the output; the rows of the convolution that it needs are in shared memory, as many lanes as fit.
    const Size needed{f.pool_rows, f.conv_size.width};
    int lanes = kPanelFloats;
    const int bytes = needed.pixels() * static_cast<int>(sizeof(float));
    while (lanes > kThreadFloats && lanes * bytes > m_.shared_bytes) lanes /= 2;
    if (lanes * bytes > m_.shared_bytes) {
        throw std::runtime_error("stem: rows of " + std::to_string(needed.width) + " do not fit into shared memory");
    }
    const int columns = lanes / kThreadFloats, width = f.out_size.width;
    const auto &[lane, plane, n] = *f.planes;
    Var row("row"), px("px"), turn("turn"), block("block"), ct("ct"), cv("cv"), thread("thread");
    part.out.split(lane, block, ct, lanes)
        .split(ct, ct, cv, kThreadFloats)
        .split(f.p, row, px, width, TailStrategy::RoundUp)
        .split(px, turn, px, std::min(width, kMostThreads / columns), TailStrategy::GuardWithIf)
        .reorder(cv, turn, ct, px, block, plane, row, n)
        .vectorize(cv)
        .fuse(ct, px, thread)
        .fuse(block, plane, block)
        .gpu_blocks(block, row, n)
        .gpu_threads(thread);
    part.conv.compute_at(part.out, block).store_in(MemoryType::GPUShared);
    share_rows(part.conv, f.c, f.x, f.y, lanes, needed, std::min(needed.width, 4), f.group[0], thread);
    part.sum.compute_at(part.conv, thread).vectorize(f.c).unroll(f.x);
    part.sum.update()
        .reorder(f.c, f.x, f.tap.x, f.tap.y, f.tap.z)
        .vectorize(f.c)
        .unroll(f.x)
        .unroll(f.tap.x)
        .unroll(f.tap.y);
}

}  // namespace

std::unique_ptr<Schedule> gpu_schedule(const Machine &machine, const Tuning &tuning) {
    return std::make_unique<Gpu>(machine, tuning);
}

}  // namespace shufflenet::schedules
