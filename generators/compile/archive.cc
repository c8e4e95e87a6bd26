#include "archive.h"

#include <filesystem>
#include <stdexcept>
#include <vector>

namespace shufflenet::compile {

namespace {

void compile_descriptor(const Options &options, const Tool &cxx, const std::string &object, const Staging &staging) {
    std::vector<std::string> arguments = {
        "-std=c++20",         "-O2", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-c",
        options.name + ".cc", "-o",  object};
    const std::vector<std::string> built_in = {SHUFFLENET_INCLUDE_FOLDERS};
    for (const std::string &folder : options.include.empty() ? built_in : options.include) {
        arguments.push_back("-I" + std::filesystem::absolute(folder).string());
    }
    run_tool(cxx, arguments, staging.folder());
}

bool is_object(const std::string &name) { return name.ends_with(".o"); }

}  // namespace

void make_archive(const Options &options, const Tool &cxx, Staging *staging) {
    const std::string descriptor = options.name + ".o", library = "lib" + options.name + ".a";
    compile_descriptor(options, cxx, descriptor, *staging);
    // The language of ar's scripts has no quotes: files get plain names first.
    std::string script = "CREATE " + library + "\nADDMOD " + descriptor + "\n";
    for (const std::string &name : staging->kept()) {
        if (is_object(name)) script += "ADDMOD " + name + "\n";
    }
    int count = 0;
    for (const std::string &file : options.runtime) {
        const std::string name = "runtime" + std::to_string(count++) + (is_object(file) ? ".o" : ".a");
        std::error_code error;
        std::filesystem::copy_file(file, staging->path(name), error);
        if (error) throw std::runtime_error("--runtime: " + file + ": " + error.message());
        script += (is_object(file) ? "ADDMOD " : "ADDLIB ") + name + "\n";
    }
    run_tool(ar_tool(options.ar, options.processor), {"-M", "-D"}, staging->folder(), script + "SAVE\nEND\n");
    staging->keep(library);
}

}  // namespace shufflenet::compile
