#include "halide_runtime.h"

#include <filesystem>
#include <functional>
#include <stdexcept>

#include "assembly.h"
#include "files.h"
#include "generators/halide_compat.h"
#include "jobs.h"
#include "networks/targets.h"

namespace shufflenet::compile {

namespace {

/// The processor without features of an instruction set.
Halide::Target plain_target(const std::string &processor, Halide::Target::OS system) {
    for (const TargetSpec &target : kTargets) {
        if (target.processor != processor) continue;
        const Halide::Target full{std::string(target.halide)};
        Halide::Target plain(system == Halide::Target::OSUnknown ? full.os : system, full.arch, full.bits);
        plain.set_feature(Halide::Target::UserContext);
        return plain;
    }
    throw std::runtime_error("--processor: unknown: " + processor);
}

bool is_error_function(std::string_view symbol) { return symbol.starts_with("halide_error_"); }

std::string build(const std::string &processor, const std::string &path) {
    // A module of nothing: what Halide adds to it is its runtime.
    const Halide::Module module("halide_runtime", plain_target(processor, Halide::Target::NoOS));
    module.compile({{Halide::OutputFileType::assembly, path}});
    const Module kept{"shufflenet", "h", is_error_function};
    std::string text = rewrite(read_text(path), processor_named(processor), kept);
    write_text(path, text.append(end_of_file()));
    return {};
}

std::string build_whole(const std::string &processor, const std::string &path) {
    Halide::compile_standalone_runtime(path, plain_target(processor, Halide::Target::OSUnknown));
    return {};
}

void run_job(const std::function<std::string()> &build) { run_jobs({{"Halide's runtime", build}}, 1); }

}  // namespace

void make_halide_runtime(const std::string &processor, const Tool &cxx, const std::string &name,
                         const Staging &staging) {
    run_job([&] { return build(processor, staging.path(name + ".s")); });
    run_tool(cxx, {"-c", name + ".s", "-o", name + ".o"}, staging.folder());
}

void write_halide_runtime(const std::string &processor, const Tool &cxx, bool whole, const std::string &path) {
    const std::filesystem::path file(path);
    Staging staging(file.has_parent_path() ? file.parent_path().string() : ".");
    const std::string name = file.filename();
    staging.keep(name);
    if (whole) {
        run_job([&] { return build_whole(processor, staging.path(name)); });
    } else if (name.ends_with(".s")) {
        run_job([&] { return build(processor, staging.path(name)); });
    } else {
        const std::string made = "runtime";
        make_halide_runtime(processor, cxx, made, staging);
        std::filesystem::rename(staging.path(made + ".o"), staging.path(name));
    }
    staging.commit();
}

}  // namespace shufflenet::compile
