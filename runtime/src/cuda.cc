// CUDA's driver API, declared as far as it is used, so that nothing of CUDA is needed to build.
#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <vector>

#include "device_api.h"
#include "shared_library.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

constexpr const char *kLibrary = "libcuda.so.1";

using Result = int;
using Device = int;
constexpr Result kSuccess = 0;
constexpr Result kOutOfMemory = 2;
constexpr Result kNoDevice = 100;
constexpr Result kNoBinary = 209;   // CUDA_ERROR_NO_BINARY_FOR_GPU
constexpr Result kBadPtx = 218;     // CUDA_ERROR_INVALID_PTX
constexpr Result kOldDriver = 222;  // CUDA_ERROR_UNSUPPORTED_PTX_VERSION

// CUdevice_attribute
constexpr int kMajor = 75;
constexpr int kMinor = 76;

/// The oldest compute capability that the kernels are compiled for.
constexpr int kOldestMajor = 7;

constexpr unsigned kNonBlocking = 1;     // CU_STREAM_NON_BLOCKING
constexpr unsigned kCaptureRelaxed = 2;  // CU_STREAM_CAPTURE_MODE_RELAXED

struct Driver {
    Result (*init)(unsigned) = nullptr;
    Result (*error_string)(Result, const char **) = nullptr;
    Result (*device_count)(int *) = nullptr;
    Result (*device_get)(Device *, int) = nullptr;
    Result (*device_name)(char *, int, Device) = nullptr;
    Result (*device_attribute)(int *, int, Device) = nullptr;
    Result (*primary_state)(Device, unsigned *, int *) = nullptr;
    Result (*primary_retain)(void **, Device) = nullptr;
    Result (*primary_release)(Device) = nullptr;
    Result (*push)(void *) = nullptr;
    Result (*pop)(void **) = nullptr;
    Result (*current_device)(Device *) = nullptr;
    Result (*alloc)(uint64_t *, size_t) = nullptr;
    Result (*free)(uint64_t) = nullptr;
    Result (*to_device)(uint64_t, const void *, size_t, void *) = nullptr;
    Result (*to_host)(void *, uint64_t, size_t, void *) = nullptr;
    Result (*memset)(uint64_t, unsigned char, size_t, void *) = nullptr;
    Result (*stream_create)(void **, unsigned) = nullptr;
    Result (*stream_destroy)(void *) = nullptr;
    Result (*stream_synchronize)(void *) = nullptr;
    Result (*module_load)(void **, const void *) = nullptr;
    Result (*module_unload)(void *) = nullptr;
    Result (*get_function)(void **, void *, const char *) = nullptr;
    Result (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                     void **) = nullptr;
    Result (*begin_capture)(void *, unsigned) = nullptr;
    Result (*end_capture)(void *, void **) = nullptr;
    Result (*instantiate)(void **, void *, unsigned long long) = nullptr;
    Result (*graph_destroy)(void *) = nullptr;
    Result (*exec_destroy)(void *) = nullptr;
    Result (*graph_launch)(void *, void *) = nullptr;

    /// Finds all of them, and initialises the driver.
    Status load();

  private:
    Status initialize() const;
};

