// The command line as it is typed.
#pragma once

#include <functional>

namespace shufflenet::cli {

/// What the arguments ask for: to be called, it returns the exit status. Throws UsageError.
std::function<int()> parse_arguments(int argc, char **argv);

}  // namespace shufflenet::cli
