// Image files to network input, exactly as torchvision's evaluation transform does it with PIL.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "shufflenet/status.h"

namespace shufflenet {

/// 8-bit RGB, rows top down, interleaved: pixels[(y * width + x) * 3 + channel].
struct Image {
    int width = 0, height = 0;
    std::vector<uint8_t> pixels;
};

/// How an image becomes a network's input.
struct Preprocess {
    int resize = 256;  ///< Short side after the resize, in pixels.
    int crop_height = 224, crop_width = 224;
    std::array<float, 3> mean = {0.485F, 0.456F, 0.406F};
    std::array<float, 3> std = {0.229F, 0.224F, 0.225F};
};

/// Decodes a JPEG, PNG, BMP or PPM/PGM file to RGB as PIL's Image.open(path).convert("RGB") does: grey-scale is
/// replicated, alpha is dropped, CMYK JPEGs are converted with PIL's formula. EXIF orientation is not applied.
Status decode_image_file(const std::string &path, Image *image);

/// The same from memory; `name` is what error messages call it.
Status decode_image(std::span<const uint8_t> bytes, const std::string &name, Image *image);

/// torchvision.transforms.Resize(size, BILINEAR, antialias) on a PIL image: the short side becomes `size`, the long
/// side int(size * long / short); PIL's fixed-point antialiased filter, each pass rounded to 8 bits.
Status resize_short_side(const Image &in, int size, Image *out);

/// torchvision.transforms.CenterCrop; smaller images are padded with zeros first, as there.
Status center_crop(const Image &in, int height, int width, Image *out);

/// Resize, crop, scale to [0, 1], normalise; `input` receives 3 * crop_height * crop_width floats, CHW.
Status preprocess(const Image &image, const Preprocess &how, std::span<float> input);

}  // namespace shufflenet
