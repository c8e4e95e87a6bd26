// The models on a device as one shared library with a plain C interface, for comparisons within another program's
// process, context and stream: bench/gpu/gpu_compare.py.
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "models/compiled_models.h"
#include "shufflenet/device.h"

namespace {

using shufflenet::DeviceModel;
using shufflenet::Status;

int report(const Status &status, char *error, int size) {
    if (!status.ok() && size > 0) std::snprintf(error, static_cast<size_t>(size), "%s", status.message().c_str());
    return static_cast<int>(status.code());
}

}  // namespace

extern "C" {

/// Opens a model with weights from a file; 0, or a code and a message. `stream`: the caller's, or null.
int shufflenet_device_open(DeviceModel **model, const char *name, const char *device, const char *weights,
                           int max_batch, void *stream, int graph, char *error, int size) {
    *model = nullptr;
    for (const shufflenet_descriptor *descriptor : shufflenet::compiled_models()) {
        if (std::strcmp(descriptor->name, name) != 0) continue;
        auto made = std::make_unique<DeviceModel>();
        shufflenet::DeviceOptions options;
        options.device = device;
        options.max_batch = max_batch;
        options.stream = stream;
        options.graph = graph != 0;
        Status status = made->open(*descriptor, options);
        if (status.ok()) status = made->load_weights(std::string(weights));
        if (status.ok()) *model = made.release();
        return report(status, error, size);
    }
    return report({shufflenet::Code::kBadInput, std::string("unknown model ") + name}, error, size);
}

int shufflenet_device_enqueue(DeviceModel *model, uint64_t input, int batch, uint64_t logits, char *error, int size) {
    return report(model->enqueue(input, batch, logits), error, size);
}

uint64_t shufflenet_device_own_input(const DeviceModel *model) { return model->own_input(); }
uint64_t shufflenet_device_own_output(const DeviceModel *model) { return model->own_output(); }

/// The launches of a run as a JSON array; returns its length.
int shufflenet_device_kernels(const DeviceModel *model, int batch, char *text, int size) {
    auto kernels = nlohmann::json::array();
    for (const shufflenet::KernelCost &k : model->kernels(batch)) {
        kernels.push_back({{"id", k.id}, {"multiply_adds", k.multiply_adds}, {"bytes", k.bytes}});
    }
    const std::string json = kernels.dump();
    if (size > 0) std::snprintf(text, static_cast<size_t>(size), "%s", json.c_str());
    return static_cast<int>(json.size());
}

void shufflenet_device_close(DeviceModel *model) { delete model; }

}  // extern "C"
