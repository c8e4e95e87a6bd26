#include "compiler.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "bench/common/child_process.h"
#include "bench/common/text_file.h"
#include "generators/build.h"
#include "generators/compile/jobs.h"
#include "generators/compile/tool.h"

namespace shufflenet::bench {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr unsigned kCompileSeconds = 120;

fs::path new_folder() {
    std::string pattern = (fs::temp_directory_path() / "shufflenet-autotune-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error(pattern + ": cannot be created");
    return pattern;
}

/// As the compiler of models does it: weights that are prefetched are read again by the next tile of pixels.
std::string with_prefetches_to_second_level(std::string assembly) {
    const std::string from = "prefetchnta", to = "prefetcht1";
    for (size_t at = assembly.find(from); at != std::string::npos; at = assembly.find(from, at)) {
        assembly.replace(at, from.size(), to);
    }
    return assembly;
}

/// In a process of its own: leaves kernel.s and kernel.so in the folder; returns the lanes.
std::string build(const TuningOptions &options, const networks::Kernel &kernel, const Candidate &numbers, bool oracle,
                  const fs::path &folder) {
    // Whatever the numbers, LLVM comes to an end, or this does.
    alarm(kCompileSeconds);
    const std::string key = networks::key(kernel), path = (folder / "kernel.s").string();
    const Json tuned = {{"kernels", {{key, numbers}}}};
    const schedules::Tuning tuning = schedules::parse_tuning(tuned.dump(), "numbers", key);
    const Halide::Target target(std::string(options.target.halide) + "-" + std::string(kKernelFeatures));
    const generators::BuiltKernel built =
        generators::build_kernel(kernel, target, options.target.fma_units, tuning, oracle, kKernelSymbol, path);
    write_text(path, with_prefetches_to_second_level(read_text(path)));
    const compile::Tool cxx = compile::cxx_tool(options.compiler, std::string(options.target.processor));
    compile::run_tool(cxx, {"-shared", "-o", "kernel.so", "kernel.s"}, folder.string());
    return std::to_string(built.lanes[0]) + " " + std::to_string(built.lanes[1]);
}

}  // namespace

TuningCompiler::TuningCompiler(const TuningOptions &options)
    : options_(options), folder_(new_folder()), programs_(fs::read_symlink("/proc/self/exe").parent_path()) {}

TuningCompiler::~TuningCompiler() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
}

std::vector<Version> TuningCompiler::compile(const TunedKernel &kernel, const std::vector<Candidate> &candidates) {
    std::vector<Request> requests;
    for (const Candidate &numbers : candidates) requests.push_back({kernel, numbers, false});
    std::vector<Version> compiled;
    for (Version &version : compile_all(requests)) {
        if (!version.failure.empty()) continue;
        const std::string code = read_text(fs::path(version.object).replace_filename("kernel.s"));
        if (seen_.insert(kernel.key + code).second) compiled.push_back(std::move(version));
    }
    return compiled;
}

Version TuningCompiler::oracle(const TunedKernel &kernel) { return compile_one({kernel, {}, true}); }

Version TuningCompiler::version(const TunedKernel &kernel, const Candidate &numbers) {
    return compile_one({kernel, numbers, false});
}

Version TuningCompiler::compile_one(const Request &request) {
    Version version = compile_all({request}).front();
    if (!version.failure.empty()) {
        throw std::runtime_error(request.kernel.name + ": " + Json(request.numbers).dump() +
                                 " does not compile: " + version.failure);
    }
    return version;
}

std::vector<Version> TuningCompiler::compile_all(const std::vector<Request> &requests) {
    std::vector<Version> versions;
    std::vector<compile::Job> jobs;
    for (const Request &request : requests) {
        const fs::path folder = folder_ / std::to_string(++count_);
        fs::create_directories(folder);
        versions.push_back({.numbers = request.numbers, .object = (folder / "kernel.so").string()});
        const auto run = [this, request, folder]() -> std::string {
            try {
                return build(options_, request.kernel.shape, request.numbers, request.oracle, folder);
            } catch (const std::exception &error) {
                return error.what();
            }
        };
        jobs.push_back({request.kernel.name, run});
    }
    std::vector<std::string> results;
    try {
        results = compile::run_jobs(jobs, compile::default_jobs());
    } catch (const std::exception &) {
        // One of them was ended by a signal, and the others with it: each on its own.
        for (const compile::Job &job : jobs) {
            if (interrupted()) break;
            try {
                results.push_back(compile::run_jobs({job}, 1).front());
            } catch (const std::exception &error) {
                results.emplace_back(error.what());
            }
        }
        results.resize(jobs.size(), "interrupted");
    }
    for (size_t i = 0; i < versions.size(); ++i) {
        std::istringstream lanes(results[i]);
        if (!(lanes >> versions[i].lanes[0] >> versions[i].lanes[1])) versions[i].failure = results[i];
    }
    return versions;
}

}  // namespace shufflenet::bench
