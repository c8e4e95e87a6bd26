// What is said of a program instead of compiling it.
#pragma once

#include <string>

#include "networks/program.h"

namespace shufflenet::compile {

/// --check
std::string check_text(const networks::Program &program);

/// --list-kernels: a line for each kernel, its key, and the calls that use it.
std::string kernels_text(const networks::Program &program);

}  // namespace shufflenet::compile
