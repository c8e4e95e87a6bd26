// The JSON beside a weight file: what is accepted can be used.
#include "metadata.h"

#include "check.h"

using namespace shufflenet;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Metadata metadata;
    if (!fuzz::accepted(parse_metadata({reinterpret_cast<const char *>(data), size}, fuzz::kName, &metadata))) return 0;
    const Image image{2, 2, std::vector<uint8_t>(12)};
    Preprocess how = metadata.preprocess;
    how.crop_height = how.crop_width = 1;  // For speed.
    std::vector<float> input(3);
    fuzz::require(preprocess(image, how, input).ok(), "an image can be preprocessed so");
    return 0;
}
