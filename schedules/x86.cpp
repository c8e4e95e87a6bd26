// x86: SSE4.1, AVX2 and AVX-512, by what the Machine says.
//
// The register tile is the largest that leaves registers for one column of weights and one broadcast, so that loads
// stay below the two a cycle that the core can do.
#include <algorithm>

#include "cpu.h"

namespace shufflenet::schedules {

namespace {

using generators::Pointwise;
using Halide::Var;

class X86 final : public CpuDecisions {
  public:
    explicit X86(const Machine &machine) : m_(machine) {}

    Tile tile(const TileProblem &wanted) const override {
        const int pixels = wanted.pixels, vectors = wanted.vectors, blocks = wanted.blocks;
        const int most_vectors = std::min(widest_tile(), vectors);
        const int most_pixels = std::min(wanted.most_pixels, pixels);
        // Blocks only matter to several threads, tiles to every one.
        constexpr double kShareOfBlocks = 0.25;
        Tile best{1, 1};
        double best_cost = 1e9;
        for (int v = 1; v <= most_vectors; ++v) {
            if (!wanted.fits_planes(v)) continue;
            for (int p = 1; p <= most_pixels; ++p) {
                if (registers_of({p, v}) > m_.registers) continue;
                // A single block is shared out by tiles of channels, to two threads at least.
                const double uneven = (m_.loads_bound() && blocks == 1 ? imbalance((vectors + v - 1) / v, 2)
                                                                       : imbalance((pixels + p - 1) / p, blocks)) -
                                      1.0;
                const double cost =
                    padding({p, v}, pixels, vectors) * (1.0 + kShareOfBlocks * uneven) * step_cost({p, v});
                if (cost < best_cost - 1e-9) {
                    best_cost = cost;
                    best = {p, v};
                }
            }
        }
        return best;
    }

    void accumulate(const Pointwise &f, Pointwise::Part &part, int group, Var c, Var p, int vec) const override {
        Var cv("cv"), ci("ci");
        part.sum.update(group).split(c, cv, ci, vec).reorder(ci, cv, p, f.k[group]).vectorize(ci).unroll(cv).unroll(p);
    }

    bool prefetches_weights() const override { return true; }

    /// The largest divisor of the width that the registers allow, because only then the borders fold to constants; 4
    /// for widths without a useful divisor.
    int depthwise_columns(int width) const override {
        for (int columns = std::min(width, m_.registers / 2); columns > 2; --columns) {
            if (width % columns == 0) return columns;
        }
        return std::min(width, 4);
    }

  private:
    /// A broadcast that several vectors use stays in a register. Where loads do not bound, a tile of one vector is as
    /// fast, and its weights are one run in memory, which prefetches well.
    int widest_tile() const {
        constexpr int kNoBroadcastOperand = 4, kLoadsBound = 7;
        if (!m_.broadcast_operand) return kNoBroadcastOperand;
        return m_.loads_bound() ? kLoadsBound : 1;
    }

    /// Accumulators, one column of weights, one broadcast unless it is an operand; without FMA a product needs one too.
    int registers_of(Tile t) const {
        const bool operand = m_.broadcast_operand && t.vectors == 1;
        return t.pixels * t.vectors + t.vectors + (operand ? 0 : 1) + (m_.fma ? 0 : 1);
    }

    /// What a step of k costs, in its multiply-adds.
    double step_cost(Tile t) const {
        const double loads = double(t.vectors + t.pixels) / (t.pixels * t.vectors);
        if (m_.loads_bound()) {
            // More accumulators than hide the latency of a multiply-add, because a broadcast's is added to it. Where
            // loads are as many as multiply-adds, their addresses, from a table, are late (measured: 75 % of the peak,
            // where the number of loads would allow 93 %). A wide tile's weights do not fit into a first-level cache.
            constexpr double kAccumulators = 20, kLateAddresses = 1.15, kActivation = 0.05, kWeights = 0.2;
            return std::max(1.0, kAccumulators / (t.pixels * t.vectors)) *
                   (std::max(1.0, kLateAddresses * loads) + kActivation / t.vectors + kWeights / t.pixels);
        }
        // Two multiply-adds a cycle at latency four want eight accumulators; fewer stall in proportion.
        constexpr double kAccumulators = 8;
        // Beyond this many multiply-adds a load is never what bounds the loop; a broadcast operand is not one.
        constexpr double kFewestLoads = 1.0 / 14;
        const double separate = m_.broadcast_operand ? 1.0 / t.pixels : loads;
        // Half a cycle for each multiply-add, half for each load beyond what overlaps.
        return std::max(1.0, kAccumulators / (t.pixels * t.vectors)) * (1.0 + 0.25 * std::max(kFewestLoads, separate));
    }

    Machine m_;
};

}  // namespace

std::unique_ptr<Schedule> x86_schedule(const Machine &machine, const Tuning &tuning) {
    return cpu_schedule(machine, tuning, std::make_unique<X86>(machine));
}

}  // namespace shufflenet::schedules
