// The pieces of a network, each runnable and with what it costs: what bench_unit and the roofline plot measure.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/src/backbone.h"
#include "runtime/src/thread_pool.h"
#include "workload.h"

namespace shufflenet::bench {

/// One piece of a network on one arena.
struct Piece {
    std::string name;  ///< "stem", "stage3", "conv5_pool", "fc", or a unit: "stage3_unit1"
    double flops;      ///< Multiply-adds, times two.
    double bytes;      ///< Input, output and weights once each: what must move at least.
    std::function<bool()> run;
    std::vector<const KernelWeights *> weights;
};

/// A model taken apart. Runs one image; pieces must have run in order once before one of them is timed alone.
class Pieces {
  public:
    /// Throws std::runtime_error where the library reports an error.
    Pieces(const shufflenet_descriptor &descriptor, const Workload &workload, int threads);

    const std::vector<Piece> &stages() const { return stages_; }
    const std::vector<Piece> &units() const { return units_; }
    const char *isa() const { return kernels_->isa; }
    const Backbone &backbone() const { return backbone_; }
    const PackedWeights &weights() const { return weights_; }
    const float *arena() const { return arena_.data(); }
    KernelContext &context() { return context_; }

    /// Takes a piece's weights out of the caches, as the rest of a network does.
    static void evict(const Piece &piece);

  private:
    Piece piece(const std::string &name, const std::vector<std::string> &prefixes, std::function<bool()> run,
                std::vector<const KernelWeights *> weights) const;
    void add_stage(int number);

    const Workload &workload_;
    const shufflenet_kernels *kernels_ = nullptr;
    Backbone backbone_;
    PackedWeights weights_;
    std::vector<Layer> layers_;
    AlignedArray<float> arena_;
    std::vector<AlignedArray<std::byte>> scratch_memory_;
    std::vector<Scratch> scratch_;
    std::vector<float> logits_;
    ThreadPool pool_;
    KernelError error_;
    KernelContext context_{.error = &error_};
    std::unique_ptr<ImageRun> run_;
    std::vector<Piece> stages_, units_;
};

}  // namespace shufflenet::bench
