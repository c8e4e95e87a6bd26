// NumPy's .npy files of 32-bit floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

struct Npy {
    std::vector<int64_t> shape;
    std::vector<float> data;
};

/// Little-endian float32 in C order; format versions 1.0, 2.0 and 3.0. On error `out` is unchanged.
Status read_npy(const std::string &path, Npy *out);

/// The same from memory; `name` is what error messages call it.
Status parse_npy(std::span<const std::byte> bytes, const std::string &name, Npy *out);

/// A file of version 1.0; `name` is what error messages call it. `data` has as many values as `shape` says.
Status serialize_npy(std::span<const int64_t> shape, std::span<const float> data, const std::string &name,
                     std::vector<std::byte> *out);

/// Version 1.0, written atomically. `data` has as many values as `shape` says.
Status write_npy(const std::string &path, std::span<const int64_t> shape, std::span<const float> data);

}  // namespace shufflenet
