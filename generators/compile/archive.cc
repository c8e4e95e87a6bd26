#include "archive.h"

#include <filesystem>
#include <stdexcept>
#include <utility>
#include <vector>

#include "halide_runtime.h"
#include "networks/targets.h"

namespace shufflenet::compile {

namespace {

namespace fs = std::filesystem;

/// Where this program's installation begins.
fs::path prefix() {
    std::error_code error;
    const fs::path program = fs::read_symlink("/proc/self/exe", error);
    return program.parent_path().parent_path();
}

std::vector<std::string> include_folders(const Options &options) {
    if (!options.include.empty()) return options.include;
    const fs::path installed = prefix() / "include";
    if (fs::exists(installed / "shufflenet/descriptor.h")) return {installed.string()};
    return {SHUFFLENET_INCLUDE_FOLDERS};
}

std::vector<std::string> runtime_files(const Options &options) {
    if (!options.runtime.empty()) return options.runtime;
    if (options.processor != kProcessor) {
        throw UsageError("--runtime: expected a runtime for " + options.processor + ", found nothing");
    }
    for (const char *folder : {"lib", SHUFFLENET_LIBRARY_FOLDER}) {
        const fs::path file = prefix() / folder / "libshufflenet_runtime.a";
        if (fs::exists(file)) return {file.string()};
    }
    throw std::runtime_error("--runtime: expected " + (prefix() / "lib/libshufflenet_runtime.a").string() +
                             " or another file, found nothing");
}

void compile_descriptor(const Options &options, const Tool &cxx, const std::string &object, const Staging &staging) {
    std::vector<std::string> arguments = {
        "-std=c++20",         "-O2", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-c",
        options.name + ".cc", "-o",  object};
    for (const std::string &folder : include_folders(options))
        arguments.push_back("-I" + fs::absolute(folder).string());
    run_tool(cxx, arguments, staging.folder());
}

bool is_object(const std::string &name) { return name.ends_with(".o"); }

/// The language of ar's scripts has no quotes: files get plain names.
std::string add_runtime(const std::vector<std::string> &files, const Staging &staging) {
    std::string script;
    int count = 0;
    for (const std::string &file : files) {
        const std::string name = "runtime" + std::to_string(count++) + (is_object(file) ? ".o" : ".a");
        std::error_code error;
        fs::copy_file(file, staging.path(name), error);
        if (error) throw std::runtime_error("--runtime: " + file + ": " + error.message());
        script += (is_object(file) ? "ADDMOD " : "ADDLIB ") + name + "\n";
    }
    return script;
}

}  // namespace

Archive::Archive(const Options &options, Tool cxx, Staging *staging)
    : options_(options), cxx_(std::move(cxx)), ar_(ar_tool(options.ar, options.processor)), staging_(staging) {
    check_tool(ar_);
    runtime_ = add_runtime(runtime_files(options), *staging);
}

void Archive::make(const std::string &kernels) {
    const std::string &name = options_.name;
    const std::string library = "lib" + name + ".a", halide = name + "_halide";
    compile_descriptor(options_, cxx_, name + ".o", *staging_);
    make_halide_runtime(options_.processor, cxx_, halide, *staging_);
    std::string script = "CREATE " + library + "\n";
    for (const std::string &object : {name + ".o", halide + ".o", kernels}) script += "ADDMOD " + object + "\n";
    run_tool(ar_, {"-M"}, staging_->folder(), script + runtime_ + "SAVE\nEND\n");
    staging_->keep(library);
}

}  // namespace shufflenet::compile
