// The CPU schedules as a class: its loops are in cpu.cpp, units in cpu_units.cpp, other kernels in cpu_kernels.cpp.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "cpu.h"

namespace shufflenet::schedules {

using generators::Convolution;
using generators::Depthwise;
using generators::PlaneVars;
using generators::Pointwise;
using Halide::Func;
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
    void apply(GlobalPool &f) const override;
    void apply(PlaneByPlane &f) const override;
    void apply(Softmax &f) const override;

  private:
    /// Vectors are the machine's, or shorter for a part that is.
    int vector_of(const ChannelPart &part) const { return std::min(part.vec, m_.vec); }
    int vectors_of(const ChannelPart &part) const { return part.lanes / vector_of(part); }

    /// Vectors of a plane of a part that is stored.
    int plane_vectors(const ChannelPart &part) const { return plane_lanes(part) / vector_of(part); }
    static int plane_lanes(const ChannelPart &part) { return std::min(part.lanes, kPlane); }

    /// A tile as tuned, or else as decided.
    Tile choose_tile(Tile tuned, const TileProblem &wanted) const;

    static int pieces(int size, int piece) { return (size + piece - 1) / piece; }

    /// The greatest divisor of `size` that is at most `most`.
    static int divisor(int size, int most) {
        while (size % most != 0) --most;
        return most;
    }

    /// The register tile of one part of a pointwise convolution that is computed in `blocks`.
    Tile tile_of(const Pointwise &f, const ChannelPart &part, int blocks) const;
    /// The tile of one panel of channels: as tuned, if that divides a panel.
    Tile tile_of_panel(const Pointwise &f, const ChannelPart &part, int pixels) const;
    Tile tuned_tile() const { return {tuning_.tile_pixels, tuning_.tile_vectors}; }

    /// The accumulators of one register tile: created where a tile is stored, kept in registers over all of k.
    void accumulate(Pointwise &f, Pointwise::Part &part, Var c, Var p, Var tile_loop) const;

    /// Weights come from memory once a run; the core's own prefetching stops at the end of every page. Those of one
    /// panel are one run. Those of several are not: of such a tile the same step of the next one is asked for, where
    /// SpreadPrefetches makes one line of it.
    void prefetch(Pointwise &f, Pointwise::Part &part, int lanes) const;

    /// The channels of an output in tiles of so many vectors: leaves the loops `ci` (a vector), `cv` (a tile's vectors,
    /// unrolled) and `co` (tiles).
    void tile_channels(Func out, const ChannelPart &part, Var c, int vectors, Var co, Var cv, Var ci) const;
    /// The same of an output in planes: a tile is whole planes, or a share of one, so that its channels are a run.
    void tile_channels(Func out, const ChannelPart &part, const PlaneVars &planes, int vectors, Var co, Var cv,
                       Var ci) const;

    /// Loops over register tiles: channels by `vectors`, pixels by `pixels`; leaves the loops `po` (pixel tiles) and
    /// `co` (channel tiles) outside.
    void tile(Pointwise &f, Pointwise::Part &part, Var c, Var p, Tile t, Var po, Var co) const;

    /// A pointwise convolution stored as a whole. Tasks go through all channels of a block of pixels before the next
    /// block, so that a thread's share of the tasks is a share of the pixels.
    void store(Pointwise &f, Var c, Var p, int blocks) const;

    /// Blocks of a part: a second one has too few channels to be divided by them.
    static int runs_of(const ChannelPart &part, int blocks) { return part.first == 0 ? blocks : std::max(blocks, 2); }

    /// Channel tiles of one task: enough tasks for a few threads, but no smaller ones.
    static int group_size(int tiles, int blocks) { return pieces(tiles, blocks == 1 ? tiles : pieces(8, blocks)); }

    /// As many tiles as wanted for a task, or more where the last tile overlaps the one before it: both are one
    /// thread's then, because a value's last bits may depend on its place in a tile.
    static int tiles_of_task(int tiles, int wanted, bool overlap) {
        while (overlap && wanted < tiles && (tiles - 1) % wanted == 0) ++wanted;
        return wanted;
    }

    /// The pixels `p` as columns `x` of rows `y`, a panel of channels at a time; `co` counts the panels.
    template <typename Layer>
    void row_by_row(const Layer &f, const typename Layer::Part &part, Var c, Var x, Var y, Var p, Var co) const;

    /// A depthwise convolution, row by row: neighbouring outputs share their loads. A row goes through a buffer in
    /// L1 because only with columns of its own do its borders fold to constants, and only without them does the
    /// pointwise convolution find its pixels at constant distances. Leaves `co` (panels of channels) free outside
    /// of the rows `y`.
    void depthwise(const Depthwise &f, Depthwise::Part &part, Var c, Var x, Var y, Var p, Var co) const;

    /// Between pixels whose distance is a multiple of 2 KiB, a line: otherwise all pixels of a tile would compete for
    /// the same few places of the first-level cache.
    static void pad_pixels(Depthwise &f, Var c);

    /// Depthwise convolutions stored as a whole, parallel over blocks of rows and channels.
    void store(Depthwise &f, Var c, Var x, Var y, Var p, int blocks) const;

    /// Panels of pw1's channels that are computed together: as many as a register tile has, if they divide the part,
    /// the scratch memory has room, and there are two tasks at least.
    int panels_together(const Unit &f, const ChannelPart &part) const;

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

    Order order_of(const Unit &f) const;

    /// The largest strip, in output rows, whose intermediates stay in the scratch memory.
    int strip_rows(Size out, const std::function<int64_t(int)> &bytes) const;

    /// The last pointwise convolution in strips of rows, shared out to tasks; the loop over them is `strip`.
    void strips(Pointwise &f, Var c, Var p, int pixels, Var strip) const;

    /// The copy of a dense convolution's input.
    void pad(Func copy, int lanes, Var c) const;

    /// A dense convolution, row by row: a panel of output channels and a tile of a row's pixels at a time. Leaves `co`
    /// (panels of channels) free outside of the rows `y`.
    void convolution(Convolution &f, Convolution::Part &part, Var c, Var x, Var y, Var p, Var co) const;

    /// A dense convolution stored as a whole, parallel over blocks of rows.
    void store(Convolution &f, Var c, Var x, Var y, Var p, int blocks) const;

    void in_rows(Unit &f) const;
    void in_channels(Unit &f) const;
    void in_strips(Unit &f) const;

    Machine m_;
    Tuning tuning_;
    std::unique_ptr<CpuDecisions> decide_;
};

}  // namespace shufflenet::schedules
