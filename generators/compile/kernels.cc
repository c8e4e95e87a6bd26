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
    const Module module{symbol, "k" + std::to_string(number), [&](std::string_view name) { return name == symbol; }};
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

/// One assembly file for all kernels of a target, and its object.
void assemble(const KernelRequest &request, const CompiledTarget &compiled, const Staging &staging) {
    const std::string object = object_name(request.name, *compiled.target);
    const std::string source = object.substr(0, object.size() - 1) + "s";
    std::string text;
    for (const CompiledKernel &kernel : compiled.kernels) text += read_text(staging.path(kernel.symbol + ".s"));
    write_text(staging.path(source), text.append(end_of_file()));
    run_tool(request.cxx, {"-c", source, "-o", object}, staging.folder());
}

/// Jobs that need another set of results to begin with count as one row of steps.
class Steps {
  public:
    Steps(const KernelRequest &request, size_t all) : request_(request), all_(all) {}
    std::vector<std::string> run(const std::vector<Job> &jobs) {
        std::vector<std::string> results = run_jobs(jobs, request_.jobs, [&](size_t done) {
            if (request_.progress) request_.progress(before_ + done, all_);
        });
        before_ += jobs.size();
        return results;
    }

  private:
    const KernelRequest &request_;
    size_t all_, before_ = 0;
};

}  // namespace

int CompiledTarget::scratch_bytes() const {
    int most = 0;
    for (const CompiledKernel &kernel : kernels) most = std::max(most, kernel.scratch_bytes);
    return most;
}

std::string object_name(const std::string &model, const TargetSpec &target) {
    return model + "_" + std::string(target.name) + ".o";
}

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
    Steps steps(request, jobs.size() + compiled.size());
    const std::vector<std::string> results = steps.run(jobs);
    jobs.clear();
    for (size_t t = 0; t < compiled.size(); ++t) {
        for (size_t k = 0; k < names.size(); ++k) {
            CompiledKernel &kernel = compiled[t].kernels[k];
            kernel = parse_result(kernel.symbol, results[t * names.size() + k]);
        }
        jobs.push_back({"kernels for " + std::string(compiled[t].target->name), [&request, &compiled, t, &staging] {
                            assemble(request, compiled[t], staging);
                            return std::string();
                        }});
    }
    steps.run(jobs);
    return compiled;
}

}  // namespace shufflenet::compile
