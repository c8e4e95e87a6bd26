// What the runtime needs of a device's driver, the same for CUDA and OpenCL.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "shufflenet/device.h"
#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// A kernel's grid, in blocks of threads, and the shared memory of a block.
struct LaunchShape {
    int blocks[3], threads[3];
    int shared_bytes;
};

/// A kernel's arguments, as Halide hands them over: the last size is 0.
struct LaunchArguments {
    const size_t *sizes;
    void *const *values;
    const int8_t *is_buffer;
};

/// Enqueued kernels that are replayed at once.
class DeviceGraph {
  public:
    virtual ~DeviceGraph() = default;
};

/// One context of one device. Handles (streams, modules, kernels) are the driver's. Functions may be called by several
/// threads at once, for streams and kernels of their own.
class DeviceApi {
  public:
    virtual ~DeviceApi() = default;
    DeviceApi(const DeviceApi &) = delete;
    DeviceApi &operator=(const DeviceApi &) = delete;

    virtual std::string name() const = 0;
    /// Multiprocessors, compute units.
    virtual int units() const = 0;
    /// Where a part of an allocation may start, in bytes.
    virtual size_t alignment() const = 0;

    virtual Status allocate(size_t bytes, DevicePointer *memory) = 0;
    virtual void release(DevicePointer memory) noexcept = 0;
    /// A part of an allocation, from an aligned offset on; given back with release_part().
    virtual Status part(DevicePointer whole, size_t offset, size_t bytes, DevicePointer *part) = 0;
    virtual void release_part(DevicePointer part) noexcept = 0;

    virtual Status make_stream(void **stream) = 0;
    virtual void release_stream(void *stream) noexcept = 0;
    /// Makes this context the thread's current one; leave() restores what was. Calls below are made in between.
    virtual void enter() noexcept = 0;
    virtual void leave() noexcept = 0;

    virtual Status zero(void *stream, DevicePointer to, size_t bytes) noexcept = 0;
    /// Copies are enqueued; host memory must stay until synchronize().
    virtual Status upload(void *stream, DevicePointer to, const void *from, size_t bytes) noexcept = 0;
    virtual Status download(void *stream, void *to, DevicePointer from, size_t bytes) noexcept = 0;
    virtual Status synchronize(void *stream) noexcept = 0;

    virtual Status load_module(const char *source, size_t size, void **module) = 0;
    virtual void release_module(void *module) noexcept = 0;
    virtual Status make_kernel(void *module, const char *name, void **kernel) = 0;
    virtual void release_kernel(void *kernel) noexcept = 0;
    /// Takes no memory. On an error the message goes to `error`, of `size` bytes.
    virtual bool launch(void *stream, void *kernel, const LaunchShape &shape, const LaunchArguments &arguments,
                        char *error, size_t size) noexcept = 0;

    /// Whether begin_capture() to replay() are there.
    virtual bool has_graphs() const = 0;
    virtual Status begin_capture(void *stream) = 0;
    virtual Status end_capture(void *stream, std::unique_ptr<DeviceGraph> *graph) = 0;
    virtual Status replay(void *stream, const DeviceGraph &graph) noexcept = 0;

  protected:
    DeviceApi() = default;
};

/// While it lives, a context is the thread's current one.
class Entered {
  public:
    explicit Entered(DeviceApi &api) noexcept : api_(api) { api_.enter(); }
    ~Entered() { api_.leave(); }
    Entered(const Entered &) = delete;
    Entered &operator=(const Entered &) = delete;

  private:
    DeviceApi &api_;
};

/// Loads the driver and opens the device or takes the caller's context.
Status open_cuda(const DeviceOptions &options, std::shared_ptr<DeviceApi> *api);
Status open_opencl(const DeviceOptions &options, std::shared_ptr<DeviceApi> *api);

}  // namespace shufflenet
