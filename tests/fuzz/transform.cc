// Resize, crop and normalisation, of any image to any size: preprocess() is what its three steps are.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>

#include "check.h"
#include "shufflenet/image.h"

using namespace shufflenet;

namespace {

Image any_image(FuzzedDataProvider &from) {
    Image image;
    image.width = from.ConsumeIntegralInRange(1, 50);
    image.height = from.ConsumeIntegralInRange(1, 50);
    image.pixels = from.ConsumeBytes<uint8_t>(size_t{3} * image.width * image.height);
    image.pixels.resize(size_t{3} * image.width * image.height);
    return image;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    FuzzedDataProvider from(data, size);
    Preprocess how;
    how.resize = from.ConsumeIntegralInRange(-1, 80);
    how.crop_height = from.ConsumeIntegralInRange(-1, 80);
    how.crop_width = from.ConsumeIntegralInRange(-1, 80);
    const int c = from.ConsumeIntegralInRange(0, 2);
    how.mean[c] = from.ConsumeFloatingPoint<float>();
    how.std[c] = from.ConsumeFloatingPoint<float>();
    const Image image = any_image(from);

    const size_t plane = size_t(std::max(how.crop_height, 0)) * std::max(how.crop_width, 0);
    std::vector<float> input(3 * plane);
    Image cropped = image;
    if (!preprocess(image, how, input).ok()) return 0;
    fuzz::require(resize_short_side(cropped, how.resize, &cropped).ok(), "what preprocess() does can be done apart");
    fuzz::require(center_crop(cropped, how.crop_height, how.crop_width, &cropped).ok(), "and so can the crop");
    for (size_t i = 0; i < plane; ++i) {
        const float level = static_cast<float>(cropped.pixels[3 * i + c]) / 255.0F;
        fuzz::require(input[c * plane + i] == (level - how.mean[c]) / how.std[c], "both ways give the same pixel");
    }
    return 0;
}
