// The loops of the CPU schedules: register tiles, blocks of rows, threads.
//
// A pointwise convolution is a matrix product whose register tile is tile_pixels x tile_vectors accumulators: each
// step of k loads tile_vectors vectors of weights (streamed, packed in this order) and tile_pixels activations, for
// tile_pixels * tile_vectors multiply-adds.
#include "cpu.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>
#include <string>

namespace shufflenet::schedules {

double padding(Tile t, int pixels, int vectors) {
    const double p = std::ceil(double(pixels) / t.pixels) * t.pixels / pixels;
    const double v = std::ceil(double(vectors) / t.vectors) * t.vectors / vectors;
    return p * v;
}

double imbalance(int tiles, int blocks) { return std::ceil(double(tiles) / blocks) * blocks / tiles; }

namespace {

using generators::Convolution;
using generators::Depthwise;
using generators::PlaneVars;
using generators::Pointwise;
using Halide::Func;
using Halide::PrefetchBoundStrategy;
using Halide::TailStrategy;
using Halide::Var;

/// How the work of a unit is ordered, from its first pointwise convolution to its last.
enum class Order {
    kAuto = 0,
    kRows,      ///< Layer after layer, each parallel over blocks of rows: a thread finds its own rows in its own cache.
    kChannels,  ///< pw1 and dw a group of channels at a time, then pw2.
    kStrips,    ///< A strip of rows through all layers.
};

class Cpu final : public Schedule {
  public:
    Cpu(const Machine &machine, const Tuning &tuning, std::unique_ptr<CpuDecisions> decisions)
        : m_(machine), tuning_(tuning), decide_(std::move(decisions)) {}

    void apply(Stem &f) const override;
    void apply(Unit &f) const override;
    void apply(Separable &f) const override;
    void apply(PooledPointwise &f) const override;
    void apply(FullyConnected &f) const override;
    void apply(SingleLayer &f) const override;
    void apply(ElementWise &f) const override;
    void apply(WholeBlock &f) const override;
    void apply(GlobalPool &f) const override;
    void apply(PlaneByPlane &f) const override;

  private:
    /// Vectors are the machine's, or shorter for a part that is.
    int vector_of(const ChannelPart &part) const { return std::min(part.vec, m_.vec); }
    int vectors_of(const ChannelPart &part) const { return part.lanes / vector_of(part); }

    /// Vectors of a plane of a part that is stored.
    int plane_vectors(const ChannelPart &part) const { return plane_lanes(part) / vector_of(part); }
    static int plane_lanes(const ChannelPart &part) { return std::min(part.lanes, networks::kPlane); }

    /// A tile as tuned, or else as decided.
    Tile choose_tile(Tile tuned, const TileProblem &wanted) const {
        if (tuned.pixels == 0 || tuned.vectors == 0) return decide_->tile(wanted);
        int vectors = std::min(tuned.vectors, wanted.vectors);
        while (!wanted.fits_planes(vectors)) --vectors;
        return {std::min(tuned.pixels, wanted.pixels), vectors};
    }

    static int pieces(int size, int piece) { return (size + piece - 1) / piece; }

    /// The greatest divisor of `size` that is at most `most`.
    static int divisor(int size, int most) {
        while (size % most != 0) --most;
        return most;
    }

    /// The register tile of one part of a pointwise convolution that is computed in `blocks`.
    Tile tile_of(const Pointwise &f, const ChannelPart &part, int blocks) const {
        const int vectors = vectors_of(part);
        const Tile tuned = part.first > 0 ? Tile{tuning_.tail_pixels, vectors} : tuned_tile();
        TileProblem wanted{f.pixels, vectors, blocks};
        if (f.planes) wanted.plane_vectors = plane_vectors(part);
        return choose_tile(tuned, wanted);
    }
    /// The tile of one panel of channels: as tuned, if that divides a panel.
    Tile tile_of_panel(const Pointwise &f, const ChannelPart &part, int pixels) const {
        const int vectors = part.vec / vector_of(part);
        const Tile tuned = tile_of(f, part, 1);
        if (tuning_.tile_pixels > 0 && vectors % tuned.vectors == 0) {
            return {std::min(tuned.pixels, pixels), tuned.vectors};
        }
        return choose_tile({}, {pixels, vectors});
    }
    Tile tuned_tile() const { return {tuning_.tile_pixels, tuning_.tile_vectors}; }

