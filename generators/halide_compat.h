// Halide.h, and all that its versions call differently: 14 (Debian 12) to 19 (Debian 13).
#pragma once

#include <Halide.h>

namespace shufflenet::generators {

/// A buffer or scalar that a generator gets as an argument. Public, in Halide's own namespace, since 17. Halide 14 does
/// not define its version, which the preprocessor then takes for 0.
#if HALIDE_VERSION_MAJOR < 17
using Halide::Internal::Parameter;
#else
using Halide::Parameter;
#endif

}  // namespace shufflenet::generators
