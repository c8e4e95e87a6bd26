// What networks and files may ask for at most.
#pragma once

#include "shufflenet/version.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Classes of a network or a weight file, and labels.
inline constexpr int kMaxClasses = 100'000;

/// Rows and columns of an input.
inline constexpr int kMinInput = 32;
inline constexpr int kMaxInput = 1024;

}  // namespace shufflenet::inline SHUFFLENET_ABI
