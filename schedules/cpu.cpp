// The loops of the CPU schedules: register tiles, blocks of rows, threads.
//
// A pointwise convolution is a matrix product whose register tile is tile_pixels x tile_vectors accumulators: each
// step of k loads tile_vectors vectors of weights (streamed, packed in this order) and tile_pixels activations, for
// tile_pixels * tile_vectors multiply-adds.
#include <cmath>

#include "cpu_schedule.h"

namespace shufflenet::schedules {

using Halide::PrefetchBoundStrategy;
using Halide::TailStrategy;

double padding(Tile t, int pixels, int vectors) {
    const double p = std::ceil(double(pixels) / t.pixels) * t.pixels / pixels;
    const double v = std::ceil(double(vectors) / t.vectors) * t.vectors / vectors;
    return p * v;
}

double imbalance(int tiles, int blocks) { return std::ceil(double(tiles) / blocks) * blocks / tiles; }

Tile Cpu::choose_tile(Tile tuned, const TileProblem &wanted) const {
    if (tuned.pixels == 0 || tuned.vectors == 0) return decide_->tile(wanted);
    int vectors = std::min(tuned.vectors, wanted.vectors);
    while (!wanted.fits_planes(vectors)) --vectors;
    return {std::min(tuned.pixels, wanted.pixels), vectors};
}

Tile Cpu::tile_of(const Pointwise &f, const ChannelPart &part, int blocks) const {
    const int vectors = vectors_of(part);
    const Tile tuned = part.first > 0 ? Tile{tuning_.tail_pixels, vectors} : tuned_tile();
    TileProblem wanted{f.pixels, vectors, blocks};
    if (f.planes) wanted.plane_vectors = plane_vectors(part);
    return choose_tile(tuned, wanted);
}

Tile Cpu::tile_of_panel(const Pointwise &f, const ChannelPart &part, int pixels) const {
    const int vectors = part.vec / vector_of(part);
    const Tile tuned = tile_of(f, part, 1);
    if (tuning_.tile_pixels > 0 && vectors % tuned.vectors == 0) {
        return {std::min(tuned.pixels, pixels), tuned.vectors};
    }
    return choose_tile({}, {pixels, vectors});
}

void Cpu::accumulate(Pointwise &f, Pointwise::Part &part, Var c, Var p, Var tile_loop) const {
    const int vec = vector_of(part.channels);
    Var cv("cv"), ci("ci");
    part.sum.compute_at(part.out, tile_loop).align_bounds(c, vec);
    part.sum.split(c, cv, ci, vec).reorder(ci, cv, p).vectorize(ci).unroll(cv).unroll(p);
    for (int i = 0; i < static_cast<int>(f.k.size()); ++i) {
        decide_->accumulate(f, part, i, c, p, vec);
    }
}

void Cpu::prefetch(Pointwise &f, Pointwise::Part &part, int lanes) const {
    int rows = 0;
    if (lanes == part.channels.vec) {
        rows = m_.prefetch_bytes / static_cast<int>(sizeof(float)) / f.layout.panel;
    } else if (m_.loads_bound() && lanes % f.layout.panel == 0) {
        rows = lanes / f.layout.panel * f.layout.rows;
    } else {
        return;
    }
    for (int i = 0; i < static_cast<int>(f.k.size()); ++i) {
        part.sum.update(i).prefetch(f.blob, f.k[i], f.k[i], rows, PrefetchBoundStrategy::NonFaulting);
    }
}

void Cpu::tile_channels(Func out, const ChannelPart &part, Var c, int vectors, Var co, Var cv, Var ci) const {
    out.split(c, co, ci, vector_of(part))
        .split(co, co, cv, vectors, TailStrategy::ShiftInwards)
        .vectorize(ci)
        .unroll(cv);
}

void Cpu::tile_channels(Func out, const ChannelPart &part, const PlaneVars &planes, int vectors, Var co, Var cv,
                        Var ci) const {
    const int each = plane_vectors(part);
    Var share("share"), plane("plane");
    out.split(planes.lane, share, ci, vector_of(part));
    if (vectors < each) {
        out.split(share, share, cv, vectors).fuse(share, planes.plane, co);
    } else {
        out.split(planes.plane, co, plane, vectors / each, TailStrategy::ShiftInwards)
            .reorder(ci, share, plane)
            .fuse(share, plane, cv);
    }
    out.vectorize(ci).unroll(cv);
}

void Cpu::tile(Pointwise &f, Pointwise::Part &part, Var c, Var p, Tile t, Var po, Var co) const {
    Var cv("cv"), ci("ci"), pi("pi");
    if (f.planes) {
        tile_channels(part.out, part.channels, *f.planes, t.vectors, co, cv, ci);
    } else {
        tile_channels(part.out, part.channels, c, t.vectors, co, cv, ci);
    }
    part.out.split(p, po, pi, t.pixels, TailStrategy::ShiftInwards).reorder(ci, cv, pi, po, co).unroll(pi);
    accumulate(f, part, c, p, po);
    if (decide_->prefetches_weights()) prefetch(f, part, t.vectors * vector_of(part.channels));
}

void Cpu::store(Pointwise &f, Var c, Var p, int blocks) const {
    for (Pointwise::Part &part : f.parts) {
        const int runs = runs_of(part.channels, blocks);
        const Tile t = tile_of(f, part.channels, runs);
        Var po("po"), co("co"), block("block"), group("group"), task("task");
        tile(f, part, c, p, t, po, co);
        const int tiles = pieces(f.pixels, t.pixels), vectors = vectors_of(part.channels);
        const int wide = pieces(vectors, t.vectors);
        part.out
            .split(po, block, po, tiles_of_task(tiles, pieces(tiles, std::min(tiles, runs)), f.pixels % t.pixels != 0),
                   TailStrategy::GuardWithIf)
            .split(co, group, co, tiles_of_task(wide, group_size(wide, runs), vectors % t.vectors != 0),
                   TailStrategy::GuardWithIf)
            .reorder(po, co, group, block)
            .fuse(group, block, task)
            .parallel(task);
    }
}

template <typename Layer>
void Cpu::row_by_row(const Layer &f, const typename Layer::Part &part, Var c, Var x, Var y, Var p, Var co) const {
    const int panel = std::min(part.channels.vec, part.channels.lanes);
    Var cv("cv"), cp("cp"), ci("ci");
    Func out = part.out;
    if (!f.planes) {
        out.align_bounds(c, panel).split(c, co, cp, panel);
    } else if (panel == kPlane) {
        out.rename(f.planes->lane, cp).rename(f.planes->plane, co);
    } else {
        out.split(f.planes->lane, co, cp, panel);
    }
    out.split(cp, cv, ci, vector_of(part.channels))
        .split(p, y, x, f.out_size.width)
        .reorder(ci, cv, x, y, co)
        .vectorize(ci)
        .unroll(cv);
}

void Cpu::depthwise(const Depthwise &f, Depthwise::Part &part, Var c, Var x, Var y, Var p, Var co) const {
    const int panel = part.channels.vec;
    const int vec = vector_of(part.channels);
    Var cv("cv"), ci("ci"), xi("xi");
    row_by_row(f, part, c, x, y, p, co);
    part.rows.compute_at(part.out, y)
        .align_bounds(c, panel)
        .split(c, cv, ci, vec)
        .split(x, x, xi, depthwise_columns(f.out_size.width), TailStrategy::ShiftInwards)
        .reorder(ci, xi, x, cv, y)
        .vectorize(ci)
        .unroll(xi);
}

void Cpu::store(Depthwise &f, Var c, Var x, Var y, Var p, int blocks) const {
    for (Depthwise::Part &part : f.parts) {
        const int runs = runs_of(part.channels, blocks);
        Var co("co"), block("block"), group("group"), task("task");
        part.out.compute_root();
        depthwise(f, part, c, x, y, p, co);
        part.out
            .split(y, block, y, pieces(f.out_size.height, std::min(f.out_size.height, runs)), TailStrategy::GuardWithIf)
            .split(co, group, co, group_size(part.channels.lanes / part.channels.vec, runs), TailStrategy::GuardWithIf)
            .reorder(y, co, group, block)
            .fuse(group, block, task)
            .parallel(task);
    }
}

void Cpu::pad(Func copy, int lanes, Var c) const {
    const int vec = std::min(m_.vec, lanes);
    Var ci("ci");
    copy.align_bounds(c, vec).split(c, c, ci, vec).vectorize(ci);
}

void Cpu::convolution(Convolution &f, Convolution::Part &part, Var c, Var x, Var y, Var p, Var co) const {
    const int panel = std::min(part.channels.vec, part.channels.lanes);
    const int vec = vector_of(part.channels);
    const Tile t = choose_tile({}, {f.out_size.width, panel / vec});
    Var cv("cv"), ci("ci"), cu("cu"), xo("xo"), xi("xi");
    row_by_row(f, part, c, x, y, p, co);
    part.rows.compute_at(part.out, y)
        .align_bounds(c, panel)
        .split(c, cv, ci, vec)
        .split(cv, cv, cu, t.vectors)
        .split(x, xo, xi, t.pixels, TailStrategy::ShiftInwards)
        .reorder(ci, cu, xi, xo, cv, y)
        .vectorize(ci)
        .unroll(cu)
        .unroll(xi);
    part.sum.compute_at(part.rows, xo).align_bounds(c, vec).split(c, cv, ci, vec).reorder(ci, cv, x);
    part.sum.vectorize(ci).unroll(cv).unroll(x);
    part.sum.update()
        .split(c, cv, ci, vec)
        .reorder(ci, cv, x, f.tap.x, f.tap.y, f.tap.z)
        .vectorize(ci)
        .unroll(cv)
        .unroll(x);
}

void Cpu::store(Convolution &f, Var c, Var x, Var y, Var p, int blocks) const {
    const auto copied = [&f](int rows) {
        const auto &[kernel, stride, padding] = f.window;
        const int height = (rows - 1) * stride.height + kernel.height;
        return unit_bytes({}, {height, (f.out_size.width - 1) * stride.width + kernel.width}, f.in_lanes, 0);
    };
    // A copy of all is made first, where there is room for it; otherwise each block has its own.
    const bool whole = fits_scratch(copied(f.out_size.height));
    int rows = pieces(f.out_size.height, std::min(f.out_size.height, blocks));
    while (!whole && rows > 1 && copied(rows) > kScratchBytes / 2) rows = (rows + 1) / 2;
    if (whole) pad(f.padded.compute_root(), f.in_lanes, c);
    for (Convolution::Part &part : f.parts) {
        Var co("co"), block("block");
        convolution(f, part, c, x, y, p, co);
        part.out.split(y, block, y, rows, TailStrategy::GuardWithIf).reorder(y, co, block).parallel(block);
        if (!whole) pad(f.padded.clone_in(part.sum).compute_at(part.out, block), f.in_lanes, c);
    }
}

std::unique_ptr<Schedule> cpu_schedule(const Machine &machine, const Tuning &tuning,
                                       std::unique_ptr<CpuDecisions> decisions) {
    return std::make_unique<Cpu>(machine, tuning, std::move(decisions));
}

}  // namespace shufflenet::schedules
