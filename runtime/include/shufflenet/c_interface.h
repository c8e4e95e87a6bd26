/// @file
/// What the generated C interface of a model is made of. Not for programs: include `<name>.h` instead.
#pragma once

#include <cstdio>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "shufflenet/descriptor.h"
#include "shufflenet/model.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// What a C model is.
struct CModel {
    Model model;                          ///< It does the work.
    size_t image = 0;                     ///< Floats of one input image.
    std::vector<OutputInfo> outputs;      ///< As its weights have them.
    std::vector<OutputRequest> requests;  ///< One for each output, so that a run needs no memory for them.
    std::string error;                    ///< Message of the last run that failed.
};

/// The status as a C function returns it; its message goes to `error`, cut to `error_size` bytes, if there is room.
inline int c_report(const Status &status, char *error, int error_size) {
    if (error != nullptr && error_size > 0) std::snprintf(error, size_t(error_size), "%s", status.message().c_str());
    return static_cast<int>(status.code());
}

/// What `call` returns; no exception leaves a C function.
template <typename F>
Status c_guard(F &&call) noexcept {
    try {
        return call();
    } catch (const std::bad_alloc &) {
        return {Code::kOutOfMemory, "out of memory"};  // Short enough to need no heap.
    }
}

/// When it is open and has weights: what its runs need.
inline void c_prepare(CModel &model) {
    const ModelInfo info = model.model.info();
    model.image = size_t{3} * size_t(info.height) * size_t(info.width);
    model.outputs = info.outputs;
    for (const OutputInfo &output : model.outputs) model.requests.push_back({output.name, Layout::kNCHW, {}});
}

/// `<name>_open()`; T is the model's C type.
template <typename T>
int c_open(const shufflenet_descriptor &descriptor, T **model, const char *weights_path, int threads, char *error,
           int error_size) {
    *model = nullptr;
    auto *made = new (std::nothrow) T;
    if (made == nullptr) return c_report({Code::kOutOfMemory, "out of memory"}, error, error_size);
    Status status = made->model.open(descriptor, threads);
    if (status.ok()) {
        status = c_guard([&] {
            Status loaded = weights_path != nullptr ? made->model.load_weights(std::string(weights_path))
                                                    : made->model.load_embedded_weights();
            if (loaded.ok()) c_prepare(*made);
            return loaded;
        });
    }
    if (status.ok()) {
        *model = made;
    } else {
        delete made;
    }
    return c_report(status, error, error_size);
}

/// `<name>_share()`.
template <typename T>
int c_share(const T &model, T **other, int threads, char *error, int error_size) {
    *other = nullptr;
    auto *made = new (std::nothrow) T;
    if (made == nullptr) return c_report({Code::kOutOfMemory, "out of memory"}, error, error_size);
    const Status status = c_guard([&] {
        Status shared = model.model.share(&made->model, threads);
        if (shared.ok()) c_prepare(*made);
        return shared;
    });
    if (status.ok()) {
        *other = made;
    } else {
        delete made;
    }
    return c_report(status, error, error_size);
}

/// What a run returned; keeps the message of one that failed.
inline int c_finish(CModel &model, const Status &status) {
    if (status.ok()) return 0;
    const Status kept = c_guard([&] {
        model.error = status.message();
        return Status();
    });
    if (!kept.ok()) model.error = kept.message();
    return static_cast<int>(status.code());
}

/// `<name>_run()`. `out`: receives the first output of every image, NCHW.
inline int c_run(CModel &model, const float *input, int batch, float *out) {
    const size_t images = batch > 0 ? size_t(batch) : 0;
    const std::span<float> first(out, images * model.outputs.front().shape.elements());
    return c_finish(model, model.model.run({input, images * model.image}, batch, first));
}

/// `<name>_run_outputs()`. `outputs`: for each output, in order, where it goes as NCHW; NULL: it is not wanted.
inline int c_run_outputs(CModel &model, const float *input, int batch, float *const *outputs) {
    const size_t images = batch > 0 ? size_t(batch) : 0;
    for (size_t i = 0; i < model.outputs.size(); ++i) {
        const size_t floats = outputs[i] != nullptr ? images * model.outputs[i].shape.elements() : 0;
        model.requests[i].out = {outputs[i], floats};
    }
    return c_finish(model, model.model.run({input, images * model.image}, batch, model.requests));
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
