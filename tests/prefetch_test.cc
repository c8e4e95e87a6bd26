// What schedules ask for ahead of time, in the code that they come to.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "generators/pipeline.h"
#include "networks/catalog.h"
#include "networks/program.h"
#include "networks/targets.h"

namespace shufflenet {
namespace {

using networks::Kernel;
using networks::KernelKind;

/// A kernel's lowered code.
std::string lowered(const Kernel &kernel, const TargetSpec &spec) {
    const Halide::Target target(std::string(spec.halide) + "-" + std::string(kKernelFeatures));
    generators::KernelPipeline built = generators::make_pipeline(kernel, target, spec.fma_units, {}, false);
    std::string folder = (std::filesystem::temp_directory_path() / "lowered.XXXXXX").string();
    EXPECT_NE(mkdtemp(folder.data()), nullptr);
    const std::string path = folder + "/kernel.stmt";
    built.pipeline.compile_to_lowered_stmt(path, built.arguments(), Halide::Text, target);
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    std::filesystem::remove_all(folder);
    return text.str();
}

TEST(Prefetch, AStepAsksForOneLineOfWeights) {
    // At this size conv5 has one tile of pixels, which has no loop.
    const networks::Program program =
        make_program(networks::published_network("shufflenet_v2_x0_5", {64, 48}, 10).value());
    const std::regex loop_over_lines(R"(for \([^\n]*\n\s*\(float32\)prefetch\([^\n]*\n\s*\})");
    for (const TargetSpec &spec : kTargets) {
        for (const KernelKind kind : {KernelKind::kUnit, KernelKind::kPooledPointwise}) {
            const auto kernel = std::ranges::find_if(
                program.kernels, [kind](const Kernel &k) { return k.kind == kind && (k.expands() || k.middle == 0); });
            ASSERT_NE(kernel, program.kernels.end());
            SCOPED_TRACE(std::string(spec.name) + ", " + key(*kernel));
            const std::string text = lowered(*kernel, spec);
            ASSERT_GT(text.size(), 1000U);
            if (spec.name.starts_with("avx512")) {
                EXPECT_NE(text.find("prefetch("), std::string::npos);
            }
            EXPECT_FALSE(std::regex_search(text, loop_over_lines)) << "a loop over lines";
        }
    }
}

}  // namespace
}  // namespace shufflenet
