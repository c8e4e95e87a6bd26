// One image format, from the file to a network's input. The rest is not looked at: each format has a fuzzer of its own.
#include "shufflenet/image.h"

#include <algorithm>
#include <cmath>

#include "check.h"

using namespace shufflenet;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const std::string_view signature = FUZZ_SIGNATURE;
    if (!std::string_view(reinterpret_cast<const char *>(data), size).starts_with(signature)) return 0;

    Image image;
    if (!fuzz::accepted(decode_image({data, size}, fuzz::kName, &image))) return 0;
    fuzz::require(image.width > 0 && image.height > 0, "an image has pixels");
    fuzz::require(image.pixels.size() == size_t{3} * image.width * image.height, "there are as many as it says");
    fuzz::require(image.orientation >= 1 && image.orientation <= 8, "it lies in one of eight ways");

    constexpr Preprocess how{.resize = 36, .crop_height = 32, .crop_width = 32};
    std::vector<float> input(size_t{3} * how.crop_height * how.crop_width, NAN);
    // A line of pixels may be too long once it is 36 wide.
    if (!preprocess(image, how, input).ok()) return 0;
    fuzz::require(std::ranges::all_of(input, [](float value) { return std::isfinite(value); }), "all input is set");
    return 0;
}
