// Compiles the kernels of the guidelines' programs: guidelines_compile FOLDER PROCESSOR CXX [TARGET SET]... writes
// guidelines_<target>_kernels.o of each there, and guidelines_kernels.cc, the table of them. Sets are "quick",
// "experiments" and "all".
#include <algorithm>
#include <iostream>
#include <set>
#include <stdexcept>

#include "bench/guidelines/experiments.h"
#include "generators/compile/files.h"
#include "generators/compile/jobs.h"
#include "generators/compile/kernels.h"
#include "generators/compile/process.h"
#include "generators/compile/progress.h"

namespace shufflenet::bench {

namespace {

/// Every kernel of a set once, as a program of kernels alone.
networks::Program all_kernels(std::string_view set) {
    networks::Program all;
    std::set<networks::Kernel> seen;
    for (const networks::Program &program : measured_programs(set)) {
        for (const networks::Kernel &kernel : program.kernels) {
            if (seen.insert(kernel).second) all.kernels.push_back(kernel);
        }
    }
    return all;
}

/// What was compiled, as rows of the table, and the functions' declarations.
struct Table {
    std::string declarations, rows;
    void add(const networks::Program &program, const compile::CompiledTarget &target) {
        for (size_t i = 0; i < target.kernels.size(); ++i) {
            const compile::CompiledKernel &kernel = target.kernels[i];
            declarations += "kernel " + kernel.symbol + ";\n";
            rows += "        {\"" + key(program.kernels[i]) + "\", \"" + std::string(target.target->name) + "\", {" +
                    kernel.symbol + ", {" + std::to_string(kernel.lanes[0]) + ", " + std::to_string(kernel.lanes[1]) +
                    "}}, " + std::to_string(kernel.scratch_bytes) + "},\n";
        }
    }
    std::string text() const {
        return "// Made by guidelines_compile.\n"
               "#include \"bench/guidelines/program_runner.h\"\n\n"
               "extern \"C\" {\n"
               "typedef int kernel(const void *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *,\n"
               "                   halide_buffer_t *, halide_buffer_t *, halide_buffer_t *);\n" +
               declarations +
               "}\n\n"
               "std::span<const shufflenet::bench::GuidelineKernel> shufflenet::bench::guideline_kernels() {\n"
               "    static const GuidelineKernel all[] = {\n" +
               rows + "    };\n    return all;\n}\n";
    }
};

void compile_all(const std::vector<std::string> &arguments) {
    if (arguments.size() < 5 || arguments.size() % 2 == 0) {
        throw std::runtime_error("expected FOLDER PROCESSOR CXX and TARGET SET, once or more");
    }
    const compile::Tool cxx = compile::cxx_tool(arguments[2], arguments[1]);
    const compile::TunedNumbers tuned("");
    compile::Progress progress("guidelines", true);
    compile::Staging staging(arguments[0]);
    Table table;
    for (size_t i = 3; i < arguments.size(); i += 2) {
        const TargetSpec *target = find_target(arguments[i]);
        if (target == nullptr) throw std::runtime_error("unknown target '" + arguments[i] + "'");
        const networks::Program program = all_kernels(arguments[i + 1]);
        const std::vector<const TargetSpec *> targets = {target};
        const compile::KernelRequest request{.program = program,
                                             .name = "guidelines_" + arguments[i],
                                             .targets = targets,
                                             .tuned = tuned,
                                             .data = {},
                                             .cxx = cxx,
                                             .jobs = compile::default_jobs(),
                                             .progress = [&](size_t done, size_t all) { progress.show(done, all); }};
        table.add(program, compile_kernels(request, staging).front());
        staging.keep(compile::kernels_object(request.name));
    }
    compile::write_text(staging.path("guidelines_kernels.cc"), table.text());
    staging.keep("guidelines_kernels.cc");
    staging.commit();
}

}  // namespace

}  // namespace shufflenet::bench

int main(int argc, char **argv) {
    try {
        shufflenet::compile::catch_interrupts();
        shufflenet::bench::compile_all({argv + 1, argv + argc});
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "guidelines_compile: error: " << error.what() << '\n';
        return 1;
    }
}
