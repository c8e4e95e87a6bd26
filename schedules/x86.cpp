// x86: SSE4.1, AVX2 and AVX-512, by what the Machine says.
//
// A pointwise convolution is a matrix product whose register tile is tile_pixels x tile_vectors accumulators: each
// step of k loads tile_vectors vectors of weights (streamed, packed in this order) and broadcasts tile_pixels
// activations, for tile_pixels * tile_vectors multiply-adds. The tile is the largest that leaves registers for one
// column of weights and one broadcast, so that loads stay below the two a cycle that the core can do.
#include <algorithm>
#include <cmath>

#include "schedules.h"

namespace shufflenet::schedules {

namespace {

using Halide::TailStrategy;
using Halide::Var;
using Halide::Func;
using generators::Depthwise;
using generators::Pointwise;

/// A register tile: pixels x vectors.
struct Tile {
    int pixels, vectors;
};

/// Work that a tile size computes, over the work that is needed: 1 when it divides both extents.
double padding(Tile t, int pixels, int vectors) {
    const double p = std::ceil(double(pixels) / t.pixels) * t.pixels / pixels;
    const double v = std::ceil(double(vectors) / t.vectors) * t.vectors / vectors;
    return p * v;
}

/// Loads per multiply-add of the inner loop; a broadcast folded into the multiply-add is not a separate load.
double loads(Tile t, const Machine &m) {
    const int broadcasts = m.broadcast_operand ? 0 : t.pixels;
    return double(t.vectors + broadcasts) / (t.pixels * t.vectors);
}

Tile choose_tile(const Machine &m, const Tuning &tuning, int pixels, int vectors) {
    if (tuning.tile_pixels > 0 && tuning.tile_vectors > 0) {
        return {std::min(tuning.tile_pixels, pixels), std::min(tuning.tile_vectors, vectors)};
    }
    Tile best{1, 1};
    double best_cost = 1e9;
    for (int v = 1; v <= std::min(4, vectors); ++v) {
        for (int p = 1; p <= std::min(14, pixels); ++p) {
            // Accumulators, one column of weights, one broadcast; without FMA a product needs a register too.
            const int needed = p * v + v + (m.broadcast_operand ? 0 : 1) + (m.fma ? 0 : 1);
            if (needed > m.registers) continue;
            // Two multiply-adds a cycle at latency four want eight accumulators; fewer stall in proportion.
            const double stall = std::max(1.0, 8.0 / (p * v));
            // Half a cycle for each multiply-add, half for each load beyond what overlaps.
            const double cost = padding({p, v}, pixels, vectors) * stall * (1.0 + 0.25 * loads({p, v}, m));
            if (cost < best_cost - 1e-9) {
                best_cost = cost;
                best = {p, v};
            }
        }
    }
    return best;
}

/// The largest strip, in output rows, whose intermediates take at most `budget` bytes; 0 rows means all.
template <typename Bytes>
int choose_strip(int rows, int wanted, int budget, const Bytes &bytes) {
    if (wanted > 0) return std::min(wanted, rows);
    int strip = rows;
    while (strip > 1 && bytes(strip) > budget) strip = (strip + 1) / 2;
    return strip;
}

class X86 final : public Schedule {
  public:
    X86(const Machine &machine, const Tuning &tuning) : m_(machine), tuning_(tuning) {}

    void apply(Stem &f) const override;
    void apply(Branch1 &f) const override;
    void apply(Branch2 &f) const override;
    void apply(Conv5 &f) const override;
    void apply(Conv5Pool &f) const override;
    void apply(FullyConnected &f) const override;

  private:
    /// The accumulators of one register tile: created where a tile is stored, kept in registers over all of k.
    void accumulate(Pointwise &f, Var c, Var p, Func at, Var tile_loop) const {
        Var cv("cv"), ci("ci");
        f.sum.compute_at(at, tile_loop).align_bounds(c, m_.vec);
        f.sum.split(c, cv, ci, m_.vec).reorder(ci, cv, p).vectorize(ci).unroll(cv).unroll(p);
        f.sum.update()
            .split(c, cv, ci, m_.vec)
            .reorder(ci, cv, p, f.k)
            .vectorize(ci)
            .unroll(cv)
            .unroll(p);
    }

