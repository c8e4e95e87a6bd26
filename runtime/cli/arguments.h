// The command line as it is typed.
#pragma once

#include <functional>
#include <stdexcept>

namespace shufflenet::cli {

/// Bad usage, and where to read about it.
class UsageError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// What the arguments ask for: to be called, it returns the exit status. Throws UsageError.
std::function<int()> parse_arguments(int argc, char **argv);

}  // namespace shufflenet::cli
