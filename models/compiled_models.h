// The models that this program was compiled with.
#pragma once

#include <span>

#include "shufflenet/descriptor.h"

namespace shufflenet {

/// Descriptors of the models compiled in; defined by a generated file.
std::span<const shufflenet_descriptor *const> compiled_models();

/// The one that is used where none is named.
const shufflenet_descriptor &default_model();

}  // namespace shufflenet
