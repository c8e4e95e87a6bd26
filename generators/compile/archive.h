// The library of a model, for builds that have no rules of their own for it.
#pragma once

#include <string>

#include "files.h"
#include "options.h"
#include "tool.h"

namespace shufflenet::compile {

class Archive {
  public:
    /// Looks for what it takes before much is done: the tools, and the runtime. Throws std::runtime_error.
    Archive(const Options &options, Tool cxx, Staging *staging);

    /// Compiles the descriptor, and makes libNAME.a of it, of the kernels' object, of what they need of Halide's
    /// runtime, and of ours.
    void make(const std::string &kernels);

  private:
    const Options &options_;
    Tool cxx_, ar_;
    Staging *staging_;
    std::string runtime_;  ///< What adds it, in ar's language.
};

}  // namespace shufflenet::compile
