// Numbers of a schedule to machine code that can be loaded.
#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tuning_options.h"
#include "tuning_space.h"

namespace shufflenet::bench {

/// Undisturbed microseconds (5th percentile) by thread count.
using Times = std::map<std::string, double>;

/// A kernel compiled with some numbers.
struct Version {
    Candidate numbers;
    std::string object;   ///< Path of the shared object.
    std::string symbol;   ///< The kernel's function in it.
    std::string failure;  ///< Why there is none.
    Times times;
    /// Geometric mean, over thread counts, of the time over that of the first version in the same trial.
    double relative = 0;
};

/// Compiles versions of kernels in child processes, several at a time, into a folder that is gone at the end.
class TuningCompiler {
  public:
    /// Throws std::runtime_error or std::filesystem::filesystem_error where there is no place for files.
    explicit TuningCompiler(const TuningOptions &options);
    ~TuningCompiler();
    TuningCompiler(const TuningCompiler &) = delete;
    TuningCompiler &operator=(const TuningCompiler &) = delete;

    /// A new search: what was seen before may be compiled again.
    void start_over() { seen_.clear(); }

    /// The versions that compiled, without those whose machine code was seen before.
    std::vector<Version> compile(const Kernel &kernel, const std::vector<Candidate> &candidates);

    /// The version without a schedule, slow and right, and the one with these numbers. Throw std::runtime_error if
    /// they do not compile.
    /// A device's oracle is all of its kernels by the default schedule, which the tests compare with the reference.
    Version oracle(const Kernel &kernel);
    Version version(const Kernel &kernel, const Candidate &numbers);

    /// Path of a program of the same build.
    std::filesystem::path program(const std::string &name) const { return programs_ / name; }

  private:
    /// A kernel's object file, kernel.o in the folder; returns its failure.
    std::string assemble(const std::filesystem::path &folder, const Kernel &kernel, const std::string &symbol,
                         const std::vector<std::string> &more) const;
    /// One shared object of object files; returns its failure.
    std::string link(const std::filesystem::path &object, const std::vector<std::filesystem::path> &parts) const;
    Version compile_one(const Kernel &kernel, const Candidate &numbers, bool oracle);
    Version device_oracle(const Kernel &kernel);
    static Version checked(const Kernel &kernel, Version version);

    const TuningOptions &options_;
    std::filesystem::path folder_, programs_;
    std::set<std::string> seen_;
    std::string device_oracle_;  ///< Path of its shared object, once there is one.
    std::atomic<int> count_{0};
};

}  // namespace shufflenet::bench
