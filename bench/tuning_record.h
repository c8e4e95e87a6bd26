// The tuned file of a model.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tuning_compiler.h"

namespace shufflenet::bench {

/// The best numbers and figures of every kernel; on disk, whole, after each change.
class TuningRecord {
  public:
    /// Reads the file that is there if the options say so; throws std::runtime_error that names it if it is not one.
    explicit TuningRecord(const TuningOptions &options);

    /// Empty: the defaults.
    Candidate numbers(const std::string &kernel) const;

    /// `default_times`, `times`: of the hand-made schedule and of these numbers, in turn in one process.
    void store(const std::string &kernel, const Candidate &numbers, const Times &default_times, const Times &times);

    /// Microseconds of all calls of the kernels for one image; `which` is "default" or "tuned".
    double total(const std::vector<Kernel> &kernels, const char *which, const std::string &threads) const;

    const std::filesystem::path &path() const { return path_; }

  private:
    void check() const;

    std::filesystem::path path_;
    nlohmann::json root_ = nlohmann::json::object();
};

}  // namespace shufflenet::bench