Status Driver::load() {
    void *handle = nullptr;
    if (Status status = load_library(kLibrary, &handle); !status.ok()) return status;
    Status status;
    const auto find = [&](const char *name, auto *function) {
        if (status.ok()) status = load_function(handle, kLibrary, name, function);
    };
    find("cuInit", &init);
    find("cuGetErrorString", &error_string);
    find("cuDeviceGetCount", &device_count);
    find("cuDeviceGet", &device_get);
    find("cuDeviceGetName", &device_name);
    find("cuDeviceGetAttribute", &device_attribute);
    find("cuDevicePrimaryCtxGetState", &primary_state);
    find("cuDevicePrimaryCtxRetain", &primary_retain);
    find("cuDevicePrimaryCtxRelease_v2", &primary_release);
    find("cuCtxPushCurrent_v2", &push);
    find("cuCtxPopCurrent_v2", &pop);
    find("cuCtxGetDevice", &current_device);
    find("cuMemAlloc_v2", &alloc);
    find("cuMemFree_v2", &free);
    find("cuMemcpyHtoDAsync_v2", &to_device);
    find("cuMemcpyDtoHAsync_v2", &to_host);
    find("cuMemsetD8Async", &memset);
    find("cuStreamCreate", &stream_create);
    find("cuStreamDestroy_v2", &stream_destroy);
    find("cuStreamSynchronize", &stream_synchronize);
    find("cuModuleLoadData", &module_load);
    find("cuModuleUnload", &module_unload);
    find("cuModuleGetFunction", &get_function);
    find("cuLaunchKernel", &launch);
    find("cuStreamBeginCapture_v2", &begin_capture);
    find("cuStreamEndCapture", &end_capture);
    find("cuGraphInstantiateWithFlags", &instantiate);
    find("cuGraphDestroy", &graph_destroy);
    find("cuGraphExecDestroy", &exec_destroy);
    find("cuGraphLaunch", &graph_launch);
    return status.ok() ? initialize() : status;
}

Status Driver::initialize() const {
    const Result result = init(0);
    if (result == kSuccess) return {};
    const char *text = nullptr;
    error_string(result, &text);
    return {Code::kUnsupported, std::string("cuda: ") + (result == kNoDevice ? "no device: " : "cuInit: ") +
                                    (text != nullptr ? text : std::to_string(result))};
}

class CudaGraph final : public DeviceGraph {
  public:
    CudaGraph(const Driver &driver, const std::atomic<bool> &abandoned, void *executable)
        : driver_(driver), abandoned_(abandoned), executable_(executable) {}
    ~CudaGraph() override {
        if (!abandoned_) driver_.exec_destroy(executable_);
    }
    CudaGraph(const CudaGraph &) = delete;
    CudaGraph &operator=(const CudaGraph &) = delete;
    void *executable() const { return executable_; }

  private:
    const Driver &driver_;
    const std::atomic<bool> &abandoned_;
    void *executable_;
};

class Cuda final : public DeviceApi {
  public:
    explicit Cuda(const Driver &driver) : d_(driver) {}
    ~Cuda() override {
        if (primary_) d_.primary_release(device_);
    }
    Cuda(const Cuda &) = delete;
    Cuda &operator=(const Cuda &) = delete;

    Status open(const DeviceOptions &options);

    std::string name() const override { return name_; }
    bool has_addresses() const override { return true; }

    Status allocate(size_t bytes, DevicePointer *memory) override {
        return check(d_.alloc(memory, bytes), "cuMemAlloc", bytes);
    }
    void release(DevicePointer memory) noexcept override {
        if (!abandoned_) d_.free(memory);
    }

    Status make_stream(void **stream) override {
        return check(d_.stream_create(stream, kNonBlocking), "cuStreamCreate");
    }
    void release_stream(void *stream) noexcept override {
        if (!abandoned_) d_.stream_destroy(stream);
    }
    void hold_stream(void * /*stream*/) noexcept override {}
    void release_hold(void * /*stream*/) noexcept override {}
    Status enter() noexcept override { return check(d_.push(context_), "cuCtxPushCurrent"); }
    void leave() noexcept override {
        void *popped = nullptr;
        d_.pop(&popped);
    }
    void abandon() noexcept override { abandoned_ = true; }

    Status zero(void *stream, DevicePointer to, size_t bytes) noexcept override {
        return check(d_.memset(to, 0, bytes, stream), "cuMemsetD8Async");
    }
    Status upload(void *stream, DevicePointer to, const void *from, size_t bytes) noexcept override {
        return check(d_.to_device(to, from, bytes, stream), "cuMemcpyHtoDAsync");
    }
    Status download(void *stream, void *to, DevicePointer from, size_t first, size_t bytes) noexcept override {
        return check(d_.to_host(to, from + first, bytes, stream), "cuMemcpyDtoHAsync");
    }
    Status synchronize(void *stream) noexcept override {
        return check(d_.stream_synchronize(stream), "cuStreamSynchronize");
    }

