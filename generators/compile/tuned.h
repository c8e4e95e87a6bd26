// Which tuned numbers a build uses.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "schedules/tuning.h"

namespace shufflenet::compile {

/// The numbers that this program was built with for a target, as JSON; empty: none.
std::string_view built_in_numbers(std::string_view target);

class TunedNumbers {
  public:
    /// `path`: a file, which says what target it is for, a folder with <target>.json of several, or empty. Targets that
    /// it has nothing for have the built-in numbers. Throws std::runtime_error.
    explicit TunedNumbers(const std::string &path);

    /// Throws std::runtime_error, with file and key, on anything malformed.
    schedules::Tuning find(std::string_view target, const std::string &key, int batch = 1) const;
    /// See schedules::tuned_batches().
    std::vector<int> batches(std::string_view device) const;
    /// What was read.
    const std::vector<std::string> &files() const { return files_; }

  private:
    struct Numbers {
        std::string name, json;
    };
    Numbers numbers_for(std::string_view target) const;
    void add(const std::string &target, const std::string &path);

    std::map<std::string, Numbers, std::less<>> given_;
    std::vector<std::string> files_;
};

}  // namespace shufflenet::compile
