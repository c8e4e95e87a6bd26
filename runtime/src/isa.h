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

/// What CPUID says of an x86 processor.
struct CpuIdentity {
    std::string_view vendor;  ///< "GenuineIntel", "AuthenticAMD"
    int family, model;        ///< With the extended bits.
    bool amx;                 ///< Has matrix tiles.
};

/// From CPUID: `signature` is EAX of leaf 1, `features` EDX of leaf 7.
CpuIdentity cpu_identity(std::string_view vendor, unsigned signature, unsigned features);

/// 512-bit multiply-adds that a core of this processor begins in a cycle, 1 or 2.
int fma512_units(const CpuIdentity &cpu);

/// Names of the compiled-in instruction sets, comma separated, best last.
std::string isa_names(const shufflenet_descriptor &descriptor);

/// The best that both have, or what SHUFFLENET_ISA says; an error says what is missing. Of the two kinds of AVX-512,
/// where a model has both, the one for a core with so many multiply-adds a cycle.
Status choose_kernels(const shufflenet_descriptor &descriptor, const shufflenet_kernels **kernels);
/// The same for a core that begins `fma512_units` 512-bit multiply-adds in a cycle.
Status choose_kernels_for(int fma512_units, const shufflenet_descriptor &descriptor,
                          const shufflenet_kernels **kernels);

}  // namespace shufflenet::inline SHUFFLENET_ABI