    /// Loops of a tensor made of register tiles: channels by `vectors`, pixels by `pixels`; the tile is innermost.
    /// Leaves the loops `po` (pixel tiles) and `co` (channel tiles) free.
    void tile(Func out, Var c, Var p, Tile t, Var po, Var co) const {
        Var cv("cv"), ci("ci"), cu("cu"), pi("pi");
        out.split(c, cv, ci, m_.vec)
            .split(cv, co, cu, t.vectors, TailStrategy::ShiftInwards)
            .split(p, po, pi, t.pixels, TailStrategy::ShiftInwards)
            .reorder(ci, cu, pi, po, co)
            .vectorize(ci)
            .unroll(cu)
            .unroll(pi);
    }

    /// A pointwise convolution stored as a whole: parallel over channel tiles and runs of pixels.
    void store(Pointwise &f, Func out, Var c, Var p, bool parallel) const {
        const int vectors = f.layout.lanes / m_.vec;
        const Tile t = choose_tile(m_, tuning_, f.pixels, vectors);
        Var po("po"), co("co"), run("run"), task("task");
        tile(out, c, p, t, po, co);
        accumulate(f, c, p, out, po);
        if (!parallel) return;
        // Two runs of pixels at least, so that an odd number of channel tiles still splits evenly in two.
        const int tiles = (f.pixels + t.pixels - 1) / t.pixels;
        const int wanted = tuning_.task_pixels > 0 ? (tuning_.task_pixels + t.pixels - 1) / t.pixels : (tiles + 1) / 2;
        out.split(po, run, po, std::min(wanted, tiles), TailStrategy::GuardWithIf)
            .reorder(po, co, run)
            .fuse(co, run, task)
            .parallel(task);
    }

    /// A depthwise convolution, row by row: neighbouring outputs share their loads. A row goes through a buffer in
    /// L1 because only with columns of its own do its borders fold to constants, and only without them does the
    /// pointwise convolution find its pixels at constant distances. Leaves `co` (groups of `vectors` channels) free
    /// outside of everything. Groups round up rather than overlap: two threads that computed the same outputs in
    /// differently optimised copies of the code would make the last bits depend on who comes last.
    void depthwise(Depthwise &f, Var c, Var x, Var y, Var p, int vectors, Var co) const {
        Var cv("cv"), ci("ci"), cu("cu"), xi("xi");
        f.out.align_bounds(c, m_.vec)
            .split(c, cv, ci, m_.vec)
            .split(cv, co, cu, vectors, TailStrategy::RoundUp)
            .split(p, y, x, f.out_size.width)
            .reorder(ci, cu, x, y, co)
            .vectorize(ci)
            .unroll(cu);
        f.rows.compute_at(f.out, y)
            .align_bounds(c, m_.vec)
            .split(c, cv, ci, m_.vec)
            .split(x, x, xi, depthwise_columns(f.out_size.width), TailStrategy::ShiftInwards)
            .reorder(ci, xi, x, cv, y)
            .vectorize(ci)
            .unroll(xi);
    }

    /// Outputs of a row computed together: the largest divisor of the width that the registers allow, because only
    /// then the borders fold to constants; 4 for widths without a useful divisor.
    int depthwise_columns(int width) const {
        if (tuning_.depthwise_columns > 0) return std::min(tuning_.depthwise_columns, width);
        for (int columns = std::min(width, m_.registers / 2); columns > 2; --columns) {
            if (width % columns == 0) return columns;
        }
        return std::min(width, 4);
    }

