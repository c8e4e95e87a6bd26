/// @file
/// What the generated C interface of a model is made of. Not for programs: include `<name>.h` instead.
#pragma once

#include <cstdio>
#include <new>
#include <string>

#include "shufflenet/descriptor.h"
#include "shufflenet/model.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// What a C model is.
struct CModel {
    Model model;        ///< It does the work.
    std::string error;  ///< Message of the last run that failed.
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
            return weights_path != nullptr ? made->model.load_weights(std::string(weights_path))
                                           : made->model.load_embedded_weights();
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
    const Status status = model.model.share(&made->model, threads);
    if (status.ok()) {
        *other = made;
    } else {
        delete made;
    }
    return c_report(status, error, error_size);
}

/// `<name>_run()`. `image`: floats of one input image.
inline int c_run(CModel &model, const float *input, int batch, float *logits, size_t image) {
    const size_t images = batch > 0 ? size_t(batch) : 0;
    const Status status =
        model.model.run({input, images * image}, batch, {logits, images * size_t(model.model.classes())});
    if (status.ok()) return 0;
    const Status kept = c_guard([&] {
        model.error = status.message();
        return Status();
    });
    if (!kept.ok()) model.error = kept.message();
    return static_cast<int>(status.code());
}

}  // namespace shufflenet
