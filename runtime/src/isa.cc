#include "isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <span>

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

int units_of_this_cpu() {
    std::array<char, 12> vendor{};
    unsigned a = 0, b = 0, c = 0, d = 0, signature = 0;
    __cpuid(0, a, b, c, d);
    std::memcpy(vendor.data(), &b, 4);
    std::memcpy(vendor.data() + 4, &d, 4);
    std::memcpy(vendor.data() + 8, &c, 4);
    __get_cpuid(1, &signature, &b, &c, &d);
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) d = 0;
    return fma512_units(cpu_identity({vendor.data(), vendor.size()}, signature, d));
}
#else
int units_of_this_cpu() { return 1; }
#endif

/// Processors whose cores begin one 512-bit multiply-add a cycle, by their models of a family. Intel's model 0x55
/// (Skylake and Cascade Lake servers) is not among them: most have two, some Bronze, Silver and Gold ones have one.
struct OneUnit {
    std::string_view vendor;
    int family, first_model, last_model;
};

constexpr std::array kOneUnit = {
    OneUnit{"AuthenticAMD", 0x19, 0x00, 0xff},  // Zen 4: halves of 256 bits
    OneUnit{"AuthenticAMD", 0x1a, 0x20, 0x2f},  // Zen 5, Strix Point: the same
    OneUnit{"AuthenticAMD", 0x1a, 0x60, 0x6f},  // Zen 5, Krackan Point
    OneUnit{"GenuineIntel", 6, 0x66, 0x66},     // Cannon Lake
    OneUnit{"GenuineIntel", 6, 0x7d, 0x7e},     // Ice Lake, clients
    OneUnit{"GenuineIntel", 6, 0x8c, 0x8d},     // Tiger Lake
    OneUnit{"GenuineIntel", 6, 0xa7, 0xa7},     // Rocket Lake
    OneUnit{"CentaurHauls", 6, 0x47, 0x47},     // CHA: halves of 256 bits
};

constexpr std::string_view kOneUnitIsa = "avx512", kTwoUnitsIsa = "avx512x2";

/// Whether a core leaves these kernels, which it can execute, to others that it executes faster.
bool passes_over(std::string_view isa, int units, std::span<const shufflenet_kernels> all) {
    return isa == kTwoUnitsIsa && units == 1 &&
           std::ranges::any_of(all, [](const shufflenet_kernels &k) { return k.isa == kOneUnitIsa; });
}

}  // namespace

CpuIdentity cpu_identity(std::string_view vendor, unsigned signature, unsigned features) {
    constexpr unsigned kAmxTile = 1U << 24;
    // The extended family counts where the family is 15, the extended model for all families that there are.
    const unsigned base = signature >> 8 & 15;
    const unsigned family = base == 15 ? base + (signature >> 20 & 255) : base;
    const unsigned model = (signature >> 4 & 15) | (signature >> 12 & 240);
    return {vendor, static_cast<int>(family), static_cast<int>(model), (features & kAmxTile) != 0};
}

int fma512_units(const CpuIdentity &cpu) {
    // Only servers' cores have tiles, and all of these have two units; virtual machines may show another model.
    if (cpu.amx) return 2;
    const bool one = std::ranges::any_of(kOneUnit, [&](const OneUnit &kind) {
        return cpu.vendor == kind.vendor && cpu.family == kind.family && cpu.model >= kind.first_model &&
               cpu.model <= kind.last_model;
    });
    return one ? 1 : 2;
}

bool cpu_has(std::string_view isa) {
#if defined(__x86_64__)
    // The builtin includes the check that the operating system saves the wide registers.
    if (isa == "sse41") return __builtin_cpu_supports("sse4.1");
    if (isa == "avx2") {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
               __builtin_cpu_supports("bmi2") && cpu_has_f16c();
    }
    if (isa == kOneUnitIsa || isa == kTwoUnitsIsa) {
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
    return choose_kernels_for(units_of_this_cpu(), descriptor, kernels);
}

Status choose_kernels_for(int fma512_units, const shufflenet_descriptor &descriptor,
                          const shufflenet_kernels **kernels) {
    const char *forced = std::getenv(kIsaVariable);
    if (forced != nullptr && *forced == '\0') forced = nullptr;
    for (int i = descriptor.kernels_count - 1; i >= 0; --i) {
        const shufflenet_kernels &candidate = descriptor.kernels[i];
        if (forced != nullptr && std::string_view(forced) != candidate.isa) continue;
        const std::span all(descriptor.kernels, descriptor.kernels_count);
        if (forced == nullptr && passes_over(candidate.isa, fma512_units, all)) continue;
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

}  // namespace shufflenet::inline SHUFFLENET_ABI
