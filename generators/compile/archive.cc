#include "archive.h"

#include <filesystem>
#include <stdexcept>

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

void make_archive(const Options &options, const std::string &object, const Tool &cxx, Staging *staging) {
    const std::string library = "lib" + options.name + ".a", halide = options.name + "_halide";
    const std::string descriptor = options.name + ".o";
    const std::string runtime = add_runtime(runtime_files(options), *staging);
    compile_descriptor(options, cxx, descriptor, *staging);
    make_halide_runtime(options.processor, cxx, halide, *staging);
    std::string script = "CREATE " + library + "\nADDMOD " + descriptor + "\nADDMOD " + halide + ".o\n";
    script += "ADDMOD " + object + "\n";
    run_tool(ar_tool(options.ar, options.processor), {"-M"}, staging->folder(), script + runtime + "SAVE\nEND\n");
    staging->keep(library);
}

}  // namespace shufflenet::compile
