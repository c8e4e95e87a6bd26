// Memory of a device, and how kernels are told of it.
#pragma once

#include <HalideRuntime.h>

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "device_api.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Device memory that gives itself back.
class DeviceMemory {
  public:
    DeviceMemory() = default;
    ~DeviceMemory() { reset(); }
    DeviceMemory(const DeviceMemory &) = delete;
    DeviceMemory &operator=(const DeviceMemory &) = delete;
    DeviceMemory(DeviceMemory &&other) noexcept
        : api_(other.api_), address_(std::exchange(other.address_, 0)), bytes_(std::exchange(other.bytes_, 0)) {}
    DeviceMemory &operator=(DeviceMemory &&other) noexcept {
        reset();
        api_ = other.api_;
        address_ = std::exchange(other.address_, 0);
        bytes_ = std::exchange(other.bytes_, 0);
        return *this;
    }

    /// Zeroed, at least one float.
    Status allocate(DeviceApi &api, void *stream, int64_t floats) {
        const size_t bytes = sizeof(float) * static_cast<size_t>(std::max<int64_t>(floats, 1));
        DevicePointer address = 0;
        if (Status status = api.allocate(bytes, &address); !status.ok()) return status;
        reset();
        api_ = &api;
        address_ = address;
        bytes_ = bytes;
        return api.zero(stream, address_, bytes);
    }
    DevicePointer get() const { return address_; }
    size_t bytes() const { return bytes_; }

  private:
    void reset() noexcept {
        if (address_ != 0) api_->release(address_);
        address_ = 0;
    }
    DeviceApi *api_ = nullptr;
    DevicePointer address_ = 0;
    size_t bytes_ = 0;
};

/// A kernel's argument: an array on the device, seen with (extent, stride) dimensions, the innermost first.
class DeviceArgument {
  public:
    struct Dimension {
        int64_t extent, stride;
    };
    DeviceArgument(DevicePointer memory, std::initializer_list<Dimension> dimensions)
        : DeviceArgument(memory, nullptr, dimensions, halide_type_t(halide_type_float, 32)) {}
    /// Weights and tables have a copy on the host, because what all threads of a kernel read is read before it starts.
    DeviceArgument(DevicePointer memory, const float *copy, int64_t size)
        : DeviceArgument(memory, copy, {{size, 1}}, halide_type_t(halide_type_float, 32)) {}
    DeviceArgument(DevicePointer memory, const int32_t *copy, int64_t size)
        : DeviceArgument(memory, copy, {{size, 1}}, halide_type_t(halide_type_int, 32)) {}
    DeviceArgument(const DeviceArgument &) = delete;
    DeviceArgument &operator=(const DeviceArgument &) = delete;
    halide_buffer_t *get() { return &buffer_; }

  private:
    DeviceArgument(DevicePointer memory, const void *copy, std::initializer_list<Dimension> dimensions,
                   halide_type_t type) {
        buffer_.device = memory;
        // Halide's buffers are not const, but kernels write to their outputs only.
        buffer_.host = static_cast<uint8_t *>(const_cast<void *>(copy));
        buffer_.type = type;
        buffer_.dim = dimensions_;
        for (const Dimension &d : dimensions) {
            dimensions_[buffer_.dimensions++] = halide_dimension_t(0, int32_t(d.extent), int32_t(d.stride));
        }
    }
    halide_dimension_t dimensions_[4];
    halide_buffer_t buffer_{};
};

}  // namespace shufflenet::inline SHUFFLENET_ABI