    Status load_module(const char *source, size_t size, void **module) override;
    void release_module(void *module) noexcept override {
        if (!abandoned_) d_.module_unload(module);
    }
    Status make_kernel(void *module, const char *name, void **kernel) override {
        return check(d_.get_function(kernel, module, name), "cuModuleGetFunction");
    }
    void release_kernel(void * /*kernel*/) noexcept override {}
    bool launch(void *stream, void *kernel, const LaunchShape &shape, const LaunchArguments &arguments, char *error,
                size_t size) noexcept override;

    bool has_graphs() const override { return true; }
    Status begin_capture(void *stream) override {
        return check(d_.begin_capture(stream, kCaptureRelaxed), "cuStreamBeginCapture");
    }
    Status end_capture(void *stream, std::unique_ptr<DeviceGraph> *graph) override;
    Status replay(void *stream, const DeviceGraph &graph) noexcept override {
        return check(d_.graph_launch(static_cast<const CudaGraph &>(graph).executable(), stream), "cuGraphLaunch");
    }

  private:
    const char *text(Result result) const noexcept {
        const char *text = nullptr;
        d_.error_string(result, &text);
        return text != nullptr ? text : "unknown error";
    }
    Status check(Result result, const char *function, size_t bytes = 0) const noexcept;
    Status find_device(int index);
    Status read_limits();
    Status hold_context();

    const Driver &d_;
    Device device_ = 0;
    void *context_ = nullptr;
    bool primary_ = false;  ///< Retained.
    std::atomic<bool> abandoned_ = false;
    std::string name_;
};

Status Cuda::check(Result result, const char *function, size_t bytes) const noexcept {
    if (result == kSuccess) return {};
    const Code code = result == kOutOfMemory ? Code::kOutOfMemory : Code::kInternal;
    try {
        std::string message = "cuda: " + (name_.empty() ? "" : name_ + ": ") + function;
        if (bytes > 0) message += " of " + std::to_string(bytes) + " bytes";
        return {code, message + ": " + text(result)};
    } catch (const std::bad_alloc &) {
        return {code, {}};
    }
}

Status Cuda::find_device(int index) {
    int count = 0;
    if (Status status = check(d_.device_count(&count), "cuDeviceGetCount"); !status.ok()) return status;
    if (count == 0) return {Code::kUnsupported, "cuda: no device"};
    if (index < 0 || index >= count) {
        return {Code::kUnsupported, "cuda: device " + std::to_string(index) + ": expected 0 to " +
                                        std::to_string(count - 1) + ", as many as there are"};
    }
    return check(d_.device_get(&device_, index), "cuDeviceGet");
}

Status Cuda::read_limits() {
    std::array<char, 256> name{};
    if (d_.device_name(name.data(), int(name.size()) - 1, device_) == kSuccess) name_ = name.data();
    int major = 0, minor = 0;
    const std::pair<int, int *> attributes[] = {{kMajor, &major}, {kMinor, &minor}};
    for (const auto &[attribute, value] : attributes) {
        const Result result = d_.device_attribute(value, attribute, device_);
        if (Status status = check(result, "cuDeviceGetAttribute"); !status.ok()) return status;
    }
    if (major >= kOldestMajor) return {};
    return {Code::kUnsupported, "cuda: " + name_ + ": has compute capability " + std::to_string(major) + "." +
                                    std::to_string(minor) + ", expected " + std::to_string(kOldestMajor) +
                                    ".0 or newer"};
}

