// OpenCL's API, declared as far as it is used, so that neither its headers nor its library are needed to build.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "device_api.h"
#include "networks/devices.h"
#include "shared_library.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

constexpr const char *kLibrary = "libOpenCL.so.1";

using Result = int32_t;
using Handle = void *;
constexpr Result kSuccess = 0;
constexpr Result kNotFound = -1;            // CL_DEVICE_NOT_FOUND
constexpr Result kAllocationFailure = -4;   // CL_MEM_OBJECT_ALLOCATION_FAILURE
constexpr Result kOutOfResources = -5;      // CL_OUT_OF_RESOURCES
constexpr Result kOutOfHostMemory = -6;     // CL_OUT_OF_HOST_MEMORY
constexpr Result kInvalidBufferSize = -61;  // CL_INVALID_BUFFER_SIZE: larger than the device allows
constexpr Result kNoPlatforms = -1001;      // CL_PLATFORM_NOT_FOUND_KHR

constexpr uint64_t kReadWrite = 1;               // CL_MEM_READ_WRITE
constexpr uint64_t kAllTypes = 0xFFFFFFFF;       // CL_DEVICE_TYPE_ALL
constexpr uint32_t kDeviceName = 0x102B;         // CL_DEVICE_NAME
constexpr uint32_t kGroupSize = 0x1004;          // CL_DEVICE_MAX_WORK_GROUP_SIZE
constexpr uint32_t kConstantSize = 0x1020;       // CL_DEVICE_MAX_CONSTANT_BUFFER_SIZE
constexpr uint32_t kConstantArguments = 0x1021;  // CL_DEVICE_MAX_CONSTANT_ARGS
constexpr uint32_t kLocalSize = 0x1023;          // CL_DEVICE_LOCAL_MEM_SIZE
constexpr uint32_t kContextDevices = 0x1081;     // CL_CONTEXT_DEVICES
constexpr uint32_t kBuildLog = 0x1183;           // CL_PROGRAM_BUILD_LOG

/// The local memory of a group that kernels are compiled for, in bytes.
constexpr int kLocalBytes = find_device("opencl")->shared_bytes;

struct Driver {
    Result (*platforms)(uint32_t, Handle *, uint32_t *) = nullptr;
    Result (*devices)(Handle, uint64_t, uint32_t, Handle *, uint32_t *) = nullptr;
    Result (*device_info)(Handle, uint32_t, size_t, void *, size_t *) = nullptr;
    Handle (*create_context)(const intptr_t *, uint32_t, const Handle *, void *, void *, Result *) = nullptr;
    Result (*context_info)(Handle, uint32_t, size_t, void *, size_t *) = nullptr;
    Result (*retain_context)(Handle) = nullptr;
    Result (*release_context)(Handle) = nullptr;
    Handle (*create_queue)(Handle, Handle, uint64_t, Result *) = nullptr;
    Result (*retain_queue)(Handle) = nullptr;
    Result (*release_queue)(Handle) = nullptr;
    Handle (*create_buffer)(Handle, uint64_t, size_t, void *, Result *) = nullptr;
    Result (*release_memory)(Handle) = nullptr;
    Result (*write)(Handle, Handle, uint32_t, size_t, size_t, const void *, uint32_t, const Handle *,
                    Handle *) = nullptr;
    Result (*read)(Handle, Handle, uint32_t, size_t, size_t, void *, uint32_t, const Handle *, Handle *) = nullptr;
    Result (*copy)(Handle, Handle, Handle, size_t, size_t, size_t, uint32_t, const Handle *, Handle *) = nullptr;
    Result (*fill)(Handle, Handle, const void *, size_t, size_t, size_t, uint32_t, const Handle *, Handle *) = nullptr;
    Result (*finish)(Handle) = nullptr;
    Handle (*create_program)(Handle, uint32_t, const char **, const size_t *, Result *) = nullptr;
    Result (*build)(Handle, uint32_t, const Handle *, const char *, void *, void *) = nullptr;
    Result (*build_info)(Handle, Handle, uint32_t, size_t, void *, size_t *) = nullptr;
    Result (*release_program)(Handle) = nullptr;
    Handle (*create_kernel)(Handle, const char *, Result *) = nullptr;
    Result (*release_kernel)(Handle) = nullptr;
    Result (*set_argument)(Handle, uint32_t, size_t, const void *) = nullptr;
    Result (*enqueue)(Handle, Handle, uint32_t, const size_t *, const size_t *, const size_t *, uint32_t,
                      const Handle *, Handle *) = nullptr;

    Status load();
};

