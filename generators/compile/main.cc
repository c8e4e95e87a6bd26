// The compiler: a network, fixed in all its sizes, becomes objects, a descriptor and a C header.
#include <csignal>
#include <exception>
#include <iostream>
#include <optional>

#include "archive.h"
#include "assembly.h"
#include "devices.h"
#include "embed.h"
#include "emit_descriptor.h"
#include "emit_header.h"
#include "files.h"
#include "halide_runtime.h"
#include "jobs.h"
#include "kernels.h"
#include "network.h"
#include "options.h"
#include "process.h"
#include "progress.h"
#include "report.h"
#include "runtime/src/message.h"
#include "weights.h"

namespace shufflenet::compile {

namespace {

/// The program, for as many classes as the weights have that are embedded.
networks::Program make_program(const Options &options) {
    networks::Program program = networks::make_program(make_graph(options), {.linear = options.linear});
    if (options.linear != Element::kF32 && program.row_floats == 0) {
        throw UsageError("--classifier-bits 16: expected a network that ends in a linear layer, found " +
                         options.network + " without");
    }
    if (options.weights.empty() || options.imported) return program;
    const ProgramData data(program);
    const int classes = check_weights(options, data);
    if (options.embed == Embed::kNo || classes == 0 || classes == classes_of(data.graph())) return program;
    Options fitting = options;
    fitting.classes = classes;
    return networks::make_program(make_graph(fitting), {.linear = options.linear});
}

int jobs_of(const Options &options) { return options.jobs > 0 ? options.jobs : default_jobs(); }

void write_depfile(const Options &options, const TunedNumbers &tuned, const Staging &staging) {
    if (options.depfile.empty()) return;
    std::vector<std::string> outputs, inputs = tuned.files();
    for (const std::string &name : staging.kept()) outputs.push_back(staging.destination(name));
    for (const std::string &file : {options.weights, options.onnx, metadata_file(options)}) {
        if (!file.empty()) inputs.push_back(file);
    }
    inputs.insert(inputs.end(), options.runtime.begin(), options.runtime.end());
    write_text(options.depfile, depfile_text(outputs, inputs));
}

/// What the caller gets: the library, or what goes into one.
void keep_results(const Model &model, std::optional<Archive> &archive, Staging *staging) {
    const std::string kernels = kernels_object(model.name), source = model.name + ".cc", header = model.name + ".h";
    write_text(staging->path(header), header_text(model));
    write_text(staging->path(source), descriptor_text(model));
    if (archive) {
        staging->keep(header);
        archive->make(kernels);
    } else {
        for (const std::string &name : {source, header, kernels}) staging->keep(name);
    }
}

/// What there is for devices, whose program is another one: nothing, if there are none.
struct ForDevices {
    std::optional<ProgramData> data;
    std::vector<CompiledDevice> devices;
};

/// Appends the kernels to `assembly`.
void compile_for_devices(const Options &options, const networks::Graph &graph, const TunedNumbers &tuned,
                         Progress &progress, const Staging &staging, std::string *assembly, ForDevices *made) {
    if (options.devices.empty()) return;
    made->data.emplace(networks::make_program(graph, {.expand_apart = true}));
    const DeviceRequest request{.program = made->data->source(),
                                .name = options.name,
                                .host = *options.targets.front(),
                                .devices = options.devices,
                                .cuda_capability = options.cuda_capability,
                                .tuned = tuned,
                                .jobs = jobs_of(options),
                                .asan = options.asan,
                                .progress = [&](size_t done, size_t all) { progress.show(done, all); }};
    made->devices = compile_devices(request, staging, assembly);
}

void compile_model(const Options &options) {
    const ProgramData data(make_program(options));
    const TunedNumbers tuned(options.tuned);
    const Tool cxx = cxx_tool(options.cxx, options.processor);
    check_tool(cxx);
    Progress progress(options.name, !options.quiet);
    Staging staging(options.output);
    std::optional<Archive> archive;
    if (!options.objects) archive.emplace(options, cxx, &staging);
    Embedded embedded = embed(options, data, &staging);
    ForDevices device;
    compile_for_devices(options, data.graph(), tuned, progress, staging, &embedded.assembly, &device);
    const KernelRequest request{.program = data.source(),
                                .name = options.name,
                                .targets = options.targets,
                                .tuned = tuned,
                                .data = embedded.assembly,
                                .cxx = cxx,
                                .jobs = jobs_of(options),
                                .reference = options.reference,
                                .asan = options.asan,
                                .progress = [&](size_t done, size_t all) { progress.show(done, all); }};
    const Model model{.name = options.name,
                      .network = data.graph().name,
                      .data = data,
                      .targets = compile_kernels(request, staging),
                      .device_data = device.data ? &*device.data : nullptr,
                      .devices = device.devices,
                      .packed = embedded.packed,
                      .weights = embedded.weights,
                      .metadata = embedded.metadata,
                      .weights_file = embedded.weights_file};
    keep_results(model, archive, &staging);
    staging.commit();
    write_depfile(options, tuned, staging);
}

/// With devices, theirs.
networks::Program listed_program(const Options &options) {
    networks::Program program = make_program(options);
    return options.devices.empty() ? program : networks::make_program(program.graph, {.expand_apart = true});
}

/// Throws where a file of tuned numbers is none.
void check_tuned(const Options &options) {
    const TunedNumbers tuned(options.tuned);
    for (const TargetSpec *target : options.targets) tuned.find(target->name, "");
}

void run(const Options &options) {
    switch (options.mode) {
    case Mode::kModel:
        return compile_model(options);
    case Mode::kCheck:
        check_tuned(options);
        std::cout << check_text(make_program(options));
        break;
    case Mode::kListKernels:
        std::cout << kernels_text(listed_program(options));
        break;
    case Mode::kHalideRuntime:
        return write_halide_runtime(options.processor, cxx_tool(options.cxx, options.processor), options.whole,
                                    options.output);
    }
    if (!std::cout.flush()) throw std::runtime_error("standard output: cannot be written");
}

int fail(const std::exception &error, int status) {
    std::cerr << "shufflenet_compile: error: " << message::one_line(error.what()) << '\n';
    return status;
}

}  // namespace

}  // namespace shufflenet::compile

int main(int argc, char **argv) {
    using namespace shufflenet::compile;
    constexpr int kBadInput = 1, kBadUsage = 2;
    try {
        catch_interrupts();
        if (auto options = parse_options(argc, argv)) {
            if (!options->abi.empty()) set_abi(options->abi);
            import_network(&*options);
            run(*options);
        }
        return 0;
    } catch (const UsageError &error) {
        return fail(error, kBadUsage);
    } catch (const std::exception &error) {
        return fail(error, kBadInput);
    }
}
