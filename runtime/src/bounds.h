// What files and models may ask for at most.
#pragma once

#include "shufflenet/version.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Classes of a weight file, and labels.
inline constexpr int kMaxClasses = 100'000;

/// Rows and columns of an input, as metadata may give them.
inline constexpr int kMinInput = 32;
inline constexpr int kMaxInput = 1024;

}  // namespace shufflenet::inline SHUFFLENET_ABI