Status Driver::load() {
    void *handle = nullptr;
    if (Status status = load_library(kLibrary, &handle); !status.ok()) return status;
    Status status;
    const auto find = [&](const char *name, auto *function) {
        if (status.ok()) status = load_function(handle, kLibrary, name, function);
    };
    find("clGetPlatformIDs", &platforms);
    find("clGetDeviceIDs", &devices);
    find("clGetDeviceInfo", &device_info);
    find("clCreateContext", &create_context);
    find("clGetContextInfo", &context_info);
    find("clRetainContext", &retain_context);
    find("clReleaseContext", &release_context);
    find("clCreateCommandQueue", &create_queue);
    find("clRetainCommandQueue", &retain_queue);
    find("clReleaseCommandQueue", &release_queue);
    find("clCreateBuffer", &create_buffer);
    find("clReleaseMemObject", &release_memory);
    find("clEnqueueWriteBuffer", &write);
    find("clEnqueueReadBuffer", &read);
    find("clEnqueueCopyBuffer", &copy);
    find("clEnqueueFillBuffer", &fill);
    find("clFinish", &finish);
    find("clCreateProgramWithSource", &create_program);
    find("clBuildProgram", &build);
    find("clGetProgramBuildInfo", &build_info);
    find("clReleaseProgram", &release_program);
    find("clCreateKernel", &create_kernel);
    find("clReleaseKernel", &release_kernel);
    find("clSetKernelArg", &set_argument);
    find("clEnqueueNDRangeKernel", &enqueue);
    return status;
}

// NOLINTNEXTLINE(performance-no-int-to-ptr): the interface has cl_mem and CUdeviceptr as one integer.
Handle handle_of(DevicePointer memory) { return reinterpret_cast<Handle>(static_cast<uintptr_t>(memory)); }
DevicePointer pointer_of(Handle memory) { return reinterpret_cast<uintptr_t>(memory); }

class OpenCl final : public DeviceApi {
  public:
    explicit OpenCl(const Driver &driver) : d_(driver) {}
    ~OpenCl() override {
        if (held_) d_.release_context(context_);
    }
    OpenCl(const OpenCl &) = delete;
    OpenCl &operator=(const OpenCl &) = delete;

    Status open(const DeviceOptions &options);

    std::string name() const override { return name_; }
    bool has_addresses() const override { return false; }

    Status allocate(size_t bytes, DevicePointer *memory) override {
        Result result = kSuccess;
        *memory = pointer_of(d_.create_buffer(context_, kReadWrite, bytes, nullptr, &result));
        return check(result, "clCreateBuffer", bytes);
    }
    void release(DevicePointer memory) noexcept override { d_.release_memory(handle_of(memory)); }

    Status make_stream(void **stream) override {
        Result result = kSuccess;
        *stream = d_.create_queue(context_, device_, 0, &result);
        return check(result, "clCreateCommandQueue");
    }
    void release_stream(void *stream) noexcept override { d_.release_queue(stream); }
    void hold_stream(void *stream) noexcept override { d_.retain_queue(stream); }
    void release_hold(void *stream) noexcept override { d_.release_queue(stream); }
    Status enter() noexcept override { return {}; }
    void leave() noexcept override {}
    void abandon() noexcept override {}

    Status zero(void *stream, DevicePointer to, size_t bytes) noexcept override {
        const float zero = 0;
        return check(d_.fill(stream, handle_of(to), &zero, sizeof zero, 0, bytes, 0, nullptr, nullptr),
                     "clEnqueueFillBuffer");
    }
    Status upload(void *stream, DevicePointer to, const void *from, size_t bytes) noexcept override {
        return check(d_.write(stream, handle_of(to), 0, 0, bytes, from, 0, nullptr, nullptr), "clEnqueueWriteBuffer");
    }
    Status download(void *stream, void *to, DevicePointer from, size_t first, size_t bytes) noexcept override {
        return check(d_.read(stream, handle_of(from), 0, first, bytes, to, 0, nullptr, nullptr), "clEnqueueReadBuffer");
    }
    Status copy(void *stream, DevicePointer to, size_t first, DevicePointer from, size_t bytes) noexcept override {
        return check(d_.copy(stream, handle_of(from), handle_of(to), 0, first, bytes, 0, nullptr, nullptr),
                     "clEnqueueCopyBuffer");
    }
    Status synchronize(void *stream) noexcept override { return check(d_.finish(stream), "clFinish"); }

    Status load_module(const char *source, size_t size, void **module) override;
    void release_module(void *module) noexcept override { d_.release_program(module); }
    Status make_kernel(void *module, const char *name, void **kernel) override {
        Result result = kSuccess;
        *kernel = d_.create_kernel(module, name, &result);
        return check(result, "clCreateKernel");
    }
    void release_kernel(void *kernel) noexcept override { d_.release_kernel(kernel); }
    bool launch(void *stream, void *kernel, const LaunchShape &shape, const LaunchArguments &arguments, char *error,
                size_t size) noexcept override;

