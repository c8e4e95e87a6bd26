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
    /// Reads the file that is there, to keep what is not searched this time; throws std::runtime_error that names it if
    /// it is not one, or is for something else.
    explicit TuningRecord(const TuningOptions &options);

    /// What a search starts from: the file's numbers if it resumes, otherwise none, which are the defaults.
    Candidate numbers(const std::string &kernel) const;

    /// The device that the times are of; empty: the machine's CPU.
    void set_device(const std::string &name);

    /// `default_times`, `times`: of the hand-made schedule and of these numbers, in turn in one process.
    void store(const std::string &kernel, const Candidate &numbers, const Times &default_times, const Times &times);

    /// Microseconds of all calls of the kernels for one image; `which` is "default" or "tuned",
    /// `count` one of the options' counts.
    double total(const std::vector<Kernel> &kernels, const char *which, const std::string &count) const;

    const std::filesystem::path &path() const { return path_; }

  private:
    void check() const;

    std::filesystem::path path_;
    bool resume_;
    nlohmann::json root_ = nlohmann::json::object();
};

}  // namespace shufflenet::bench
