/// @file
/// Image files to network input, exactly as torchvision's evaluation transform does it with PIL.
///
/// Errors of a file start with its name, those of an argument with its name; kOutOfMemory is the only code beside
/// kBadInput. On an error the output is left as it was. An image, read or made, has at most 2^28 pixels.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// 8-bit RGB, rows top down, interleaved: pixels[(y * width + x) * 3 + channel].
struct Image {
    int width = 0;                ///< In pixels.
    int height = 0;               ///< In pixels.
    std::vector<uint8_t> pixels;  ///< 3 * width * height bytes.
};

/// How an image becomes a network's input.
struct Preprocess {
    int resize = 256;                                      ///< Short side after the resize, in pixels.
    int crop_height = 224;                                 ///< Height after the centre crop, in pixels.
    int crop_width = 224;                                  ///< Width after the centre crop, in pixels.
    std::array<float, 3> mean = {0.485F, 0.456F, 0.406F};  ///< RGB, of values in [0, 1]: ImageNet's.
    std::array<float, 3> std = {0.229F, 0.224F, 0.225F};   ///< RGB: what (value - mean) is divided by.
};

/// Decodes a JPEG, PNG, BMP or binary PPM/PGM file to RGB as PIL's Image.open(path).convert("RGB") does: grey-scale is
/// replicated, alpha is dropped and not blended, 16 bits of colour are cut to 8, CMYK JPEGs are converted with PIL's
/// formula. EXIF orientation and colour profiles are not applied.
///
/// Not accepted: 16-bit grey-scale without alpha, which PIL clips to white; BMP with run lengths; truncated files,
/// also where PIL would overlook it (a PNG that lacks no pixel but its end or a checksum).
Status decode_image_file(const std::string &path, Image *image);

/// The same from memory; `name` is what error messages call it.
Status decode_image(std::span<const uint8_t> bytes, const std::string &name, Image *image);

/// torchvision.transforms.Resize(size) on a PIL image: the short side becomes `size` pixels, the long side
/// int(size * long / short); PIL's fixed-point antialiased bilinear filter, each pass rounded to 8 bits. `out` may be
/// `in`. Errors: a size below 1, a result above 2^28 pixels.
Status resize_short_side(const Image &in, int size, Image *out);

/// torchvision.transforms.CenterCrop((height, width)), in pixels; an image that is smaller is padded with zeros first,
/// as there. `out` may be `in`. Errors: sizes below 1.
Status center_crop(const Image &in, int height, int width, Image *out);

/// Resize, crop, scale to [0, 1], normalise; `input` receives 3 * crop_height * crop_width floats, CHW. Errors: those
/// of resize and crop, another size of `input`, a mean that is not finite, a std that is not finite or is 0.
Status preprocess(const Image &image, const Preprocess &how, std::span<float> input);

}  // namespace shufflenet