    /// The accumulators of one register tile: created where a tile is stored, kept in registers over all of k.
    void accumulate(Pointwise &f, Pointwise::Part &part, Var c, Var p, Var tile_loop) const {
        const int vec = vector_of(part.channels);
        Var cv("cv"), ci("ci");
        part.sum.compute_at(part.out, tile_loop).align_bounds(c, vec);
        part.sum.split(c, cv, ci, vec).reorder(ci, cv, p).vectorize(ci).unroll(cv).unroll(p);
        for (int i = 0; i < static_cast<int>(f.k.size()); ++i) {
            decide_->accumulate(f, part, i, c, p, vec);
        }
    }

    /// Weights come from memory once a run; the core's own prefetching stops at the end of every page. Those of one
    /// panel are one run. Those of several are not: of such a tile the same step of the next one is asked for, where
    /// SpreadPrefetches makes one line of it.
    void prefetch(Pointwise &f, Pointwise::Part &part, int lanes) const {
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

    /// The channels of an output in tiles of so many vectors: leaves the loops `ci` (a vector), `cv`, which is unrolled,
    /// and `co` (tiles).
    void tile_channels(Func out, const ChannelPart &part, Var c, int vectors, Var co, Var cv, Var ci) const {
        out.split(c, co, ci, vector_of(part))
            .split(co, co, cv, vectors, TailStrategy::ShiftInwards)
            .vectorize(ci)
            .unroll(cv);
    }
    /// The same of an output in planes: a tile is whole planes, or a share of one, so that its channels are a run.
    void tile_channels(Func out, const ChannelPart &part, const PlaneVars &planes, int vectors, Var co, Var cv,
                       Var ci) const {
        const int each = plane_vectors(part);
        Var share("share"), vector("vector"), plane("plane");
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

    /// Loops over register tiles: channels by `vectors`, pixels by `pixels`; leaves the loops `po` (pixel tiles) and
    /// `co` (channel tiles) outside.
    void tile(Pointwise &f, Pointwise::Part &part, Var c, Var p, Tile t, Var po, Var co) const {
        Var cv("cv"), ci("ci"), pi("pi"), channel("channel"), parity("parity");
        // The two lanes of a channel are the innermost loop, so that Halide joins the two stores of every other lane
        // into stores of whole vectors, interleaved in registers.
        if (f.shuffled) part.out.split(c, channel, parity, 2, TailStrategy::RoundUp);
        if (f.planes) {
            tile_channels(part.out, part.channels, *f.planes, t.vectors, co, cv, ci);
        } else {
            tile_channels(part.out, part.channels, f.shuffled ? channel : c, t.vectors, co, cv, ci);
        }
        part.out.split(p, po, pi, t.pixels, TailStrategy::ShiftInwards).reorder(ci, cv, pi, po, co).unroll(pi);
        if (f.shuffled) part.out.reorder(ci, parity).unroll(parity);
        accumulate(f, part, c, p, po);
        if (decide_->prefetches_weights()) prefetch(f, part, t.vectors * vector_of(part.channels));
    }

    /// A pointwise convolution stored as a whole. Tasks go through all channels of a block of pixels before the next
    /// block, so that a thread's share of the tasks is a share of the pixels.
    void store(Pointwise &f, Var c, Var p, int blocks) const {
        for (Pointwise::Part &part : f.parts) {
            const int runs = runs_of(part.channels, blocks);
            const Tile t = tile_of(f, part.channels, runs);
            Var po("po"), co("co"), block("block"), group("group"), task("task");
            tile(f, part, c, p, t, po, co);
            const int tiles = pieces(f.pixels, t.pixels);
            part.out.split(po, block, po, pieces(tiles, std::min(tiles, runs)), TailStrategy::GuardWithIf)
                .split(co, group, co, group_size(pieces(vectors_of(part.channels), t.vectors), runs),
                       TailStrategy::GuardWithIf)
                .reorder(po, co, group, block)
                .fuse(group, block, task)
                .parallel(task);
        }
    }

    /// Blocks of a part: a second one has too few channels to be divided by them.
    static int runs_of(const ChannelPart &part, int blocks) { return part.first == 0 ? blocks : std::max(blocks, 2); }

    /// Channel tiles of one task: enough tasks for a few threads, but no smaller ones.
    static int group_size(int tiles, int blocks) { return pieces(tiles, blocks == 1 ? tiles : pieces(8, blocks)); }

    /// The pixels `p` as columns `x` of rows `y`, a panel of channels at a time; `co` counts the panels.
    template <typename Layer>
    void row_by_row(const Layer &f, const typename Layer::Part &part, Var c, Var x, Var y, Var p, Var co) const {
        const int panel = std::min(part.channels.vec, part.channels.lanes);
        Var cv("cv"), cp("cp"), ci("ci");
        Func out = part.out;
        if (!f.planes) {
            out.align_bounds(c, panel).split(c, co, cp, panel);
        } else if (panel == networks::kPlane) {
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

    /// A depthwise convolution, row by row: neighbouring outputs share their loads. A row goes through a buffer in
    /// L1 because only with columns of its own do its borders fold to constants, and only without them does the
    /// pointwise convolution find its pixels at constant distances. Leaves `co` (panels of channels) free outside
    /// of the rows `y`.
    void depthwise(const Depthwise &f, Depthwise::Part &part, Var c, Var x, Var y, Var p, Var co) const {
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

    /// Between pixels whose distance is a multiple of 2 KiB, a line: otherwise all pixels of a tile would compete for
    /// the same few places of the first-level cache. Only where there is a dimension of groups, which is in chains.
    static void pad_pixels(Depthwise &f, Var c) {
        constexpr int kConflict = (2 << 10) / static_cast<int>(sizeof(float));
        for (Depthwise::Part &part : f.parts) {
            const int lanes = part.channels.lanes;
            if (f.groups > 0 && lanes % kConflict == 0) part.out.align_storage(c, lanes + kLineFloats);
        }
    }

    /// Depthwise convolutions stored as a whole, parallel over blocks of rows and channels.
    void store(Depthwise &f, Var c, Var x, Var y, Var p, int blocks) const {
        for (Depthwise::Part &part : f.parts) {
            const int runs = runs_of(part.channels, blocks);
            Var co("co"), block("block"), group("group"), task("task");
            part.out.compute_root();
            depthwise(f, part, c, x, y, p, co);
            part.out
                .split(y, block, y, pieces(f.out_size.height, std::min(f.out_size.height, runs)),
                       TailStrategy::GuardWithIf)
                .split(co, group, co, group_size(part.channels.lanes / part.channels.vec, runs),
                       TailStrategy::GuardWithIf)
                .reorder(y, co, group, block)
                .fuse(group, block, task)
                .parallel(task);
        }
    }

    /// Panels of pw1's channels that are computed together: as many as a register tile has, if they divide the part,
    /// the scratch memory has room, and there are two tasks at least.
    int panels_together(const Unit &f, const ChannelPart &part) const {
        const int panels = part.lanes / part.vec, vectors = part.vec / vector_of(part);
        const int lanes = f.dw.layout.lanes * std::max(1, f.dw.groups);
        int together = std::clamp(tile_of(f.pw1, part, 1).vectors / vectors, 1, std::max(1, panels / 2));
        for (; together > 1; --together) {
            if (panels % together != 0) continue;
            if (fits_scratch(unit_bytes(f.dw.in_size, f.dw.out_size, lanes, together * kPanelFloats))) break;
        }
        return together;
    }

    int depthwise_columns(int width) const {
        if (tuning_.depthwise_columns > 0) return std::min(tuning_.depthwise_columns, width);
        return decide_->depthwise_columns(width);
    }

    /// Blocks of rows that are shared out to threads.
    int blocks_of(Size size) const {
        if (tuning_.block_rows > 0) return pieces(size.height, tuning_.block_rows);
        // Seven rows: 28 and 14 rows are shared evenly, and a block of 7 x 7 pixels is not worth dividing.
        return std::max(1, size.height / 7);
    }

    Order order_of(const Unit &f) const {
        const int lanes = f.dw.layout.lanes * std::max(1, f.dw.groups);
        const int64_t rows = unit_bytes(f.dw.in_size, f.dw.out_size, lanes, lanes);
        const int64_t channels = unit_bytes(f.dw.in_size, f.dw.out_size, lanes, kPanelFloats);
        const auto tuned = static_cast<Order>(tuning_.order);
        if ((tuned == Order::kRows && rows > kScratchBytes) ||
            (tuned == Order::kChannels && channels > kScratchBytes) ||
            (tuned == Order::kStrips && f.pw2.parts.size() > 1) || tuned > Order::kStrips) {
            throw std::runtime_error("order " + std::to_string(tuning_.order) + ": not possible for this unit");
        }
        if (tuned != Order::kAuto) return tuned;
        if (fits_scratch(rows)) return Order::kRows;
        return fits_scratch(channels) ? Order::kChannels : Order::kStrips;
    }

    /// The largest strip, in output rows, whose intermediates stay in the scratch memory.
    int strip_rows(Size out, const std::function<int64_t(int)> &bytes) const {
        if (tuning_.strip_rows > 0) {
            const int rows = std::min(tuning_.strip_rows, out.height);
            if (bytes(rows) <= kScratchBytes) return rows;
            throw std::runtime_error("strip_rows " + std::to_string(rows) + ": needs " + std::to_string(bytes(rows)) +
                                     " bytes of scratch memory, " + std::to_string(kScratchBytes) + " are there");
        }
        int strip = out.height;
        while (strip > 1 && bytes(strip) > kScratchBytes / 2) strip = (strip + 1) / 2;
        // Strips that divide the image compute no row twice; but each computes the rows that windows add to it.
        const int even = divisor(out.height, strip);
        return even >= strip / 2 ? even : strip;
    }

    /// The last pointwise convolution in strips of rows, shared out to tasks; the loop over them is `strip`.
    void strips(Pointwise &f, Var c, Var p, int pixels, Var strip) const {
        Pointwise::Part &part = f.parts.at(0);
        Var po("po"), co("co");
        part.out.split(p, strip, p, pixels, TailStrategy::ShiftInwards);
        tile(f, part, c, p, tile_of(f, part.channels, 1), po, co);
        // All groups of a strip, which share its intermediates.
        if (!f.group.empty()) part.out.reorder(f.planes ? f.planes->group : f.group[0], strip);
        // The last strip overlaps the one before it if they do not divide the image: both are one thread's, because a
        // row's last bits may depend on its place in a strip (borders are compiled apart, and LLVM 19 adds in another
        // order there).
        const int count = pieces(f.pixels, pixels);
        int together = 1;
        if (f.pixels % pixels != 0) {
            while (together < count && (count - 1) % together == 0) ++together;
        }
        Var task("task");
        part.out.split(strip, task, strip, together, TailStrategy::GuardWithIf).parallel(task);
    }

    /// The copy of a dense convolution's input.
    void pad(Func copy, int lanes, Var c) const {
        const int vec = std::min(m_.vec, lanes);
        Var ci("ci");
        copy.align_bounds(c, vec).split(c, c, ci, vec).vectorize(ci);
    }

    /// A dense convolution, row by row: a panel of output channels and a tile of a row's pixels at a time. Leaves `co`
    /// (panels of channels) free outside of the rows `y`.
    void convolution(Convolution &f, Convolution::Part &part, Var c, Var x, Var y, Var p, Var co) const;

    /// A dense convolution stored as a whole, parallel over blocks of rows.
    void store(Convolution &f, Var c, Var x, Var y, Var p, int blocks) const;

    /// A step of a block whose readers need all of it, by strips of rows; the steps of `members` are computed for a
    /// strip at a time.
    void whole_step(WholeBlock &f, int number, const std::vector<int> &members) const;
    /// A step that is computed for a strip of another one.
    void strip_step(WholeBlock &f, WholeBlock::Step &step, Func &home, Var strip) const;

    void in_rows(Unit &f) const;
    void in_channels(Unit &f) const;
    void in_strips(Unit &f) const;

    Machine m_;
    Tuning tuning_;
    std::unique_ptr<CpuDecisions> decide_;
};

void Cpu::in_rows(Unit &f) const {
    const int blocks = blocks_of(f.dw.out_size);
    for (Pointwise::Part &part : f.pw1.parts) part.out.compute_root();
    store(f.pw1, f.c, f.p, blocks);
    store(f.dw, f.c, f.x, f.y, f.p, blocks);
    store(f.pw2, f.c, f.p, blocks);
}

void Cpu::in_channels(Unit &f) const {
    // A few vectors of pw1's channels over the whole image stay in L1/L2 and are consumed at once by the same channels
    // of dw; dw's output (all channels) stays in L2 until pw2 has used it.
    for (size_t i = 0; i < f.dw.parts.size(); ++i) {
        Var co("co"), po("po"), tile_co("tile_co"), panel("panel");
        const ChannelPart &channels = f.dw.parts[i].channels;
        const int panels = panels_together(f, channels);
        f.dw.parts[i].out.compute_root();
        depthwise(f.dw, f.dw.parts[i], f.c, f.x, f.y, f.p, co);
        if (panels > 1) f.dw.parts[i].out.split(co, co, panel, panels);
        f.dw.parts[i].out.parallel(co);
        f.pw1.parts[i].out.compute_at(f.dw.parts[i].out, co);
        const Tile t = tile_of_panel(f.pw1, {channels.first, channels.lanes, panels * channels.vec}, f.pw1.pixels);
        tile(f.pw1, f.pw1.parts[i], f.c, f.p, t, po, tile_co);
    }
    store(f.pw2, f.c, f.p, blocks_of(f.dw.out_size));
}

void Cpu::in_strips(Unit &f) const {
    const Size in = f.dw.in_size;
    const Size out = f.dw.out_size;
    const int strip_height = strip_rows(out, [&](int rows) {
        const int in_rows = std::min(in.height, (rows - 1) * f.dw.window.stride.height + f.dw.window.kernel.height);
        return unit_bytes({in_rows, in.width}, {rows, out.width}, f.dw.layout.lanes * std::max(1, f.dw.groups),
                          kPanelFloats);
    });
    Var strip("strip"), co("co"), po("po"), tile_co("tile_co");
    strips(f.pw2, f.c, f.p, strip_height * out.width, strip);
    Depthwise::Part &dw = f.dw.parts.at(0);
    dw.out.compute_at(f.pw2.parts[0].out, strip);
    depthwise(f.dw, dw, f.c, f.x, f.y, f.p, co);
    f.pw1.parts[0].out.compute_at(dw.out, co);
    tile(f.pw1, f.pw1.parts[0], f.c, f.p, tile_of_panel(f.pw1, dw.channels, strip_height * in.width), po, tile_co);
}

void Cpu::apply(Unit &f) const {
    pad_pixels(f.dw, f.c);
    switch (order_of(f)) {
    case Order::kRows:
        return in_rows(f);
    case Order::kChannels:
        return in_channels(f);
    default:
        return in_strips(f);
    }
}

void Cpu::apply(Separable &f) const {
    pad_pixels(f.dw, f.c);
    const Size out = f.dw.out_size;
    const int lanes = f.dw.layout.lanes;
    if (fits_scratch(unit_bytes(out, out, lanes, 0))) {
        const int blocks = blocks_of(out);
        store(f.dw, f.c, f.x, f.y, f.p, blocks);
        return store(f.pw, f.c, f.p, blocks);
    }
    Var strip("strip"), co("co");
    const int rows = strip_rows(out, [&](int height) { return unit_bytes({}, {height, out.width}, lanes, 0); });
    strips(f.pw, f.c, f.p, rows * out.width, strip);
    f.dw.parts[0].out.compute_at(f.pw.parts[0].out, strip);
    depthwise(f.dw, f.dw.parts[0], f.c, f.x, f.y, f.p, co);
}

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
    const int each = networks::kPlane / m_.vec;
    constexpr int kVectors = 4;
    const ChannelPart part{0, f.count * networks::kPlane, networks::kPlane};
    Var cv("cv"), ci("ci"), co("co");
    tile_channels(f.out, part, f.planes, std::max(each, std::min(kVectors, f.count * each)), co, cv, ci);
    f.out.reorder(ci, cv, co).parallel(co);
    const auto [lane, plane, group] = f.planes;
    f.total.compute_at(f.out, co).split(lane, cv, ci, m_.vec).vectorize(ci).unroll(cv).unroll(plane);
    f.total.update()
        .split(lane, cv, ci, m_.vec)
        .reorder(ci, cv, plane, f.pixel)
        .vectorize(ci)
        .unroll(cv)
        .unroll(plane);
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
    if (const int distance = m_.prefetch_bytes / static_cast<int>(sizeof(float)) / panel;
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
        const Size size{(rows - 1) * stride.height + kernel.height, (f.out_size.width - 1) * stride.width + kernel.width};
        return unit_bytes({}, size, f.in_lanes, 0);
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

void Cpu::apply(SingleLayer &f) const {
    if (auto *pw = std::get_if<Pointwise>(&f.layer)) return store(*pw, f.c, f.p, blocks_of(f.out_size));
    if (auto *dw = std::get_if<Depthwise>(&f.layer)) return store(*dw, f.c, f.x, f.y, f.p, blocks_of(dw->out_size));
    auto &conv = std::get<Convolution>(f.layer);
    store(conv, f.c, f.x, f.y, f.p, blocks_of(conv.out_size));
}

void Cpu::apply(ElementWise &f) const {
    Var co("co"), ci("ci"), task("task");
    if (f.pixels) {
        // As many pixels a task as make a fork worth while.
        const int vec = std::min(m_.vec, f.extent);
        f.out.split(f.c, co, ci, vec, TailStrategy::ShiftInwards).vectorize(ci);
        f.out.split(f.p, task, f.p, 196, TailStrategy::GuardWithIf).parallel(task);
        return;
    }
    Var cu("cu");
    constexpr int kUnrolled = 4;
    f.out.split(f.c, co, ci, m_.vec, TailStrategy::ShiftInwards)
        .vectorize(ci)
        .split(co, co, cu, kUnrolled, TailStrategy::ShiftInwards)
        .unroll(cu)
        .split(co, task, co, 256, TailStrategy::GuardWithIf)
        .parallel(task);
}

namespace {

Func &out_of(WholeBlock::Step &step) {
    if (auto *alone = std::get_if<Func>(&step.layer)) return *alone;
    if (auto *pw = std::get_if<Pointwise>(&step.layer)) return pw->parts.front().out;
    if (auto *dw = std::get_if<Depthwise>(&step.layer)) return dw->parts.front().out;
    return std::get<Convolution>(step.layer).parts.front().out;
}

/// The step for whose strips each step is computed: the one that all of its readers are, or are computed for. A step is
/// its own home, computed as a whole, where there is no such one, and where a window reads it, because strips would
/// compute the rows between them twice.
std::vector<int> homes_of(const WholeBlock &f) {
    std::vector<int> home(f.steps.size());
    for (int i = static_cast<int>(f.steps.size()) - 1; i >= 0; --i) {
        const WholeBlock::Step &step = f.steps[i];
        home[i] = i;
        if (step.stored || step.window) continue;
        const int first = home[step.readers.at(0)];
        if (std::ranges::all_of(step.readers, [&](int reader) { return home[reader] == first; })) home[i] = first;
    }
    return home;
}

}  // namespace

void Cpu::strip_step(WholeBlock &f, WholeBlock::Step &step, Func &home, Var strip) const {
    Var co("co"), po("po"), cv("cv"), ci("ci");
    const int vec = vector_of(step.channels);
    out_of(step).compute_at(home, strip).bound(f.c, 0, step.channels.lanes);
    if (auto *pw = std::get_if<Pointwise>(&step.layer)) {
        tile(*pw, pw->parts.front(), f.c, f.p, tile_of(*pw, step.channels, 1), po, co);
    } else if (auto *dw = std::get_if<Depthwise>(&step.layer)) {
        depthwise(*dw, dw->parts.front(), f.c, f.x, f.y, f.p, co);
    } else if (auto *conv = std::get_if<Convolution>(&step.layer)) {
        pad(conv->padded.compute_root(), conv->in_lanes, f.c);
        convolution(*conv, conv->parts.front(), f.c, f.x, f.y, f.p, co);
    } else {
        out_of(step).align_bounds(f.c, vec).split(f.c, cv, ci, vec).reorder(ci, cv, f.p).vectorize(ci);
    }
}

void Cpu::whole_step(WholeBlock &f, int number, const std::vector<int> &members) const {
    WholeBlock::Step &step = f.steps[number];
    Func &out = out_of(step);
    if (!step.stored) out.compute_root().bound(f.c, 0, step.channels.lanes);
    const int blocks = blocks_of(step.size);
    if (auto *dw = std::get_if<Depthwise>(&step.layer)) return store(*dw, f.c, f.x, f.y, f.p, blocks);
    if (auto *conv = std::get_if<Convolution>(&step.layer)) return store(*conv, f.c, f.x, f.y, f.p, blocks);
    auto *pw = std::get_if<Pointwise>(&step.layer);
    if (pw != nullptr && members.empty()) return store(*pw, f.c, f.p, blocks);

    // What is computed for a strip is read at once: it should be found in a first or near second-level cache.
    constexpr int64_t kStripBytes = 128 << 10;
    int64_t row_bytes = 0;
    for (const int member : members) {
        row_bytes += static_cast<int64_t>(sizeof(float)) * f.steps[member].channels.lanes * step.size.width;
    }
    int rows = step.size.height;
    while (rows > 1 && (rows * row_bytes > kStripBytes || rows > 14)) rows = (rows + 1) / 2;
    rows = divisor(step.size.height, rows);
    Var strip("strip"), cv("cv"), ci("ci");
    if (pw != nullptr) {
        strips(*pw, f.c, f.p, rows * step.size.width, strip);
    } else {
        const int vec = vector_of(step.channels);
        out.split(f.p, strip, f.p, rows * step.size.width)
            .split(f.c, cv, ci, vec)
            .reorder(ci, cv, f.p, strip)
            .vectorize(ci)
            .parallel(strip);
    }
    for (const int member : members) strip_step(f, f.steps[member], out, strip);
}

void Cpu::apply(WholeBlock &f) const {
    const std::vector<int> home = homes_of(f);
    for (int step = 0; step < static_cast<int>(f.steps.size()); ++step) {
        if (home[step] != step) continue;
        std::vector<int> members;
        for (int i = 0; i < step; ++i) {
            if (home[i] == step) members.push_back(i);
        }
        whole_step(f, step, members);
    }
}

}  // namespace

std::unique_ptr<Schedule> cpu_schedule(const Machine &machine, const Tuning &tuning,
                                       std::unique_ptr<CpuDecisions> decisions) {
    return std::make_unique<Cpu>(machine, tuning, std::move(decisions));
}

}  // namespace shufflenet::schedules
