// How a command gives up.
#pragma once

#include <stdexcept>
#include <string>

#include "shufflenet/status.h"

namespace shufflenet::cli {

/// Bad input. main() prints it as one line and exits with 1.
class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// Bad usage, and where to read about it: exits with 2.
class UsageError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// What went wrong; a status may lack a message where there was no memory for one.
inline std::string message_of(const Status &status) {
    if (!status.message().empty()) return status.message();
    return status.code() == Code::kOutOfMemory ? "out of memory" : "internal error";
}

inline void check(const Status &status) {
    if (!status.ok()) throw Error(message_of(status));
}

}  // namespace shufflenet::cli
