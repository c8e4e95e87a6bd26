#include "devices.h"

#include <algorithm>
#include <utility>

#include "assembly.h"
#include "generators/build.h"
#include "jobs.h"

namespace shufflenet::compile {

namespace {

/// A generated function that variants have in common.
struct DeviceKernel {
    const DeviceSpec *device = nullptr;
    size_t number = 0;  ///< In Program::kernels.
    schedules::Tuning tuning;
    std::string symbol;
};

Halide::Target halide_target(const DeviceRequest &request, const DeviceSpec &device) {
    std::string text = std::string(request.host.halide) + "-" + std::string(device.halide);
    if (device.name == "cuda") text += "-cuda_capability_" + std::to_string(request.cuda_capability);
    text += "-" + std::string(kKernelFeatures);
    if (request.asan) text += "-asan";
    return Halide::Target(text);
}

/// In a process of its own: leaves `<symbol>.s` in the folder.
std::string build(const DeviceRequest &request, const DeviceKernel &kernel, const std::string &local,
                  const std::string &path) {
    generators::build_device_kernel(request.program.kernels[kernel.number], halide_target(request, *kernel.device),
                                    kernel.tuning, kernel.symbol, path);
    const Module module{kernel.symbol, local, [&](std::string_view name) { return name == kernel.symbol; }};
    write_text(path, rewrite(read_text(path), processor_named(request.host.processor), module));
    return {};
}

/// The variants of a device; kernels that are new go to `kernels`.
CompiledDevice plan(const DeviceRequest &request, const DeviceSpec &device, std::vector<DeviceKernel> *kernels) {
    CompiledDevice compiled{&device, {}};
    const std::vector<std::string> names = identifiers(request.program);
    for (const int batch : request.tuned.batches(device.name)) {
        DeviceVariant variant{batch, {}};
        for (size_t k = 0; k < names.size(); ++k) {
            const schedules::Tuning tuning = request.tuned.find(device.name, key(request.program.kernels[k]), batch);
            const auto same = std::ranges::find_if(*kernels, [&](const DeviceKernel &other) {
                return other.device == &device && other.number == k && other.tuning == tuning;
            });
            std::string symbol = same != kernels->end() ? same->symbol
                                                        : request.name + "_" + std::string(device.name) + "_" +
                                                              std::to_string(batch) + "_" + names[k];
            if (same == kernels->end()) kernels->push_back({&device, k, tuning, symbol});
            variant.kernels.push_back({symbol, {request.program.kernels[k].planes() * kPlane, 0}, 0});
        }
        compiled.variants.push_back(std::move(variant));
    }
    return compiled;
}

}  // namespace

std::vector<CompiledDevice> compile_devices(const DeviceRequest &request, const Staging &staging,
                                            std::string *assembly) {
    std::vector<DeviceKernel> kernels;
    std::vector<CompiledDevice> compiled;
    for (const DeviceSpec *device : request.devices) compiled.push_back(plan(request, *device, &kernels));
    std::vector<Job> jobs;
    for (const DeviceKernel &kernel : kernels) {
        const std::string device(kernel.device->name), local = device + std::to_string(jobs.size());
        const std::string path = staging.path(kernel.symbol + ".s");
        jobs.push_back({"kernel " + key(request.program.kernels[kernel.number]) + " for " + device,
                        [&request, &kernel, local, path] { return build(request, kernel, local, path); }});
    }
    run_jobs(jobs, request.jobs, [&](size_t done) {
        if (request.progress) request.progress(done, jobs.size());
    });
    for (const DeviceKernel &kernel : kernels) *assembly += read_text(staging.path(kernel.symbol + ".s"));
    return compiled;
}

}  // namespace shufflenet::compile
