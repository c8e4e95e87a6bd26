// CPU schedules: the loops are common (cpu.cpp); what a kind of processor decides for itself is an object of its own
// (x86.cpp, arm.cpp).
#pragma once

#include "schedules.h"

namespace shufflenet::schedules {

/// A register tile: pixels x vectors.
struct Tile {
    int pixels = 0, vectors = 0;
};

/// What a tile is for: a matrix of pixels x vectors, computed in blocks of pixels.
struct TileProblem {
    int pixels, vectors;
    int blocks = 1;
    int most_pixels = 28;
    /// Vectors of a plane, where the matrix is stored in planes.
    int plane_vectors = 1;

    /// Whether a tile so wide is whole planes, or a share of one.
    bool fits_planes(int tile_vectors) const {
        return tile_vectors % plane_vectors == 0 || plane_vectors % tile_vectors == 0;
    }
};

/// Work that a tile size computes, over the work that is needed: 1 when it divides both extents.
double padding(Tile t, int pixels, int vectors);

/// The most work that a block gets when `tiles` are shared out to `blocks`, over the mean.
double imbalance(int tiles, int blocks);

/// What a kind of processor decides.
class CpuDecisions {
  public:
    virtual ~CpuDecisions() = default;

    /// The register tile, where no tuned numbers say it.
    virtual Tile tile(const TileProblem &wanted) const = 0;

    /// The loops of one group of summands over the accumulators of a tile, which are unrolled into registers; `vec` is
    /// the part's vector.
    virtual void accumulate(const generators::Pointwise &f, generators::Pointwise::Part &part, int group, Halide::Var c,
                            Halide::Var p, int vec) const = 0;

    /// Whether a pointwise convolution asks for weights ahead.
    virtual bool prefetches_weights() const = 0;

    /// Outputs of a row that a depthwise convolution computes together.
    virtual int depthwise_columns(int width) const = 0;
};

std::unique_ptr<Schedule> cpu_schedule(const Machine &machine, const Tuning &tuning,
                                       std::unique_ptr<CpuDecisions> decisions);

}  // namespace shufflenet::schedules
