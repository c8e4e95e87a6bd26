// What kernels need of Halide's own runtime: the text of errors. Memory, threads and the error handler are in ours.
#pragma once

#include <string>

#include "files.h"
#include "tool.h"

namespace shufflenet::compile {

/// Makes `name`.s in `staging`, for a processor, and of it `name`.o. Throws std::runtime_error.
void make_halide_runtime(const std::string &processor, const Tool &cxx, const std::string &name,
                         const Staging &staging);

/// Writes it to a file, as an object, or, if the file ends in ".s", as assembly. `whole`: all of the runtime, under its
/// own names. Throws std::runtime_error.
void write_halide_runtime(const std::string &processor, const Tool &cxx, bool whole, const std::string &path);

}  // namespace shufflenet::compile
