// Weights, of a file or of an imported network, checked against a program.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "options.h"
#include "program_data.h"

namespace shufflenet::compile {

/// Throws std::runtime_error, with the file and all that is wrong, where it does not fit. The file decides the number
/// of classes, which is returned; 0: there are none to decide.
int check_weights(const Options &options, const ProgramData &data);

/// The packed weights, as the program's kernels read them.
std::vector<std::byte> packed_weights(const Options &options, const ProgramData &data);

/// The weights in half precision, as a weight file.
std::vector<std::byte> half_weights(const Options &options, const ProgramData &data);

}  // namespace shufflenet::compile
