// The tuned file of a target.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "compiler.h"

namespace shufflenet::bench {

/// The best numbers of every kernel, by its key, and where and how fast they were measured; on disk, whole, after each
/// change.
class TuningRecord {
  public:
    /// Reads the file that is there, to keep what is not searched this time; throws std::runtime_error that names it if
    /// it is not one, or is for something else.
    explicit TuningRecord(const TuningOptions &options);

    /// What a search starts from: the file's numbers if it resumes, otherwise none, which are the defaults.
    Candidate numbers(const std::string &key) const;

    /// `default_times`, `times`: of the hand-made schedule and of these numbers, in turn in one process.
    void store(const std::string &key, const Candidate &numbers, const Times &default_times, const Times &times);

    /// Microseconds of all calls of the kernels for one image; `which` is "default" or "tuned", `count` a number of
    /// threads.
    double total(const std::vector<TunedKernel> &kernels, const char *which, const std::string &count) const;

    const std::filesystem::path &path() const { return path_; }

  private:
    void check() const;

    std::filesystem::path path_;
    bool resume_;
    std::string machine_;
    nlohmann::json root_ = nlohmann::json::object();
};

}  // namespace shufflenet::bench
