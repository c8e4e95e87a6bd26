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

TuningCompiler::TuningCompiler(const TuningOptions &options)
    : options_(options), folder_(new_folder()), programs_(fs::read_symlink("/proc/self/exe").parent_path()) {}

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

Version TuningCompiler::oracle(const Kernel &kernel) {
    return checked(kernel, options_.device != nullptr ? device_oracle(kernel) : compile_one(kernel, {}, true));
}

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

std::string TuningCompiler::assemble(const fs::path &folder, const Kernel &kernel, const std::string &symbol,
                                     const std::vector<std::string> &more) const {
    std::vector<std::string> command = {
        SHUFFLENET_GENERATORS,
        "-g",
        kernel.generator,
        "-f",
        symbol,
        "-o",
        folder.string(),
        "-e",
        "assembly",
        "target=" + std::string(options_.spec.halide) + "-" + std::string(kKernelFeatures),
        "network=" + options_.network,
        "height=" + std::to_string(options_.height),
        "width=" + std::to_string(options_.width),
        "kernel=" + kernel.name,
        "fma_units=" + std::to_string(options_.spec.fma_units)};
    command.insert(command.end(), kernel.parameters.begin(), kernel.parameters.end());
    command.insert(command.end(), more.begin(), more.end());
    ChildResult made = run_child(command, "", kCompileSeconds);
    if (made.ok) {
        made = run_child({SHUFFLENET_CMAKE, "-D", "INPUT=" + (folder / (symbol + ".s")).string(), "-D",
                          "OUTPUT=" + (folder / "kernel.o").string(), "-D", "CXX=" + options_.compiler, "-P",
                          std::string(SHUFFLENET_SOURCE_DIR) + "/cmake/assemble_kernel.cmake"},
                         "", kCompileSeconds);
    }
    return made.ok ? "" : made.failure;
}

std::string TuningCompiler::link(const fs::path &object, const std::vector<fs::path> &parts) const {
    std::vector<std::string> command = {options_.compiler, "-shared", "-o", object.string()};
    for (const fs::path &part : parts) command.push_back(part.string());
    const ChildResult made = run_child(command, "", kCompileSeconds);
    return made.ok ? "" : made.failure;
}

Version TuningCompiler::compile_one(const Kernel &kernel, const Candidate &numbers, bool oracle) {
    // Every version has the same symbol, so that equal schedules are equal files.
    const std::string symbol = "kernel";
    const fs::path folder = folder_ / std::to_string(++count_);
    fs::create_directories(folder);
    const fs::path tuned = folder / "tuned.json";
    write_text(tuned, Json{{"kernels", {{kernel.name, numbers}}}}.dump());
    std::vector<std::string> more = {"tuned=" + tuned.string()};
    if (oracle) more.emplace_back("reference=true");
    const fs::path object = folder / "kernel.so";
    std::string failure = assemble(folder, kernel, symbol, more);
    if (failure.empty()) failure = link(object, {folder / "kernel.o"});
    return {numbers, object.string(), symbol, failure, {}, 0};
}

Version TuningCompiler::device_oracle(const Kernel &kernel) {
    if (device_oracle_.empty()) {
        std::vector<fs::path> parts;
        for (const Kernel &part : all_device_kernels()) {
            const fs::path folder = folder_ / ("oracle_" + part.name);
            fs::create_directories(folder);
            const std::string failure = assemble(folder, part, part.name, {});
            if (!failure.empty()) return {{}, "", part.name, failure, {}, 0};
            parts.push_back(folder / "kernel.o");
        }
        const fs::path object = folder_ / "oracle.so";
        const std::string failure = link(object, parts);
        if (!failure.empty()) return {{}, "", kernel.name, failure, {}, 0};
        device_oracle_ = object.string();
    }
    return {{}, device_oracle_, kernel.name, "", {}, 0};
}

}  // namespace shufflenet::bench
