/// @file
/// A model on a device: the same networks, compiled for CUDA or OpenCL, with weights and activations in its memory.
///
/// In the libraries of models with DEVICES (shufflenet_add_model()) alone.
///
/// The device's driver is looked for when a model is opened, never linked with: libcuda.so.1, libOpenCL.so.1. Where
/// there is none, open() says so, and the CPU's Model (model.h) works in the same program as ever.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "shufflenet/model.h"
#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

struct DeviceModelState;

/// Where and how a model is opened.
struct DeviceOptions {
    /// "cuda" or "opencl".
    std::string device;
    /// Which one, counted from 0 as the driver counts them; not used where a context is given.
    int index = 0;
    /// Images that one chain of kernels computes, 1 to 4096; memory is for so many, and larger batches of run() are
    /// computed in pieces.
    int max_batch = 8;
    /// The caller's CUcontext or cl_context. Null: the device's primary context, or an OpenCL context of the model's
    /// own. Models retain it, and so it may be released while they live, but for a context of cuCtxCreate().
    void *context = nullptr;
    /// The caller's CUstream or in-order cl_command_queue of that context. Null: one of the model's own. A queue is
    /// retained; a CUstream must live as long as the model.
    void *stream = nullptr;
    /// CUDA: replay the kernels as a graph, captured when a batch size (and, on device memory, its addresses) is new.
    bool graph = false;
};

/// Memory of the device: a CUdeviceptr, or a cl_mem cast to an integer.
using DevicePointer = uint64_t;

/// One launch: the layers that it computes, their multiply-adds, and the bytes that it cannot but move.
struct KernelCost {
    std::string id;             ///< E.g. "stage3_unit0_branch1".
    int64_t multiply_adds = 0;  ///< Of the whole batch.
    int64_t bytes = 0;          ///< Inputs, weights and outputs, each once.
};

/// One runnable model on a device. As Model: one thread at a time uses an object; share() makes others for other
/// threads. The calling thread's current CUDA context is the same after every call as before it.
class DeviceModel {
  public:
    DeviceModel() noexcept;  ///< Not open.
    /// Leaves the other one not open.
    DeviceModel(DeviceModel &&) noexcept;
    /// Leaves the other one not open.
    DeviceModel &operator=(DeviceModel &&) noexcept;
    /// Waits for what it enqueued.
    ~DeviceModel();

    /// Finds the device and takes memory for activations. Errors (kUnsupported): compiled without kernels for
    /// the device, no driver, no such device, too old a device; kOutOfMemory; kInternal: the driver reports an error.
    Status open(const shufflenet_descriptor &descriptor, const DeviceOptions &options);

    /// As Model's, and then to the device's memory; the first one compiles the kernels for the device. On error the
    /// model keeps the weights it had.
    Status load_weights(const std::string &path);
    /// `name`: what error messages call it.
    Status load_weights(std::span<const std::byte> safetensors, const std::string &name);
    /// Those that the model was built with.
    Status load_embedded_weights();

    /// A second model object with the same weights and context, activations and stream of its own. `stream` as in
    /// DeviceOptions.
    Status share(DeviceModel *other, void *stream = nullptr) const;

    /// As Model::run(), also for values that are not finite: host memory in and out, any batch; returns when the
    /// results are there.
    Status run(std::span<const float> input, int batch, std::span<const OutputRequest> outputs) noexcept;
    /// The first output, mostly logits: batch * elements() floats, NCHW.
    Status run(std::span<const float> input, int batch, std::span<float> out) noexcept;

    /// Device memory in and out, at most max_batch images, aligned to 4 bytes: enqueues on the stream and returns.
    /// `input`: batch * 3 * height * width floats, NCHW, normalised; `out`: batch * classes() floats, what a last
    /// linear layer computes. Takes no memory, of the device or of the heap, except where a graph is captured. Error
    /// (kUnsupported): the model has no such layer.
    Status enqueue(DevicePointer input, int batch, DevicePointer out) noexcept;

    /// The model's own device memory of max_batch inputs, and of as many rows of classes(), which run() uses; for
    /// enqueue().
    DevicePointer own_input() const;
    DevicePointer own_output() const;  ///< See own_input(); 0: the model has no last linear layer.

    /// Waits for what was enqueued; returns the first error of it.
    Status synchronize() noexcept;

    /// Of a model that is not open, this and what follows is empty, 0 or "".
    OutputShape output_shape(std::string_view name) const;
    /// All of them, in order.
    std::vector<OutputInfo> outputs() const;
    int classes() const;    ///< Of a last linear layer, as the loaded weights say, or as built; 0: there is none.
    int max_batch() const;  ///< As in DeviceOptions.
    /// The kernels that a run of such a batch (1 to max_batch) launches, in order.
    std::vector<KernelCost> kernels(int batch) const;
    /// Bytes of device memory of this object's activations.
    size_t activation_bytes() const;
    /// As the driver names it.
    std::string device_name() const;

  private:
    std::unique_ptr<DeviceModelState> state_;
};

/// The devices that kernels were compiled for, comma separated; empty: none, or a model of another version.
std::string compiled_devices(const shufflenet_descriptor &descriptor);

}  // namespace shufflenet::inline SHUFFLENET_ABI
