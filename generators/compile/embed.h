// Data within a model's library.
#pragma once

#include <string>

#include "files.h"
#include "options.h"
#include "program_data.h"
#include "tool.h"

namespace shufflenet::compile {

struct Embedded {
    bool packed = false, weights = false, metadata = false;
    std::string object;        ///< What holds it, in the staging folder; empty: nothing is embedded.
    std::string weights_file;  ///< Beside the library instead; empty: none.
};

/// The metadata that are embedded: the given ones, or the weight file's, which lie beside it as .json; empty: none.
std::string metadata_file(const Options &options);

/// Makes the object that holds what is embedded, or keeps a copy of the weight file. Throws std::runtime_error.
Embedded embed(const Options &options, const ProgramData &data, const Tool &cxx, Staging *staging);

}  // namespace shufflenet::compile
