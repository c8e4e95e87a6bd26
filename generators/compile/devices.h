// The kernels of a program for devices.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels.h"
#include "networks/devices.h"

namespace shufflenet::compile {

/// Kernels for runs of so many images and more, in the order of Program::kernels. Variants have kernels in common.
struct DeviceVariant {
    int from_batch = 1;
    std::vector<CompiledKernel> kernels;
};

struct CompiledDevice {
    const DeviceSpec *device = nullptr;
    std::vector<DeviceVariant> variants;
};

struct DeviceRequest {
    const networks::Program &program;
    std::string name;        ///< Of the model.
    const TargetSpec &host;  ///< What launches the kernels.
    const std::vector<const DeviceSpec *> &devices;
    int cuda_capability = 0;
    const TunedNumbers &tuned;
    int jobs = 1;
    bool asan = false;
    std::function<void(size_t done, size_t all)> progress;
};

/// Appends the kernels' assembly to `assembly`. Throws std::runtime_error, naming kernel and device.
std::vector<CompiledDevice> compile_devices(const DeviceRequest &request, const Staging &staging,
                                            std::string *assembly);

}  // namespace shufflenet::compile
