// Data within a model's library.
#pragma once

#include <string>

#include "files.h"
#include "options.h"
#include "program_data.h"

namespace shufflenet::compile {

struct Embedded {
    bool packed = false, weights = false, metadata = false;
    std::string assembly;      ///< What holds it, which reads files of the staging folder; empty: nothing is embedded.
    std::string weights_file;  ///< Beside the library instead; empty: none.
};

/// The metadata that are embedded: the given ones, or the weight file's, which lie beside it as .json; empty: none.
std::string metadata_file(const Options &options);

/// Leaves what is embedded in the staging folder, or keeps a copy of the weight file. Throws std::runtime_error.
Embedded embed(const Options &options, const ProgramData &data, Staging *staging);

}  // namespace shufflenet::compile
