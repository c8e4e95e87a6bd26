// The instruction sets that kernels are compiled for, from the plainest to the best of each architecture.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "panels.h"

namespace shufflenet::inline SHUFFLENET_ABI {

struct TargetSpec {
    std::string_view name;
    /// The processor that it is for, as CMake names it.
    std::string_view processor;
    /// Floats in a vector register, and how many registers there are.
    int vec, registers;
    /// Halide's target string. The build reads this table line by line.
    std::string_view halide;
    /// Vector multiply-adds that a core of the kind begins in a cycle. Two of them want all loads that a core can do,
    /// so that loops with a load for each are slower than they need be; one a cycle leaves loads to spare.
    int fma_units = 2;

    constexpr VectorUnit vectors() const { return vector_unit(vec, fma_units); }
};

/// The processor that this program is compiled for; empty: none of the table's.
#if defined(__x86_64__)
inline constexpr std::string_view kProcessor = "x86_64";
#elif defined(__aarch64__)
inline constexpr std::string_view kProcessor = "aarch64";
#else
inline constexpr std::string_view kProcessor = "";
#endif

// clang-format off
inline constexpr std::array<TargetSpec, 5> kTargets = {{
    {"sse41", "x86_64", 4, 16, "x86-64-linux-sse41"},
    {"avx2", "x86_64", 8, 16, "x86-64-linux-sse41-avx-avx2-f16c-fma"},
    {"avx512", "x86_64", 16, 32, "x86-64-linux-sse41-avx-avx2-f16c-fma-avx512-avx512_skylake", 1},
    {"avx512x2", "x86_64", 16, 32, "x86-64-linux-sse41-avx-avx2-f16c-fma-avx512-avx512_skylake", 2},
    {"neon", "aarch64", 4, 32, "arm-64-linux"},
}};
// clang-format on

/// What every kernel is compiled with beside its target: Halide's runtime apart, our context as its user context. The
/// build reads it from here.
inline constexpr std::string_view kKernelFeatures = "no_runtime-user_context-no_bounds_query";

/// Names of the targets, for messages.
inline std::string target_names() {
    std::string names;
    for (const TargetSpec &target : kTargets) (names += names.empty() ? "" : ", ") += target.name;
    return names;
}

/// The target of that name, or nullptr.
constexpr const TargetSpec *find_target(std::string_view name) {
    for (const TargetSpec &target : kTargets) {
        if (target.name == name) return &target;
    }
    return nullptr;
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
