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
    /// Whether a sum of a DevicePointer and bytes is one, too. Otherwise what is within an allocation has to be copied
    /// to where it belongs.
    virtual bool has_addresses() const = 0;

    virtual Status allocate(size_t bytes, DevicePointer *memory) = 0;
    virtual void release(DevicePointer memory) noexcept = 0;

    virtual Status make_stream(void **stream) = 0;
    virtual void release_stream(void *stream) noexcept = 0;
    /// Keeps a stream of the caller's alive until release_hold(), where the driver counts its users.
    virtual void hold_stream(void *stream) noexcept = 0;
    virtual void release_hold(void *stream) noexcept = 0;
    /// Makes this context the thread's current one; leave() restores what was. Calls below are made in between.
    virtual Status enter() noexcept = 0;
    virtual void leave() noexcept = 0;
    /// For destructors that could not enter(): nothing is released from now on, because what is of a context that has
    /// gone went with it.
    virtual void abandon() noexcept = 0;

    virtual Status zero(void *stream, DevicePointer to, size_t bytes) noexcept = 0;
    /// Copies are enqueued; host memory must stay until synchronize(). `first`: the first byte.
    virtual Status upload(void *stream, DevicePointer to, const void *from, size_t bytes) noexcept = 0;
    virtual Status download(void *stream, void *to, DevicePointer from, size_t first, size_t bytes) noexcept = 0;
    /// Of the device's own memory, to byte `first` of another allocation; where has_addresses() is false.
    virtual Status copy(void * /*stream*/, DevicePointer /*to*/, size_t /*first*/, DevicePointer /*from*/,
                        size_t /*bytes*/) noexcept {
        return {Code::kInternal, {}};
    }
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

/// While it lives, a context is the thread's current one, if status() is.
class Entered {
  public:
    explicit Entered(DeviceApi &api) noexcept : api_(api), status_(api.enter()) {}
    ~Entered() {
        if (status_.ok()) api_.leave();
    }
    Entered(const Entered &) = delete;
    Entered &operator=(const Entered &) = delete;
    const Status &status() const noexcept { return status_; }

  private:
    DeviceApi &api_;
    Status status_;
};

/// The same to release what is the context's.
class EnteredToRelease : public Entered {
  public:
    explicit EnteredToRelease(DeviceApi &api) noexcept : Entered(api) {
        if (!status().ok()) api.abandon();
    }
};

/// Loads the driver and opens the device or takes the caller's context.
Status open_cuda(const DeviceOptions &options, std::shared_ptr<DeviceApi> *api);
Status open_opencl(const DeviceOptions &options, std::shared_ptr<DeviceApi> *api);

}  // namespace shufflenet::inline SHUFFLENET_ABI
