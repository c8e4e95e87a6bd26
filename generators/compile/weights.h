// A weight file, checked against a program.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "program_data.h"

namespace shufflenet::compile {

/// Throws std::runtime_error, with the file and all that is wrong, where it does not fit. The file decides the number
/// of classes, which is returned; 0: there are none to decide.
int check_weights(const std::string &path, const ProgramData &data);

/// The packed weights, as the program's kernels read them.
std::vector<std::byte> packed_weights(const std::string &path, const ProgramData &data);

/// The weights in half precision, as a weight file.
std::vector<std::byte> half_weights(const std::string &path, const ProgramData &data);

}  // namespace shufflenet::compile
