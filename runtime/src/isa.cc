#include "isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <cstdlib>

#include "abi.h"
#include "message.h"
#include "shufflenet/model.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

#if defined(__x86_64__)
/// Not every compiler's __builtin_cpu_supports() knows it.
bool cpu_has_f16c() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

}  // namespace

bool cpu_has(std::string_view isa) {
#if defined(__x86_64__)
    // The builtin includes the check that the operating system saves the wide registers.
    if (isa == "sse41") return __builtin_cpu_supports("sse4.1");
    if (isa == "avx2") {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
               __builtin_cpu_supports("bmi2") && cpu_has_f16c();
    }
    if (isa == "avx512") {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && cpu_has("avx2");
    }
#elif defined(__aarch64__)
    if (isa == "neon") return (getauxval(AT_HWCAP) & HWCAP_ASIMD) != 0;
#endif
    return false;
}

std::string isa_names(const shufflenet_descriptor &descriptor) {
    std::string names;
    for (int i = 0; i < descriptor.kernels_count; ++i) {
        if (i > 0) names += ",";
        names += descriptor.kernels[i].isa;
    }
    return names;
}

Status choose_kernels(const shufflenet_descriptor &descriptor, const shufflenet_kernels **kernels) {
    const char *forced = std::getenv(kIsaVariable);
    if (forced != nullptr && *forced == '\0') forced = nullptr;
    for (int i = descriptor.kernels_count - 1; i >= 0; --i) {
        const shufflenet_kernels &candidate = descriptor.kernels[i];
        if (forced != nullptr && std::string_view(forced) != candidate.isa) continue;
        if (cpu_has(candidate.isa)) {
            *kernels = &candidate;
            return {};
        }
        if (forced != nullptr) {
            return {Code::kUnsupported,
                    std::string(kIsaVariable) + "=" + forced + ": this CPU does not have " + forced};
        }
    }
    const std::string names = isa_names(descriptor);
    if (forced != nullptr) {
        return {Code::kUnsupported, std::string(kIsaVariable) + "=" + forced + ": expected one of " + names +
                                        ", which " + descriptor.name + " was compiled for"};
    }
    return {Code::kUnsupported, std::string(descriptor.name) +
                                    ": this CPU has none of the instruction sets that it was compiled for (" + names +
                                    ")"};
}

Status chosen_isa(const shufflenet_descriptor &descriptor, std::string *isa) {
    return message::guarded("an error message", [&]() -> Status {
        if (Status status = check_abi(descriptor); !status.ok()) return status;
        const shufflenet_kernels *kernels = nullptr;
        if (Status status = choose_kernels(descriptor, &kernels); !status.ok()) return status;
        *isa = kernels->isa;  // NOLINT(clang-analyzer-core.NullDereference): set where the status is ok.
        return {};
    });
}

}  // namespace shufflenet
