// What kernels need of Halide's own runtime: the text of errors. Memory, threads and the error handler are in ours.
#pragma once

#include <string>

#include "tool.h"

namespace shufflenet::compile {

/// Writes it for a processor, as an object, or, if `path` ends in ".s", as assembly. Throws std::runtime_error.
void write_halide_runtime(const std::string &processor, const Tool &cxx, const std::string &path);

}  // namespace shufflenet::compile
