// The instruction sets that kernels are compiled for, from the plainest to the best of each architecture.
#pragma once

#include <array>
#include <string_view>

namespace shufflenet {

struct TargetSpec {
    std::string_view name;
    /// Floats in a vector register, and how many registers there are.
    int vec, registers;
    /// Halide's target string. The build reads it from this table, line by line.
    std::string_view halide;
};

// clang-format off
inline constexpr std::array<TargetSpec, 3> kTargets = {{
    {"sse41", 4, 16, "x86-64-linux-sse41"},
    {"avx2", 8, 16, "x86-64-linux-sse41-avx-avx2-f16c-fma"},
    {"avx512", 16, 32, "x86-64-linux-sse41-avx-avx2-f16c-fma-avx512-avx512_skylake"},
}};
// clang-format on

/// What every kernel is compiled with beside its target: Halide's runtime apart, our context as its user context. The
/// build reads it from here.
inline constexpr std::string_view kKernelFeatures = "no_runtime-user_context-no_bounds_query";

/// The target of that name, or nullptr.
constexpr const TargetSpec *find_target(std::string_view name) {
    for (const TargetSpec &target : kTargets) {
        if (target.name == name) return &target;
    }
    return nullptr;
}

}  // namespace shufflenet