    bool has_graphs() const override { return false; }
    Status begin_capture(void * /*stream*/) override { return no_graphs(); }
    Status end_capture(void * /*stream*/, std::unique_ptr<DeviceGraph> * /*graph*/) override { return no_graphs(); }
    Status replay(void * /*stream*/, const DeviceGraph & /*graph*/) noexcept override { return no_graphs(); }

  private:
    static Status no_graphs() { return {Code::kUnsupported, "opencl: has no graphs"}; }
    Status find_device(int index);
    Status read_limits();
    template <typename T>
    Status info(uint32_t what, T *value) const {
        return check(d_.device_info(device_, what, sizeof *value, value, nullptr), "clGetDeviceInfo");
    }
    Status check(Result result, const char *function, size_t bytes = 0) const noexcept;

    const Driver &d_;
    Handle device_ = nullptr, context_ = nullptr;
    bool held_ = false;  ///< A use of the context is ours to release.
    uint32_t constant_arguments_ = 0;
    uint64_t constant_bytes_ = 0;
    std::string name_;
};

Status OpenCl::check(Result result, const char *function, size_t bytes) const noexcept {
    if (result == kSuccess) return {};
    const bool memory = result == kAllocationFailure || result == kOutOfResources || result == kOutOfHostMemory ||
                        result == kInvalidBufferSize;
    const Code code = memory ? Code::kOutOfMemory : Code::kInternal;
    try {
        std::string message = "opencl: " + (name_.empty() ? "" : name_ + ": ") + function;
        if (bytes > 0) message += " of " + std::to_string(bytes) + " bytes";
        return {code, message + (memory ? ": out of memory, error " : ": error ") + std::to_string(result)};
    } catch (const std::bad_alloc &) {
        return {code, {}};
    }
}

/// Devices are counted over all platforms, in the order in which the driver lists them.
Status OpenCl::find_device(int index) {
    uint32_t count = 0;
    Result result = d_.platforms(0, nullptr, &count);
    if (result == kNoPlatforms || (result == kSuccess && count == 0)) {
        return {Code::kUnsupported, "opencl: no device: no platform is installed"};
    }
    if (Status status = check(result, "clGetPlatformIDs"); !status.ok()) return status;
    std::vector<Handle> platforms(count), all;
    if (Status s = check(d_.platforms(count, platforms.data(), nullptr), "clGetPlatformIDs"); !s.ok()) return s;
    for (Handle platform : platforms) {
        result = d_.devices(platform, kAllTypes, 0, nullptr, &count);
        if (result == kNotFound || (result == kSuccess && count == 0)) continue;
        if (Status status = check(result, "clGetDeviceIDs"); !status.ok()) return status;
        all.resize(all.size() + count);
        result = d_.devices(platform, kAllTypes, count, &all[all.size() - count], nullptr);
        if (Status status = check(result, "clGetDeviceIDs"); !status.ok()) return status;
    }
    if (all.empty()) return {Code::kUnsupported, "opencl: no device"};
    if (index < 0 || index >= static_cast<int>(all.size())) {
        return {Code::kUnsupported, "opencl: device " + std::to_string(index) + ": expected 0 to " +
                                        std::to_string(all.size() - 1) + ", as many as there are"};
    }
    device_ = all[index];
    return {};
}

Status OpenCl::read_limits() {
    char name[256] = {};
    if (d_.device_info(device_, kDeviceName, sizeof name - 1, name, nullptr) == kSuccess) name_ = name;
    uint64_t local = 0;
    size_t group = 0;
    for (Status status : {info(kLocalSize, &local), info(kGroupSize, &group), info(kConstantSize, &constant_bytes_),
                          info(kConstantArguments, &constant_arguments_)}) {
        if (!status.ok()) return status;
    }
    if (local < uint64_t{kLocalBytes}) {
        return {Code::kUnsupported, "opencl: " + name_ + ": has " + std::to_string(local) +
                                        " bytes of local memory, expected " + std::to_string(kLocalBytes)};
    }
    if (group < kMostThreads) {
        return {Code::kUnsupported, "opencl: " + name_ + ": has work groups of " + std::to_string(group) +
                                        ", expected " + std::to_string(kMostThreads)};
    }
    return {};
}

