// Versions of a kernel against each other.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "child_process.h"
#include "tuning_compiler.h"

namespace shufflenet::bench {

/// Runs versions of a kernel in turn in one process (kernel_trial), here or where the runner says.
class TuningTrials {
  public:
    TuningTrials(const TuningOptions &options, const std::filesystem::path &program);

    /// What versions should be fast at from now on: some of the options' counts.
    void judge_by(std::vector<int> counts) { counts_ = std::move(counts); }

    /// Fills in times, in order; versions that fail or compute something else are dropped. The first version is the
    /// one that `relative` refers to; empty if it fails. Throws std::runtime_error if it computes something else.
    std::vector<Version> run(const Kernel &kernel, const Version &oracle, std::vector<Version> versions,
                             double milliseconds);

    /// Why the last trial that failed did.
    const std::string &failure() const { return failure_; }
    /// The device that the last trial ran on, as its driver names it; empty: a CPU.
    const std::string &device() const { return device_; }

  private:
    ChildResult ask(const Kernel &kernel, const Version &oracle, const std::vector<Version> &versions,
                    double milliseconds);

    const TuningOptions &options_;
    std::vector<int> counts_;
    std::vector<std::string> command_;
    std::string failure_, device_;
};

}  // namespace shufflenet::bench
