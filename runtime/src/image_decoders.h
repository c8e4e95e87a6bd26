// One decoder per file format, and what they share. Private to the runtime.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "shufflenet/image.h"
#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI::detail {

using Bytes = std::span<const uint8_t>;

/// Channels of an Image.
inline constexpr int kRgb = 3;

/// Most pixels that an image, read or made, may have: 768 MiB of RGB. Keeps every product of sizes within 64 bits.
inline constexpr int64_t kMaxPixels = int64_t{1} << 28;

/// Makes room for width x height pixels. Errors: a size that is not positive or above kMaxPixels, and a file of
/// `bytes` bytes that is too short for them even if each byte decoded to `pixels_per_byte` pixels, so that a few
/// bytes cannot ask for gigabytes.
Status allocate_pixels(const std::string &name, int64_t width, int64_t height, size_t bytes, int64_t pixels_per_byte,
                       Image *image);

// Each decodes a file that starts with its format's signature, or throws std::bad_alloc. On an error `image` is
// unspecified.
Status decode_jpeg(Bytes file, const std::string &name, Image *image);
Status decode_png(Bytes file, const std::string &name, Image *image);
Status decode_bmp(Bytes file, const std::string &name, Image *image);
Status decode_pnm(Bytes file, const std::string &name, Image *image);

}  // namespace shufflenet::detail
