#include "tuning_compiler.h"

#include <algorithm>
#include <cstdlib>
#include <future>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

#include "child_process.h"
#include "text_file.h"

namespace shufflenet::bench {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr double kCompileSeconds = 120;

fs::path new_folder() {
    std::string pattern = (fs::temp_directory_path() / "shufflenet-autotune-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error(pattern + ": cannot be created");
    return pattern;
}

}  // namespace

TuningCompiler::TuningCompiler(const TuningOptions &options, const TargetSpec &target)
    : options_(options),
      target_(target),
      folder_(new_folder()),
      programs_(fs::read_symlink("/proc/self/exe").parent_path()) {}

TuningCompiler::~TuningCompiler() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
}

std::vector<Version> TuningCompiler::compile(const Kernel &kernel, const std::vector<Candidate> &candidates) {
    std::vector<Version> compiled;
    const size_t at_once = std::max(1U, std::thread::hardware_concurrency());
    for (size_t first = 0; first < candidates.size() && !interrupted(); first += at_once) {
        std::vector<std::future<Version>> running;
        for (size_t i = first; i < std::min(candidates.size(), first + at_once); ++i) {
            running.push_back(
                std::async(std::launch::async, [&, i] { return compile_one(kernel, candidates[i], false); }));
        }
        for (auto &result : running) {
            Version version = result.get();
            if (!version.failure.empty()) continue;
            const std::string code = read_text(fs::path(version.object).replace_filename("kernel.o"));
            if (seen_.insert(kernel.name + code).second) compiled.push_back(std::move(version));
        }
    }
    return compiled;
}

Version TuningCompiler::oracle(const Kernel &kernel) { return checked(kernel, compile_one(kernel, {}, true)); }

Version TuningCompiler::version(const Kernel &kernel, const Candidate &numbers) {
    return checked(kernel, compile_one(kernel, numbers, false));
}

Version TuningCompiler::checked(const Kernel &kernel, Version version) {
    if (!version.failure.empty()) {
        throw std::runtime_error(kernel.name + ": " + Json(version.numbers).dump() +
                                 " does not compile: " + version.failure);
    }
    return version;
}

Version TuningCompiler::compile_one(const Kernel &kernel, const Candidate &numbers, bool oracle) {
    // Every version has the same symbol, so that equal schedules are equal files.
    const fs::path folder = folder_ / std::to_string(++count_);
    fs::create_directories(folder);
    const fs::path tuned = folder / "tuned.json";
    write_text(tuned, Json{{"kernels", {{kernel.name, numbers}}}}.dump());
    std::vector<std::string> command = {program("shufflenet_generators").string(),
                                        "-g",
                                        kernel.generator,
                                        "-f",
                                        "kernel",
                                        "-o",
                                        folder.string(),
                                        "-e",
                                        "assembly",
                                        "target=" + std::string(target_.halide) + "-" + std::string(kKernelFeatures),
                                        "network=" + options_.network,
                                        "height=" + std::to_string(options_.height),
                                        "width=" + std::to_string(options_.width),
                                        "kernel=" + kernel.name,
                                        "tuned=" + tuned.string()};
    command.insert(command.end(), kernel.parameters.begin(), kernel.parameters.end());
    if (oracle) command.emplace_back("reference=true");
    ChildResult made = run_child(command, "", kCompileSeconds);
    const fs::path object = folder / "kernel.so";
    if (made.ok) {
        made = run_child({SHUFFLENET_CMAKE, "-D", "INPUT=" + (folder / "kernel.s").string(), "-D",
                          "OUTPUT=" + (folder / "kernel.o").string(), "-D", "CXX=" + options_.compiler, "-P",
                          std::string(SHUFFLENET_SOURCE_DIR) + "/cmake/assemble_kernel.cmake"},
                         "", kCompileSeconds);
    }
    if (made.ok) {
        made = run_child({options_.compiler, "-shared", "-o", object.string(), (folder / "kernel.o").string()}, "",
                         kCompileSeconds);
    }
    return {numbers, object.string(), made.ok ? "" : made.failure, {}, 0};
}

}  // namespace shufflenet::bench
