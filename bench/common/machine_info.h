// What machine this is, for figures that are kept.
#pragma once

#include <string>

namespace shufflenet::bench {

/// The processor's own name and the number of processors that the system shows, e.g. "AMD EPYC, 2 processors".
std::string machine_name();

}  // namespace shufflenet::bench
