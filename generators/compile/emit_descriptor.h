// The C++ file of a model: its descriptor, and its C interface.
#pragma once

#include <string>

#include "model.h"

namespace shufflenet::compile {

std::string descriptor_text(const Model &model);

}  // namespace shufflenet::compile
