// Numbers of a schedule to machine code that can be loaded.
#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "networks/targets.h"
#include "tuning_options.h"
#include "tuning_space.h"

namespace shufflenet::bench {

/// Undisturbed microseconds (5th percentile) by thread count.
using Times = std::map<std::string, double>;

/// A kernel compiled with some numbers.
struct Version {
    Candidate numbers;
    std::string object;   ///< Path of the shared object.
    std::string failure;  ///< Why there is none.
    Times times;
    /// Geometric mean, over thread counts, of the time over that of the first version in the same trial.
    double relative = 0;
};

/// Compiles versions of kernels in child processes, several at a time, into a folder that is gone at the end.
class TuningCompiler {
  public:
    /// Throws std::runtime_error or std::filesystem::filesystem_error where there is no place for files.
    TuningCompiler(const TuningOptions &options, const TargetSpec &target);
    ~TuningCompiler();
    TuningCompiler(const TuningCompiler &) = delete;
    TuningCompiler &operator=(const TuningCompiler &) = delete;

    /// The versions that compiled, without those whose machine code was seen before.
    std::vector<Version> compile(const Kernel &kernel, const std::vector<Candidate> &candidates);

    /// The version without a schedule, slow and right, and the one with these numbers. Throw std::runtime_error if
    /// they do not compile.
    Version oracle(const Kernel &kernel);
    Version version(const Kernel &kernel, const Candidate &numbers);

    /// Path of a program of the same build.
    std::filesystem::path program(const std::string &name) const { return programs_ / name; }

  private:
    Version compile_one(const Kernel &kernel, const Candidate &numbers, bool oracle);
    static Version checked(const Kernel &kernel, Version version);

    const TuningOptions &options_;
    const TargetSpec &target_;
    std::filesystem::path folder_, programs_;
    std::set<std::string> seen_;
    std::atomic<int> count_{0};
};

}  // namespace shufflenet::bench