Status OpenCl::open(const DeviceOptions &options) {
    if (options.context != nullptr) {
        context_ = options.context;
        // Of several devices, the first.
        size_t bytes = 0;
        Result result = d_.context_info(context_, kContextDevices, 0, nullptr, &bytes);
        std::vector<Handle> devices(bytes / sizeof(Handle));
        if (result == kSuccess) result = d_.context_info(context_, kContextDevices, bytes, devices.data(), nullptr);
        if (Status status = check(result, "clGetContextInfo"); !status.ok()) return status;
        if (devices.empty()) return {Code::kUnsupported, "opencl: no device: the context has none"};
        device_ = devices.front();
        if (Status status = read_limits(); !status.ok()) return status;
        result = d_.retain_context(context_);
        held_ = result == kSuccess;
        return check(result, "clRetainContext");
    }
    if (Status status = find_device(options.index); !status.ok()) return status;
    if (Status status = read_limits(); !status.ok()) return status;
    Result result = kSuccess;
    // cppcheck-suppress danglingLifetime  ; the driver writes to it and forgets it
    context_ = d_.create_context(nullptr, 1, &device_, nullptr, nullptr, &result);
    held_ = result == kSuccess;
    return check(result, "clCreateContext");
}

Status OpenCl::load_module(const char *source, size_t size, void **module) {
    Result result = kSuccess;
    const size_t length = strnlen(source, size);
    Handle program = d_.create_program(context_, 1, &source, &length, &result);
    if (Status status = check(result, "clCreateProgramWithSource"); !status.ok()) return status;
    // Halide's sources ask for these two.
    const std::string options = "-D MAX_CONSTANT_BUFFER_SIZE=" + std::to_string(constant_bytes_) +
                                " -D MAX_CONSTANT_ARGS=" + std::to_string(constant_arguments_);
    result = d_.build(program, 1, &device_, options.c_str(), nullptr, nullptr);
    if (result == kSuccess) {
        *module = program;
        return {};
    }
    std::string log(2048, '\0');
    if (d_.build_info(program, device_, kBuildLog, log.size() - 1, log.data(), nullptr) != kSuccess) log.clear();
    d_.release_program(program);
    const std::string first_line = log.substr(0, log.find_first_of(std::string_view("\n\0", 2)));
    return {Code::kInternal,
            "opencl: " + name_ + ": clBuildProgram: error " + std::to_string(result) + ": " + first_line};
}

bool OpenCl::launch(void *stream, void *kernel, const LaunchShape &shape, const LaunchArguments &arguments, char *error,
                    size_t size) noexcept {
    // This device may allow more than every device does, which the next one would not.
    const int threads = shape.threads[0] * shape.threads[1] * shape.threads[2];
    if (threads > kMostThreads || shape.shared_bytes > kLocalBytes) {
        std::snprintf(error, size, "a work group of %d with %d bytes of local memory: expected at most %d with %d",
                      threads, shape.shared_bytes, kMostThreads, kLocalBytes);
        return false;
    }
    uint32_t i = 0;
    Result result = kSuccess;
    for (; arguments.sizes[i] != 0 && result == kSuccess; ++i) {
        if (arguments.is_buffer[i] == 0) {
            result = d_.set_argument(kernel, i, arguments.sizes[i], arguments.values[i]);
            continue;
        }
        // The first member of a halide_buffer_t.
        uint64_t memory = 0;
        std::memcpy(&memory, arguments.values[i], sizeof memory);
        Handle handle = handle_of(memory);
        result = d_.set_argument(kernel, i, sizeof handle, &handle);
    }
    // Local memory is the last argument, and may not be none.
    if (result == kSuccess)
        result = d_.set_argument(kernel, i, std::max<size_t>(size_t(shape.shared_bytes), 1), nullptr);
    if (result != kSuccess) {
        std::snprintf(error, size, "clSetKernelArg %u: error %d", i, result);
        return false;
    }
    size_t global[3], local[3];
    for (int d = 0; d < 3; ++d) {
        local[d] = static_cast<size_t>(shape.threads[d]);
        global[d] = local[d] * static_cast<size_t>(shape.blocks[d]);
    }
    result = d_.enqueue(stream, kernel, 3, nullptr, global, local, 0, nullptr, nullptr);
    if (result == kSuccess) return true;
    std::snprintf(error, size, "clEnqueueNDRangeKernel: error %d", result);
    return false;
}

}  // namespace

Status open_opencl(const DeviceOptions &options, std::shared_ptr<DeviceApi> *api) {
    const Driver *driver = nullptr;
    if (Status status = get_driver(&driver); !status.ok()) return status;
    auto opencl = std::make_shared<OpenCl>(*driver);
    Status status = opencl->open(options);
    if (status.ok()) *api = std::move(opencl);
    return status;
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
