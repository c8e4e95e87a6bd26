#include "kernels.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "assembly.h"
#include "generators/build.h"
#include "jobs.h"

namespace shufflenet::compile {

namespace {

/// A kernel's key as part of a C identifier; such parts must differ.
std::vector<std::string> identifiers(const networks::Program &program) {
    std::vector<std::string> names;
    std::set<std::string> taken;
    for (const networks::Kernel &kernel : program.kernels) {
        std::string name = key(kernel);
        std::ranges::replace_if(
            name, [](unsigned char ch) { return std::isalnum(ch) == 0; }, '_');
        while (!taken.insert(name).second) name += "_";
        names.push_back(std::move(name));
    }
    return names;
}

Halide::Target halide_target(const TargetSpec &target, bool asan) {
    std::string text = std::string(target.halide) + "-" + std::string(kKernelFeatures);
    if (asan) text += "-asan";
    return Halide::Target(text);
}

/// In a process of its own: leaves `<symbol>.s` in the folder.
std::string build(const KernelRequest &request, size_t number, const TargetSpec &target, const std::string &symbol,
                  const std::string &path) {
    const networks::Kernel &kernel = request.program.kernels[number];
    const schedules::Tuning tuning = request.tuned.find(target.name, key(kernel));
    const generators::BuiltKernel built = generators::build_kernel(
        kernel, halide_target(target, request.asan), target.fma_units, tuning, request.reference, symbol, path);
    const Module module{symbol, std::string(target.name) + std::to_string(number),
                        [&](std::string_view name) { return name == symbol; }};
    write_text(path, rewrite(read_text(path), processor_named(target.processor), module));
    std::ostringstream result;
    result << built.lanes[0] << ' ' << built.lanes[1] << ' ' << built.scratch_bytes;
    return result.str();
}

CompiledKernel parse_result(const std::string &symbol, const std::string &text) {
    CompiledKernel kernel{symbol};
    std::istringstream numbers(text);
    if (!(numbers >> kernel.lanes[0] >> kernel.lanes[1] >> kernel.scratch_bytes)) {
        throw std::runtime_error(symbol + ": unexpected result: " + text);
    }
    return kernel;
}

/// One assembly file for the kernels of all targets, and its object.
void assemble(const KernelRequest &request, const std::vector<CompiledTarget> &compiled, const Staging &staging) {
    const std::string source = request.name + "_kernels.s";
    std::string text;
    for (const CompiledTarget &target : compiled) {
        for (const CompiledKernel &kernel : target.kernels) text += read_text(staging.path(kernel.symbol + ".s"));
    }
    write_text(staging.path(source), text.append(request.data).append(end_of_file()));
    run_tool(request.cxx, {"-c", source, "-o", kernels_object(request.name)}, staging.folder());
}

}  // namespace

int CompiledTarget::scratch_bytes() const {
    int most = 0;
    for (const CompiledKernel &kernel : kernels) most = std::max(most, kernel.scratch_bytes);
    return most;
}

std::string kernels_object(const std::string &model) { return model + "_kernels.o"; }

std::vector<CompiledTarget> compile_kernels(const KernelRequest &request, const Staging &staging) {
    const std::vector<std::string> names = identifiers(request.program);
    std::vector<Job> jobs;
    std::vector<CompiledTarget> compiled;
    for (const TargetSpec *target : request.targets) {
        compiled.push_back({target, {}});
        for (size_t k = 0; k < names.size(); ++k) {
            const std::string symbol = request.name + "_" + std::string(target->name) + "_" + names[k];
            const std::string path = staging.path(symbol + ".s");
            jobs.push_back({"kernel " + key(request.program.kernels[k]) + " for " + std::string(target->name),
                            [&request, k, target, symbol, path] { return build(request, k, *target, symbol, path); }});
            compiled.back().kernels.push_back({symbol});
        }
    }
    const std::vector<std::string> results = run_jobs(jobs, request.jobs, [&](size_t done) {
        if (request.progress) request.progress(done, jobs.size());
    });
    for (size_t t = 0; t < compiled.size(); ++t) {
        for (size_t k = 0; k < names.size(); ++k) {
            CompiledKernel &kernel = compiled[t].kernels[k];
            kernel = parse_result(kernel.symbol, results[t * names.size() + k]);
        }
    }
    assemble(request, compiled, staging);
    return compiled;
}

}  // namespace shufflenet::compile
