#include "halide_runtime.h"

#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "assembly.h"
#include "files.h"
#include "generators/halide_compat.h"
#include "jobs.h"
#include "networks/targets.h"

namespace shufflenet::compile {

namespace {

/// The processor without features of an instruction set or an operating system.
Halide::Target bare_target(const std::string &processor) {
    for (const TargetSpec &target : kTargets) {
        if (target.processor != processor) continue;
        Halide::Target bare{std::string(target.halide)};
        bare = Halide::Target(Halide::Target::NoOS, bare.arch, bare.bits);
        bare.set_feature(Halide::Target::UserContext);
        return bare;
    }
    throw std::runtime_error("--processor: unknown: " + processor);
}

bool is_error_function(std::string_view symbol) { return symbol.starts_with("halide_error_"); }

std::string build(const std::string &processor, const std::string &path) {
    // A module of nothing: what Halide adds to it is its runtime.
    const Halide::Module module("halide_runtime", bare_target(processor));
    module.compile({{Halide::OutputFileType::assembly, path}});
    const Module kept{"shufflenet", "h", is_error_function};
    std::string text = rewrite(read_text(path), processor_named(processor), kept);
    write_text(path, text.append(end_of_file()));
    return {};
}

}  // namespace

void write_halide_runtime(const std::string &processor, const Tool &cxx, const std::string &path) {
    const std::filesystem::path file(path);
    Staging staging(file.has_parent_path() ? file.parent_path().string() : ".");
    const std::string name = file.filename(), source = file.stem().string() + ".s";
    run_jobs({{"Halide's runtime", [&] { return build(processor, staging.path(source)); }}}, 1);
    if (name != source) run_tool(cxx, {"-c", source, "-o", name}, staging.folder());
    staging.keep(name);
    staging.commit();
}

}  // namespace shufflenet::compile
