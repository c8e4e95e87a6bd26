// The container: whatever is accepted survives being written and read again.
#include "safetensors.h"

#include <algorithm>

#include "check.h"

using namespace shufflenet;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Safetensors file;
    if (!fuzz::accepted(Safetensors::parse(std::as_bytes(std::span(data, size)), fuzz::kName, &file))) return 0;

    const std::vector<std::byte> written = serialize_safetensors(file.tensors());
    Safetensors again;
    fuzz::require(Safetensors::parse(written, fuzz::kName, &again).ok(), "what is written can be read");
    fuzz::require(std::ranges::equal(file.tensors(), again.tensors(),
                                     [](const Tensor &a, const Tensor &b) {
                                         return a.name == b.name && a.dtype == b.dtype && a.shape == b.shape &&
                                                std::ranges::equal(a.data, b.data);
                                     }),
                  "what is written is what was read");
    for (const Tensor &tensor : file.tensors()) fuzz::require(file.find(tensor.name) == &tensor, "a name finds it");
    return 0;
}
