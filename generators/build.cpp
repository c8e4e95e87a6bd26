#include "build.h"

#include <stdexcept>

#include "pipeline.h"

namespace shufflenet::generators {

BuiltKernel build_kernel(const networks::Kernel &kernel, const Halide::Target &target, int fma_units,
                         const schedules::Tuning &tuning, bool reference, const std::string &symbol,
                         const std::string &path) {
    KernelPipeline built = make_pipeline(kernel, target, fma_units, tuning, reference);
    built.pipeline.compile_to_assembly(path, built.arguments(), symbol, target);
    const int64_t scratch = built.scratch->bytes();
    // Without a schedule all of a tensor is there at once, however large.
    if (scratch > kScratchBytes && !reference) {
        throw std::runtime_error(networks::key(kernel) + ": needs " + std::to_string(scratch) +
                                 " bytes of scratch memory, " + std::to_string(kScratchBytes) + " are there");
    }
    const std::vector<ChannelPart> &parts = built.parts;
    return {{parts[0].lanes, parts.size() > 1 ? parts[1].lanes : 0}, static_cast<int>(scratch)};
}

}  // namespace shufflenet::generators
