// The devices that kernels are compiled for beside the CPU.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "size.h"

namespace shufflenet::inline SHUFFLENET_ABI {

struct DeviceSpec {
    std::string_view name;
    /// What Halide's target string says of it; of CUDA it has the compute capability, too.
    std::string_view halide;
    /// Shared memory of a block that every such device has, in bytes.
    int shared_bytes;
};

/// OpenCL's full profile has 32 KiB at least; CUDA gives a block 48 KiB unasked.
inline constexpr std::array<DeviceSpec, 2> kDevices = {{
    {"opencl", "opencl", 32 << 10},
    {"cuda", "cuda", 48 << 10},
}};

/// Names of the devices, for messages.
inline std::string device_names() {
    std::string names;
    for (const DeviceSpec &device : kDevices) (names += names.empty() ? "" : ", ") += device.name;
    return names;
}

/// The device of that name, or nullptr.
constexpr const DeviceSpec *find_device(std::string_view name) {
    for (const DeviceSpec &device : kDevices) {
        if (device.name == name) return &device;
    }
    return nullptr;
}

/// Images that a device computes at a time, at most.
inline constexpr int kMostImages = 4096;

/// Threads of a block that every such device allows; several blocks of them fit on a multiprocessor.
inline constexpr int kMostThreads = 256;

/// Floats that a thread computes side by side: a vector load and store of 16 bytes.
inline constexpr int kThreadFloats = 4;

/// Floats from pixel to pixel of a convolution's input in shared memory: an odd number of vectors. Of the 32 banks of
/// four bytes, pixels that are an odd distance apart then start in different ones, up to eight of them.
constexpr int shared_stride(int lanes) { return round_up(lanes, kThreadFloats) | kThreadFloats; }

}  // namespace shufflenet::inline SHUFFLENET_ABI
