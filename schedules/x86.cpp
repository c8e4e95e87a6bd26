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
        const auto [pixels, vectors, blocks, limit] = wanted;
        // AVX-512 broadcasts within the multiply-add: a tile of one vector is then no slower than a wider one, and its
        // weights are one run in memory, which prefetches well.
        const int most_vectors = m_.broadcast_operand ? 1 : std::min(4, vectors);
        const int most_pixels = std::min(limit, pixels);
        // Beyond this many multiply-adds a load is never what bounds the loop.
        constexpr double kFewestLoads = 1.0 / 14;
        // Blocks only matter to several threads, tiles to every one.
        constexpr double kShareOfBlocks = 0.25;
        Tile best{1, 1};
        double best_cost = 1e9;
        for (int v = 1; v <= most_vectors; ++v) {
            for (int p = 1; p <= most_pixels; ++p) {
                // Accumulators, one column of weights, one broadcast; without FMA a product needs a register too.
                const int needed = p * v + v + (m_.broadcast_operand ? 0 : 1) + (m_.fma ? 0 : 1);
                if (needed > m_.registers) continue;
                // Two multiply-adds a cycle at latency four want eight accumulators; fewer stall in proportion.
                const double stall = std::max(1.0, 8.0 / (p * v));
                // Half a cycle for each multiply-add, half for each load beyond what overlaps.
                const double uneven = imbalance((pixels + p - 1) / p, blocks) - 1.0;
                const double cost = padding({p, v}, pixels, vectors) * stall * (1.0 + kShareOfBlocks * uneven) *
                                    (1.0 + 0.25 * std::max(kFewestLoads, loads({p, v})));
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
    /// Loads per multiply-add of the inner loop; a broadcast folded into the multiply-add is not a separate load.
    double loads(Tile t) const {
        const int broadcasts = m_.broadcast_operand ? 0 : t.pixels;
        return double(t.vectors + broadcasts) / (t.pixels * t.vectors);
    }

    Machine m_;
};

}  // namespace

std::unique_ptr<Schedule> x86_schedule(const Machine &machine, const Tuning &tuning) {
    return cpu_schedule(machine, tuning, std::make_unique<X86>(machine));
}

}  // namespace shufflenet::schedules
