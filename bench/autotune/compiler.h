// Numbers of a schedule to machine code that can be loaded.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "options.h"
#include "space.h"

namespace shufflenet::bench {

/// Undisturbed microseconds (5th percentile) by thread count.
using Times = std::map<std::string, double>;

/// A kernel compiled with some numbers.
struct Version {
    Candidate numbers{};
    std::string object{};   ///< Path of the shared object.
    int lanes[2] = {0, 0};  ///< See BuiltKernel.
    std::string failure{};  ///< Why there is none.
    Times times{};
    /// Geometric mean, over thread counts, of the time over that of the first version in the same trial.
    double relative = 0;
};

/// The kernel's function in a version's shared object. All have the same name, so that equal schedules are equal files.
inline constexpr const char *kKernelSymbol = "kernel";

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
    std::vector<Version> compile(const TunedKernel &kernel, const std::vector<Candidate> &candidates);

    /// The version without a schedule, slow and right, and the one with these numbers. Throw std::runtime_error if
    /// they do not compile.
    Version oracle(const TunedKernel &kernel);
    Version version(const TunedKernel &kernel, const Candidate &numbers);

    /// Path of a program of the same build.
    std::filesystem::path program(const std::string &name) const { return programs_ / name; }

  private:
    struct Request {
        const TunedKernel &kernel;
        Candidate numbers;
        bool oracle;
    };
    std::vector<Version> compile_all(const std::vector<Request> &requests);
    Version compile_one(const Request &request);

    const TuningOptions &options_;
    std::filesystem::path folder_, programs_;
    std::set<std::string> seen_;
    int count_ = 0;
};

}  // namespace shufflenet::bench
