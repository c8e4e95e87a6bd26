// 64-bit ARM with 128-bit vectors (NEON).
//
// A multiply-add takes one lane of a vector for all four products (fmla v.4s, v.4s, v.s[i]), so that one load gets the
// activations of a pixel for four steps of k, where summands lie side by side in fours. What four steps need at once
// must fit into the 32 registers: pixels * vectors accumulators, a vector of activations for each pixel, and one column
// of weights: 5 pixels x 4 vectors, or 7 x 3.
#include <algorithm>

#include "cpu.h"

namespace shufflenet::schedules {

namespace {

using generators::kFour;
using generators::Pointwise;
using Halide::Func;
using Halide::RVar;
using Halide::Var;

/// Vectors of a panel of weights: tiles are as wide, so that their weights are one run in memory.
constexpr int kPanelVectors = 4;

class Arm final : public CpuDecisions {
  public:
    explicit Arm(const Machine &machine) : m_(machine) {}

    Tile tile(const TileProblem &wanted) const override {
        const int vectors = std::min(kPanelVectors, wanted.vectors);
        // In multiply-adds. By llvm-mca it is two to four on in-order cores, none on wide ones: docs/bench/arm.md.
        constexpr double kCostOfLoad = 0.5;
        Tile best{1, vectors};
        double best_cost = 1e9;
        for (int pixels = 1; pixels <= std::min(wanted.most_pixels, wanted.pixels); ++pixels) {
            if (pixels * vectors + pixels + vectors > m_.registers) break;
            const Tile t{pixels, vectors};
            // Two multiply-adds a cycle at latency four want eight accumulators; fewer stall in proportion.
            const double stall = std::max(1.0, 8.0 / (pixels * vectors));
            const double cost = padding(t, wanted.pixels, wanted.vectors) * stall * (1.0 + kCostOfLoad * loads(t));
            if (cost < best_cost - 1e-9) {
                best_cost = cost;
                best = t;
            }
        }
        return best;
    }

    void accumulate(const Pointwise &f, Pointwise::Part &part, int group, Var c, Var p, int vec) const override {
        Var cv("cv"), ci("ci");
        Halide::Stage sum = part.sum.update(group);
        sum.split(c, cv, ci, vec).vectorize(ci).unroll(cv).unroll(p);
        if (f.side_by_side[group] == 1) {
            sum.reorder(ci, cv, p, f.k[group]);
            return;
        }
        RVar ko("ko"), ki("ki");
        sum.split(f.k[group], ko, ki, kFour).reorder(ci, cv, p, ki, ko).unroll(ki);
        Func in = part.in[group];
        const Var k = in.args()[0];
        in.compute_at(part.sum, ko).bound_extent(k, kFour).vectorize(k).unroll(in.args()[1]);
    }

    /// A tile's weights stay in the first-level cache for all pixels of a block, and what fetches them there is a run
    /// in memory that the core's own prefetching follows.
    bool prefetches_weights() const override { return false; }

    /// Nine weights and as many outputs and inputs at a time as the registers then hold; a divisor of the width where
    /// there is one, because only then the borders fold to constants.
    int depthwise_columns(int width) const override {
        constexpr int kMostColumns = 8;
        for (int columns = std::min(width, kMostColumns); columns > 2; --columns) {
            if (width % columns == 0) return columns;
        }
        return std::min(width, 4);
    }

  private:
    /// Loads of vectors per multiply-add of the inner loop.
    static double loads(Tile t) { return (t.vectors + double(t.pixels) / kFour) / (t.pixels * t.vectors); }

    Machine m_;
};

}  // namespace

std::unique_ptr<Schedule> arm_schedule(const Machine &machine, const Tuning &tuning) {
    return cpu_schedule(machine, tuning, std::make_unique<Arm>(machine));
}

}  // namespace shufflenet::schedules
