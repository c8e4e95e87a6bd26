// The C header of a model.
#pragma once

#include <string>

#include "model.h"

namespace shufflenet::compile {

std::string header_text(const Model &model);

}  // namespace shufflenet::compile
