// What generated functions call of Halide's CUDA and OpenCL runtimes, in our own terms: Halide's load the drivers by
// names that only developers have, make contexts that nobody else uses, and allocate at every launch.
#include "device_launcher.h"
#include "halide_hooks.h"

namespace shufflenet::inline SHUFFLENET_ABI {

DeviceModules::~DeviceModules() {
    const Entered entered(*api_);
    for (const auto &[source, module] : loaded_) api_->release_module(module);
}

Status DeviceModules::get(const char *source, size_t size, void **module) {
    const std::lock_guard lock(mutex_);
    const auto found = loaded_.find(source);
    if (found != loaded_.end()) {
        *module = found->second;
        return {};
    }
    Status status = api_->load_module(source, size, module);
    if (status.ok()) loaded_[source] = *module;
    return status;
}

DeviceLauncher::~DeviceLauncher() {
    const Entered entered(api());
    for (const auto &[name, kernel] : kernels_) api().release_kernel(kernel);
}

Status DeviceLauncher::make(const char *name) {
    void *module = nullptr;
    if (Status status = modules_->get(source_, static_cast<size_t>(source_size_), &module); !status.ok()) return status;
    void *kernel = nullptr;
    if (Status status = api().make_kernel(module, name, &kernel); !status.ok()) return status;
    kernels_[{source_, name}] = kernel;
    return {};
}

int DeviceLauncher::run(KernelContext &context, const char *name, const LaunchShape &shape,
                        const LaunchArguments &arguments) noexcept {
    const auto kernel = kernels_.find({source_, name});
    bool ok = true;
    if (preparing_) {
        if (kernel != kernels_.end()) return 0;
        try {
            if (prepared_.ok()) prepared_ = make(name);
        } catch (const std::bad_alloc &) {
            prepared_ = {Code::kOutOfMemory, {}};
        }
        ok = prepared_.ok();
    } else if (kernel == kernels_.end()) {
        SHUFFLENET_HALIDE(error)(&context, "a kernel that was not prepared");
        ok = false;
    } else {
        std::array<char, 256> message{};
        ok = api().launch(stream_, kernel->second, shape, arguments, message.data(), message.size());
        if (!ok) SHUFFLENET_HALIDE(error)(&context, message.data());
        ++launches_;
    }
    if (!ok) context.error->failed.store(true);
    return ok ? 0 : -1;
}

namespace {

/// Its address is all that is used of it.
const halide_device_interface_t device_interface{};

int initialize(void *context, const char *source, int size) {
    static_cast<KernelContext *>(context)->device->select(source, size);
    return 0;
}

}  // namespace

}  // namespace shufflenet

extern "C" {

int SHUFFLENET_HALIDE(copy_to_device)(void *context, halide_buffer_t *buffer, const halide_device_interface_t *) {
    // Everything is on the device before kernels run.
    if (buffer->device != 0) return 0;
    SHUFFLENET_HALIDE(error)(context, "a kernel's argument is not on the device");
    return -1;
}

int SHUFFLENET_HALIDE(device_malloc)(void *context, halide_buffer_t *buffer,
                                     const halide_device_interface_t *interface) {
    return SHUFFLENET_HALIDE(copy_to_device)(context, buffer, interface);
}

#define SHUFFLENET_DEVICE_HOOKS(api)                                                                                  \
    int SHUFFLENET_HALIDE(api##_initialize_kernels)(void *context, void **, const char *source, int size) {           \
        return shufflenet::initialize(context, source, size);                                                         \
    }                                                                                                                 \
    int SHUFFLENET_HALIDE(api##_run)(void *context, void *, const char *name, int bx, int by, int bz, int tx, int ty, \
                                     int tz, int shared, size_t sizes[], void *values[], int8_t is_buffer[]) {        \
        auto *run = static_cast<shufflenet::KernelContext *>(context);                                                \
        return run->device->run(*run, name, {{bx, by, bz}, {tx, ty, tz}, shared}, {sizes, values, is_buffer});        \
    }                                                                                                                 \
    void SHUFFLENET_HALIDE(api##_finalize_kernels)(void *, void *) {}                                                 \
    const halide_device_interface_t *SHUFFLENET_HALIDE(api##_device_interface)() {                                    \
        return &shufflenet::device_interface;                                                                         \
    }

// NOLINTBEGIN(readability-non-const-parameter): as Halide declares them.
SHUFFLENET_DEVICE_HOOKS(cuda)
SHUFFLENET_DEVICE_HOOKS(opencl)
// NOLINTEND(readability-non-const-parameter)

}  // extern "C"