/// Keeps the primary context alive, the caller's too; others cannot be kept from cuCtxDestroy().
Status Cuda::hold_context() {
    unsigned flags = 0;
    int active = 0;
    if (context_ != nullptr) {
        const Result result = d_.primary_state(device_, &flags, &active);
        if (Status status = check(result, "cuDevicePrimaryCtxGetState"); !status.ok()) return status;
        if (active == 0) return {};
    }
    void *primary = nullptr;
    const Result result = d_.primary_retain(&primary, device_);
    if (Status status = check(result, "cuDevicePrimaryCtxRetain"); !status.ok()) return status;
    primary_ = context_ == nullptr || context_ == primary;
    if (!primary_) d_.primary_release(device_);
    if (primary_) context_ = primary;
    return {};
}

Status Cuda::open(const DeviceOptions &options) {
    context_ = options.context;
    if (context_ != nullptr) {
        const Entered entered(*this);
        if (!entered.status().ok()) return entered.status();
        if (Status status = check(d_.current_device(&device_), "cuCtxGetDevice"); !status.ok()) return status;
    } else if (Status status = find_device(options.index); !status.ok()) {
        return status;
    }
    if (Status status = read_limits(); !status.ok()) return status;
    return hold_context();
}

Status Cuda::load_module(const char *source, size_t size, void **module) {
    // The driver wants a text that ends.
    const std::string text_of(source, strnlen(source, size));
    const Result result = d_.module_load(module, text_of.c_str());
    if (result == kNoBinary || result == kBadPtx || result == kOldDriver) {
        return {Code::kUnsupported,
                "cuda: " + name_ + ": the kernels were compiled for a newer device or driver: " + text(result)};
    }
    return check(result, "cuModuleLoadData");
}

bool Cuda::launch(void *stream, void *kernel, const LaunchShape &shape, const LaunchArguments &arguments, char *error,
                  size_t size) noexcept {
    constexpr size_t kMost = 32;
    // A buffer's argument is its address on the device; other arguments are as Halide has them.
    std::array<void *, kMost> values{};
    std::array<uint64_t, kMost> addresses{};
    for (size_t i = 0; arguments.sizes[i] != 0; ++i) {
        if (i == kMost) {
            std::snprintf(error, size, "a kernel has more than %zu arguments", kMost);
            return false;
        }
        values[i] = arguments.values[i];
        if (arguments.is_buffer[i] == 0) continue;
        // The first member of a halide_buffer_t.
        std::memcpy(&addresses[i], arguments.values[i], sizeof(uint64_t));
        values[i] = &addresses[i];
    }
    const auto at = [](const int *extents, int i) { return static_cast<unsigned>(extents[i]); };
    const Result result = d_.launch(kernel, at(shape.blocks, 0), at(shape.blocks, 1), at(shape.blocks, 2),
                                    at(shape.threads, 0), at(shape.threads, 1), at(shape.threads, 2),
                                    static_cast<unsigned>(shape.shared_bytes), stream, values.data(), nullptr);
    if (result == kSuccess) return true;
    std::snprintf(error, size, "cuLaunchKernel: %s", text(result));
    return false;
}

Status Cuda::end_capture(void *stream, std::unique_ptr<DeviceGraph> *graph) {
    void *captured = nullptr;
    if (Status status = check(d_.end_capture(stream, &captured), "cuStreamEndCapture"); !status.ok()) return status;
    void *executable = nullptr;
    const Result result = d_.instantiate(&executable, captured, 0);
    d_.graph_destroy(captured);
    if (Status status = check(result, "cuGraphInstantiate"); !status.ok()) return status;
    *graph = std::make_unique<CudaGraph>(d_, abandoned_, executable);
    return {};
}

}  // namespace

Status open_cuda(const DeviceOptions &options, std::shared_ptr<DeviceApi> *api) {
    const Driver *driver = nullptr;
    if (Status status = get_driver(&driver); !status.ok()) return status;
    auto cuda = std::make_shared<Cuda>(*driver);
    Status status = cuda->open(options);
    if (status.ok()) *api = std::move(cuda);
    return status;
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
