// The kernels of a program, for several instruction sets.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "files.h"
#include "networks/program.h"
#include "networks/targets.h"
#include "tool.h"
#include "tuned.h"

namespace shufflenet::compile {

struct CompiledKernel {
    std::string symbol;
    int lanes[2] = {0, 0};
    int scratch_bytes = 0;
};

/// In the order of Program::kernels.
struct CompiledTarget {
    const TargetSpec *target = nullptr;
    std::vector<CompiledKernel> kernels;
    int scratch_bytes() const;
};

struct KernelRequest {
    const networks::Program &program;
    std::string name;  ///< Of the model.
    const std::vector<const TargetSpec *> &targets;
    const TunedNumbers &tuned;
    std::string data;  ///< Assembly that goes into the same object.
    Tool cxx;
    int jobs = 1;
    bool reference = false, asan = false;
    /// Called with the steps that are done and all that there are.
    std::function<void(size_t done, size_t all)> progress;
};

/// The object that holds them all.
std::string kernels_object(const std::string &model);

/// Makes it in `staging`. Throws std::runtime_error, naming kernel and target.
std::vector<CompiledTarget> compile_kernels(const KernelRequest &request, const Staging &staging);

}  // namespace shufflenet::compile
