// What a kernel is called with.
#pragma once

#include <HalideRuntime.h>

#include "pack.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// A kernel's argument: a dense array seen with (extent, stride) dimensions.
class Argument {
  public:
    struct Dimension {
        int extent, stride;
    };
    Argument(const float *data, std::initializer_list<Dimension> dimensions)
        : Argument(data, halide_type_t(halide_type_float, 32), dimensions) {}
    Argument(const int32_t *data, std::initializer_list<Dimension> dimensions)
        : Argument(data, halide_type_t(halide_type_int, 32), dimensions) {}
    explicit Argument(const AlignedArray<float> &array) : Argument(array.data(), {{int(array.size()), 1}}) {}
    explicit Argument(const AlignedArray<int32_t> &array) : Argument(array.data(), {{int(array.size()), 1}}) {}
    /// Lanes of a tensor (lanes, pixels) whose lane 0 at pixel 0 is `data`.
    Argument(const float *data, const BlockLayout &block, const ChannelPart &part)
        : Argument(data + part.first, {{part.lanes, 1}, {block.pixels, block.lanes()}}) {}
    Argument(const Argument &) = delete;
    Argument &operator=(const Argument &) = delete;

    halide_buffer_t *get() { return &buffer_; }

  private:
    Argument(const void *data, halide_type_t type, std::initializer_list<Dimension> dimensions) {
        // Halide's buffers are not const, but kernels write to their outputs only.
        buffer_.host = static_cast<uint8_t *>(const_cast<void *>(data));
        buffer_.type = type;
        buffer_.dim = dimensions_;
        for (const Dimension &d : dimensions) {
            dimensions_[buffer_.dimensions++] = halide_dimension_t(0, d.extent, d.stride);
        }
    }
    halide_dimension_t dimensions_[3];
    halide_buffer_t buffer_{};
};

}  // namespace shufflenet
