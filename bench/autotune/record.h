// The tuned file of a model.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
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

    /// What a search starts from: the file's numbers if it resumes, otherwise none, which are the defaults. `batch`:
    /// those that a device's kernel has of its own for so many images; 0: those without a number of images.
    Candidate numbers(const std::string &kernel, int batch) const;

    /// The device that the times are of; empty: the machine's CPU.
    void set_device(const std::string &name);

    /// `default_times`, `times`: of the hand-made schedule and of these numbers, in turn in one process. `batch` as
    /// above; no numbers: it has none of its own.
    void store(const std::string &kernel, int batch, const std::optional<Candidate> &numbers,
               const Times &default_times, const Times &times);

    /// Microseconds of all calls of the kernels for one image; `which` is "default" or "tuned",
    /// `count` one of the options' counts.
    double total(const std::vector<Kernel> &kernels, const char *which, const std::string &count) const;

    const std::filesystem::path &path() const { return path_; }

  private:
    void check() const;
    /// Drops what a kernel has for `batch`, or for all: 0.
    void forget(const std::string &kernel, int batch);

    std::filesystem::path path_;
    bool resume_;
    nlohmann::json root_ = nlohmann::json::object();
};

}  // namespace shufflenet::bench
