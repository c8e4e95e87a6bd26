// Versions of a kernel against each other.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bench/common/child_process.h"
#include "compiler.h"
#include "networks/program.h"

namespace shufflenet::bench {

/// Runs versions of a kernel in turn in one process (kernel_trial), here or where the runner says.
class TuningTrials {
  public:
    TuningTrials(const TuningOptions &options, const networks::Graph &graph, const std::filesystem::path &program);

    /// Fills in times, in order; versions that fail or compute something else are dropped. The first version is the
    /// one that `relative` refers to; empty if it fails. Throws std::runtime_error if it computes something else.
    std::vector<Version> run(const TunedKernel &kernel, const Version &oracle, std::vector<Version> versions,
                             double milliseconds);

    /// Why the last trial that failed did.
    const std::string &failure() const { return failure_; }

  private:
    ChildResult ask(const TunedKernel &kernel, const Version &oracle, const std::vector<Version> &versions,
                    double milliseconds);

    const TuningOptions &options_;
    std::string graph_;  ///< As text.
    std::vector<std::string> command_;
    std::string failure_;
};

}  // namespace shufflenet::bench
