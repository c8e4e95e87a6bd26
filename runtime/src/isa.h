// Which instruction sets this CPU has, and which one to use.
#pragma once

#include <string>
#include <string_view>

#include "shufflenet/descriptor.h"
#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Environment variable that forces an instruction set.
inline constexpr const char *kIsaVariable = "SHUFFLENET_ISA";

/// Whether CPU and operating system can execute code for `isa`.
bool cpu_has(std::string_view isa);

/// Names of the compiled-in instruction sets, comma separated, best last.
std::string isa_names(const shufflenet_descriptor &descriptor);

/// The best that both have, or what SHUFFLENET_ISA says; an error says what is missing.
Status choose_kernels(const shufflenet_descriptor &descriptor, const shufflenet_kernels **kernels);

}  // namespace shufflenet
