// Apart from the reader, because a model's library only reads.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "safetensors.h"

namespace shufflenet {

std::vector<std::byte> serialize_safetensors(std::span<const Tensor> tensors) {
    constexpr size_t kAlignment = 8;
    std::vector<const Tensor *> sorted;
    for (const Tensor &tensor : tensors) sorted.push_back(&tensor);
    std::sort(sorted.begin(), sorted.end(), [](const Tensor *a, const Tensor *b) { return a->name < b->name; });

    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    size_t size = 0;
    for (const Tensor *tensor : sorted) {
        const size_t end = size + tensor->data.size();
        header[tensor->name] = {{"dtype", tensor->dtype}, {"shape", tensor->shape}, {"data_offsets", {size, end}}};
        size = end;
    }
    std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');

    const uint64_t length = text.size();
    std::vector<std::byte> file(sizeof length + text.size() + size);
    auto to = file.begin();
    const auto append = [&to](std::span<const std::byte> bytes) { to = std::copy(bytes.begin(), bytes.end(), to); };
    append(std::as_bytes(std::span(&length, 1)));
    append(std::as_bytes(std::span(text)));
    for (const Tensor *tensor : sorted) append(tensor->data);
    return file;
}

}  // namespace shufflenet
