// Programs of experiments, run by generated kernels call by call.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "bench/common/call_runner.h"
#include "experiments.h"
#include "generators/compile/program_data.h"

namespace shufflenet::bench {

/// A kernel that guidelines_compile made.
struct GuidelineKernel {
    std::string_view key, isa;
    shufflenet_kernel kernel;
    int scratch_bytes;
};

/// All of them; generated.
std::span<const GuidelineKernel> guideline_kernels();

/// A program with random weights, checked against the naive reference and ready to run.
class ProgramRunner {
  public:
    /// Calls before `first` are run once, and not timed. Throws std::runtime_error where kernels are missing, or
    /// compute something else.
    ProgramRunner(networks::Program program, std::string_view isa, int first, int threads);
    ProgramRunner(const ProgramRunner &) = delete;
    ProgramRunner &operator=(const ProgramRunner &) = delete;

    /// Seconds of a run.
    double run();

    /// Seconds of a run in which every call took as little as in its fastest run so far: on a machine whose processor
    /// others use too, hardly any run is undisturbed, but for every call some run is. In all, and for each of
    /// kTimeParts, of which a call's is its last layer's.
    double fastest() const;
    std::array<double, kTimeParts.size()> fastest_parts() const;

    /// Calls that are timed.
    size_t calls() const { return fastest_.size() - size_t(first_); }
    /// The worst error of the output, as a share of its range.
    double error() const { return calls_->error(); }
    /// Bytes that the calls move: what kernels read and write, padding included, and their weights, once each.
    int64_t bytes() const;

  private:
    int first_;
    compile::ProgramData data_;
    RandomNetwork network_;
    std::vector<shufflenet_kernel> table_;
    shufflenet_kernels kernels_{};
    std::string isa_;
    std::unique_ptr<ProgramCalls> calls_;
    std::vector<double> fastest_;  ///< Of each call.
};

}  // namespace shufflenet::bench
