// The passage of a batch through the calls of a device's program.
#pragma once

#include "device_launcher.h"
#include "device_memory.h"
#include "device_weights.h"
#include "kernel_context.h"
#include "shufflenet/descriptor.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Activations of so many images.
struct DeviceArena {
    int images = 0;
    DeviceMemory arena;    ///< Planes.
    DeviceMemory rows;     ///< What last linear layers read, as planes of one pixel.
    DeviceMemory staging;  ///< What a kernel writes, where that cannot be a part of what it reads.

    Status allocate(DeviceApi &api, void *stream, const shufflenet_program &program, int count);
    size_t bytes() const { return arena.bytes() + rows.bytes() + staging.bytes(); }
};

class DeviceRun {
  public:
    DeviceRun(const shufflenet_device &device, const shufflenet_kernel *kernels, DeviceLauncher &launcher, void *stream,
              const DeviceArena &arena)
        : program_(*device.program), kernels_(kernels), api_(launcher.api()), stream_(stream), arena_(arena) {
        context_.device = &launcher;
        preparing_ = launcher.preparing();
    }

    /// `in`: NCHW, of `floats` in all; `out`: of a last linear layer. False: see error().
    bool chain(const DeviceWeights &weights, DevicePointer in, int64_t floats, int images, DevicePointer out);
    Status error(const char *model, const std::string &device) const noexcept;

  private:
    struct Place {
        DevicePointer memory;
        bool staged;  ///< To be copied to where it belongs.
    };
    Place place_of(const shufflenet_call &call) const;
    bool call_for_planes(const shufflenet_call &call, const DeviceConstants &constants);
    bool call_for_rows(const shufflenet_call &call, const DeviceConstants &constants);
    bool run(const shufflenet_call &call, const DeviceConstants &constants, DeviceArgument &in, DeviceArgument &out,
             DeviceArgument &tail);
    bool move(const shufflenet_call &call, int64_t floats);

    const shufflenet_program &program_;
    const shufflenet_kernel *kernels_;
    DeviceApi &api_;
    void *stream_;
    const DeviceArena &arena_;
    bool preparing_;

    DevicePointer in_ = 0, out_ = 0;
    int64_t in_floats_ = 0;
    int images_ = 1, classes_ = 0;
    KernelError error_;
    KernelContext context_{.error = &error_};
    const char *failed_ = "";  ///< The call.
    Status status_;            ///< Of what is no kernel.
};

}  // namespace shufflenet::inline SHUFFLENET_ABI
