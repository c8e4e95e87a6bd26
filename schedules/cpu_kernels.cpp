// Kernels of one layer, and those that end in a pool.
#include "cpu_schedule.h"

namespace shufflenet::schedules {

using Halide::PrefetchBoundStrategy;
using Halide::TailStrategy;

void Cpu::apply(PooledPointwise &f) const {
    Pointwise::Part &pw = f.pw.parts.at(0);
    TileProblem wanted{f.pw.pixels, vectors_of(pw.channels)};
    wanted.plane_vectors = plane_vectors(pw.channels);
    const Tile t = choose_tile(tuned_tile(), wanted);
    Var cv("cv"), ci("ci"), co("co"), po("po"), tco("tco");
    tile_channels(f.out, pw.channels, f.planes, t.vectors, co, cv, ci);
    f.out.reorder(ci, cv, co).parallel(co);
    f.total.compute_at(f.out, co).align_bounds(f.c, m_.vec).split(f.c, cv, ci, m_.vec).vectorize(ci).unroll(cv);
    f.total.update().split(f.c, cv, ci, m_.vec).reorder(ci, cv, f.pixel).vectorize(ci).unroll(cv);
    // All pixels of one channel tile, summed and dropped: 3 KiB at 7x7.
    pw.out.compute_at(f.out, co).align_bounds(f.c, m_.vec);
    tile(f.pw, pw, f.c, f.p, t, po, tco);
    // The last tile overlaps the one before it: unrolled, what both store is computed once.
    constexpr int kFewTiles = 3;
    if (pieces(f.pw.pixels, t.pixels) <= kFewTiles) pw.out.unroll(po);
}

void Cpu::apply(GlobalPool &f) const {
    // Bound by reading the tensor: a few vectors over all pixels, then the next.
    const int each = kPlane / m_.vec;
    constexpr int kVectors = 4;
    const ChannelPart part{0, f.count * kPlane, kPlane};
    Var cv("cv"), ci("ci"), co("co");
    tile_channels(f.out, part, f.planes, std::max(each, std::min(kVectors, f.count * each)), co, cv, ci);
    f.out.reorder(ci, cv, co).parallel(co);
    const auto [lane, plane, group] = f.planes;
    f.total.compute_at(f.out, co).split(lane, cv, ci, m_.vec).vectorize(ci).unroll(cv).unroll(plane);
    f.total.update().split(lane, cv, ci, m_.vec).reorder(ci, cv, plane, f.pixel).vectorize(ci).unroll(cv).unroll(plane);
}

void Cpu::apply(PlaneByPlane &f) const {
    // As many pixels a task as make a fork worth while.
    constexpr int kPixels = 196;
    Var cv("cv"), ci("ci"), block("block"), task("task");
    f.out.split(f.planes.lane, cv, ci, m_.vec)
        .split(f.p, block, f.p, kPixels, TailStrategy::GuardWithIf)
        .reorder(ci, cv, f.p, block, f.planes.plane)
        .vectorize(ci)
        .unroll(cv)
        .fuse(block, f.planes.plane, task)
        .parallel(task);
}

void Cpu::apply(Softmax &f) const {
    // A pixel at a time, all of its channels in vectors; what is between stays in the first-level cache.
    constexpr int kPixels = 28;
    Var cv("cv"), ci("ci"), block("block"), u("u");
    Halide::RVar ko("ko"), ki("ki");
    f.out.split(f.planes.lane, cv, ci, m_.vec)
        .split(f.p, block, f.p, kPixels, TailStrategy::GuardWithIf)
        .reorder(ci, cv, f.planes.plane, f.p, block)
        .vectorize(ci)
        .unroll(cv)
        .parallel(block);
    for (Func *each : {&f.in, &f.value}) each->compute_at(f.out, f.p).vectorize(f.c, m_.vec);
    for (Func *each : {&f.most, &f.sum}) {
        each->compute_at(f.out, f.p);
        each->update().split(f.k, ko, ki, m_.vec);
        each->update().rfactor(ki, u).compute_at(f.out, f.p).vectorize(u).update().vectorize(u);
    }
}

void Cpu::apply(FullyConnected &f) const {
    // Bound by streaming the weights, once for the whole group of images: a panel of classes at a time, parallel
    // over panels, images inside.
    const int panel = f.layout.panel;
    // As many accumulators as hide a multiply-add's latency, and leave registers for weights.
    const int lanes = std::min(panel, m_.registers / 2 * m_.vec);
    Var co("co"), ci("ci"), cv("cv"), cl("cl"), cg("cg"), no("no"), ni("ni");
    f.out.split(f.c, co, ci, panel, TailStrategy::GuardWithIf)
        .split(ci, cg, ci, lanes)
        .split(ci, cv, ci, m_.vec)
        .reorder(ci, cv, cg, f.n, co)
        .vectorize(ci)
        .parallel(co);
    f.sum.compute_at(f.out, cg).align_bounds(f.c, lanes);
    f.sum.bound_extent(f.c, lanes).split(f.c, cv, cl, m_.vec).vectorize(cl).unroll(cv).unroll(f.n);
    f.sum.update().split(f.c, cv, cl, m_.vec).reorder(cl, cv, f.n, f.k).vectorize(cl).unroll(cv).unroll(f.n);
    // Several images use a vector of weights while it is in a register: as many as it has accumulators for, and then
    // half of them for what is left.
    for (int images = m_.registers * m_.vec / lanes / 2; images >= 4; images /= 2) {
        f.out.specialize(f.images >= images)
            .split(f.n, no, ni, images, TailStrategy::ShiftInwards)
            .reorder(ci, cv, ni, cg, no, co);
    }
    if (const int distance = m_.prefetch_bytes / element_bytes(f.layout.element) / panel;
        distance > 0 && lanes == panel) {
        f.sum.update().prefetch(f.blob, f.k, f.k, distance, PrefetchBoundStrategy::NonFaulting);
    }
}

void Cpu::apply(Stem &f) const {
    // A strip of pooled rows at a time; the rows of the convolution that it needs slide through L1. An even number of
    // strips, so that two threads get the same.
    const auto bytes = [&f](int rows, int lanes) {
        const int height = f.window.kernel.height + rows * f.window.stride.height;
        return unit_bytes({}, {std::min(height, f.conv_size.height), f.conv_size.width}, lanes, 0);
    };
    for (Stem::Part &part : f.parts) {
        int rows = tuning_.strip_rows > 0 ? tuning_.strip_rows : 14;
        while (rows > 1 && !fits_scratch(bytes(rows, part.channels.lanes))) rows = (rows + 1) / 2;
        const int vec = vector_of(part.channels);
        // The taps of a channel are unrolled; those of all would not fit into the cache of decoded instructions, and
        // LLVM then adds some in another order.
        constexpr int kMostPixels = 16, kMostRows = 3;
        const Tile t = choose_tile(tuned_tile(), {f.conv_size.width, vectors_of(part.channels), 1, kMostPixels});
        Var row("row"), px("px"), s("s"), cv("cv"), ci("ci"), xo("xo"), xi("xi"), co("co"), cu("cu");
        tile_channels(part.out, part.channels, f.planes.value(), vectors_of(part.channels), Var("all"), cv, ci);
        part.out.split(f.p, row, px, f.out_size.width);
        part.out.split(row, s, row, std::min(rows, f.out_size.height), TailStrategy::GuardWithIf)
            .reorder(ci, cv, px, row, s)
            .parallel(s);
        part.conv.store_at(part.out, s).compute_at(part.out, row);
        part.conv.split(f.c, cv, ci, vec)
            .split(cv, co, cu, t.vectors, TailStrategy::ShiftInwards)
            .split(f.x, xo, xi, t.pixels, TailStrategy::ShiftInwards)
            .reorder(ci, cu, xi, xo, co, f.y)
            .vectorize(ci)
            .unroll(cu)
            .unroll(xi);
        part.sum.compute_at(part.conv, xo).align_bounds(f.c, vec);
        part.sum.split(f.c, cv, ci, vec).reorder(ci, cv, f.x).vectorize(ci).unroll(cv).unroll(f.x);
        part.sum.update()
            .split(f.c, cv, ci, vec)
            .reorder(ci, cv, f.x, f.tap.x, f.tap.y, f.tap.z)
            .vectorize(ci)
            .unroll(cv)
            .unroll(f.x)
            .unroll(f.tap.x);
        if (f.window.kernel.height <= kMostRows) part.sum.update().unroll(f.tap.y);
    }
}

void Cpu::apply(SingleLayer &f) const {
    if (auto *pw = std::get_if<Pointwise>(&f.layer)) return store(*pw, f.c, f.p, blocks_of(f.out_size));
    if (auto *dw = std::get_if<Depthwise>(&f.layer)) return store(*dw, f.c, f.x, f.y, f.p, blocks_of(dw->out_size));
    auto &conv = std::get<Convolution>(f.layer);
    store(conv, f.c, f.x, f.y, f.p, blocks_of(conv.out_size));
}

}  // namespace shufflenet::schedules
