// The library of a model, for builds that have no rules of their own for it.
#pragma once

#include <string>
#include <vector>

#include "files.h"
#include "options.h"
#include "tool.h"

namespace shufflenet::compile {

/// Compiles the descriptor, and makes libNAME.a of it, of the objects that staging has, of what kernels need of
/// Halide's runtime, and of ours. Throws std::runtime_error.
void make_archive(const Options &options, const std::string &object, const Tool &cxx, Staging *staging);

}  // namespace shufflenet::compile