    /// `t`, narrowed until the last group of channels, rounded up, reads weights inside of the blob.
    Tile channel_group(const Branch2 &f, Tile t) const {
        const int vectors = f.pw1.layout.lanes / m_.vec;
        const auto excess = [&] { return (round_up(vectors, t.vectors) - vectors) * m_.vec; };
        const int blob = f.pw2.layout.end();
        while (t.vectors > 1 && (f.pw1.layout.weights + (f.pw1.layout.lanes + excess()) * f.pw1.layout.k > blob ||
                                 f.dw.layout.weights + (f.dw.layout.lanes + excess()) * f.dw.layout.taps > blob)) {
            --t.vectors;
        }
        return t;
    }

    int budget() const { return kScratchBytes / 2; }

    Machine m_;
    Tuning tuning_;
};

void X86::apply(Branch2 &f) const {
    const Tile t = channel_group(f, choose_tile(m_, tuning_, f.pw1.pixels, f.pw1.layout.lanes / m_.vec));
    const Size in = f.dw.in_size;
    const Size out = f.dw.out_size;
    const auto bytes = [&](int rows) {
        const int in_rows = std::min(in.height, (rows - 1) * f.dw.stride + 3);
        return int(sizeof(float)) * (in_rows * in.width * t.vectors * m_.vec + rows * out.width * f.pw2.layout.lanes);
    };
    const int strip = choose_strip(out.height, tuning_.strip_rows, budget(), bytes);
    const bool strips = strip < out.height;

    // A channel tile of pw1 over the whole strip stays in L1/L2 and is consumed at once by the same channels of dw;
    // dw's output (all channels) stays in L2 until pw2 has used it.
    Var po("po"), co("co"), dwco("dwco"), s("s");
    if (strips) {
        f.pw2.out.split(f.p, s, f.p, strip * out.width, TailStrategy::ShiftInwards);
        store(f.pw2, f.pw2.out, f.c, f.p, false);
        f.pw2.out.parallel(s);
        f.dw.out.compute_at(f.pw2.out, s);
        depthwise(f.dw, f.c, f.x, f.y, f.p, t.vectors, dwco);
    } else {
        store(f.pw2, f.pw2.out, f.c, f.p, true);
        f.dw.out.compute_root();
        depthwise(f.dw, f.c, f.x, f.y, f.p, t.vectors, dwco);
        f.dw.out.parallel(dwco);
    }
    f.pw1.out.compute_at(f.dw.out, dwco);
    tile(f.pw1.out, f.c, f.p, t, po, co);
    accumulate(f.pw1, f.c, f.p, f.pw1.out, po);
}

void X86::apply(Branch1 &f) const {
    const Size out = f.dw.out_size;
    const auto bytes = [&](int rows) { return int(sizeof(float)) * rows * out.width * f.dw.layout.lanes; };
    const int strip = choose_strip(out.height, tuning_.strip_rows, budget(), bytes);
    Var dwco("dwco"), s("s");
    if (strip < out.height) {
        f.pw.out.split(f.p, s, f.p, strip * out.width, TailStrategy::ShiftInwards);
        store(f.pw, f.pw.out, f.c, f.p, false);
        f.pw.out.parallel(s);
        f.dw.out.compute_at(f.pw.out, s);
        depthwise(f.dw, f.c, f.x, f.y, f.p, 1, dwco);
    } else {
        store(f.pw, f.pw.out, f.c, f.p, true);
        f.dw.out.compute_root();
        depthwise(f.dw, f.c, f.x, f.y, f.p, 1, dwco);
        f.dw.out.parallel(dwco);
    }
}

void X86::apply(Conv5 &f) const { store(f.pw, f.pw.out, f.c, f.p, true); }

void X86::apply(Conv5Pool &f) const {
    const int vectors = f.pw.layout.lanes / m_.vec;
    const Tile t = choose_tile(m_, tuning_, f.pw.pixels, vectors);
    Var cv("cv"), ci("ci"), cu("cu"), co("co"), po("po"), tco("tco");
    f.out.split(f.c, cv, ci, m_.vec)
        .split(cv, co, cu, t.vectors, TailStrategy::ShiftInwards)
        .vectorize(ci)
        .unroll(cu)
        .parallel(co);
    f.total.compute_at(f.out, co).align_bounds(f.c, m_.vec).split(f.c, cv, ci, m_.vec).vectorize(ci).unroll(cv);
    f.total.update()
        .split(f.c, cv, ci, m_.vec)
        .reorder(ci, cv, f.pixel)
        .vectorize(ci)
        .unroll(cv);
    // All pixels of one channel tile: a few KiB in L1, summed and dropped.
    f.pw.out.compute_at(f.out, co).align_bounds(f.c, m_.vec);
    tile(f.pw.out, f.c, f.p, t, po, tco);
    accumulate(f.pw, f.c, f.p, f.pw.out, po);
}

void X86::apply(FullyConnected &f) const {
    // Bound by streaming the weights, once for the whole group of images: a panel of classes at a time, parallel
    // over panels, images inside.
    const int panel = f.layout.vec;
    Var co("co"), ci("ci"), cv("cv"), cl("cl");
    f.out.split(f.c, co, ci, panel, TailStrategy::GuardWithIf)
        .split(ci, cv, ci, m_.vec)
        .reorder(ci, cv, f.n, co)
        .vectorize(ci)
        .parallel(co);
    f.sum.compute_at(f.out, f.n).align_bounds(f.c, panel);
    f.sum.bound_extent(f.c, panel).split(f.c, cv, cl, m_.vec).vectorize(cl).unroll(cv);
    f.sum.update().split(f.c, cv, cl, m_.vec).reorder(cl, cv, f.k, f.n).vectorize(cl).unroll(cv);
}

void X86::apply(Stem &f) const {
    const int vectors = f.layout.lanes / m_.vec;
    const Tile t = choose_tile(m_, {}, f.conv_size.width, vectors);
    Var row("row"), px("px"), s("s"), cv("cv"), ci("ci"), xo("xo"), xi("xi"), co("co"), cu("cu");
    // A strip of pooled rows at a time; the rows of the convolution that it needs slide through L1.
    const int rows = tuning_.strip_rows > 0 ? tuning_.strip_rows : 8;
    f.out.split(f.c, cv, ci, m_.vec).split(f.p, row, px, f.out_size.width);
    f.out.split(row, s, row, std::min(rows, f.out_size.height), TailStrategy::GuardWithIf)
        .reorder(ci, cv, px, row, s)
        .vectorize(ci)
        .unroll(cv)
        .parallel(s);
    f.conv.store_at(f.out, s).compute_at(f.out, row);
    f.conv.split(f.c, cv, ci, m_.vec)
        .split(cv, co, cu, t.vectors, TailStrategy::ShiftInwards)
        .split(f.x, xo, xi, t.pixels, TailStrategy::ShiftInwards)
        .reorder(ci, cu, xi, xo, co, f.y)
        .vectorize(ci)
        .unroll(cu)
        .unroll(xi);
    f.sum.compute_at(f.conv, xo).align_bounds(f.c, m_.vec);
    f.sum.split(f.c, cv, ci, m_.vec).reorder(ci, cv, f.x).vectorize(ci).unroll(cv).unroll(f.x);
    f.sum.update()
        .split(f.c, cv, ci, m_.vec)
        .reorder(ci, cv, f.x, f.tap.x, f.tap.y, f.tap.z)
        .vectorize(ci)
        .unroll(cv)
        .unroll(f.x)
        .unroll(f.tap.x)
        .unroll(f.tap.y)
        .unroll(f.tap.z);
}

}  // namespace

std::unique_ptr<Schedule> x86_schedule(const Machine &machine, const Tuning &tuning) {
    return std::make_unique<X86>(machine, tuning);
}

}  // namespace shufflenet::schedules
