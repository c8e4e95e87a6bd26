// NumPy's files: accepted data are as many as the shape says.
#include "npy.h"

#include "check.h"

using namespace shufflenet;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Npy npy;
    if (!fuzz::accepted(parse_npy(std::as_bytes(std::span(data, size)), fuzz::kName, &npy))) return 0;
    size_t values = 1;
    for (const int64_t extent : npy.shape) values *= static_cast<size_t>(extent);
    fuzz::require(npy.data.size() == values, "the data have the shape's size");
    return 0;
}
