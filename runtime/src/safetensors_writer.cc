// Apart from the reader, because a model's library only reads.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "safetensors.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

std::string quoted(const std::string &text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// Not as one nlohmann::json: see Json in strict_json.h.
std::string header_entry(const Tensor &tensor, size_t begin, size_t end) {
    std::string shape;
    for (const int64_t extent : tensor.shape) shape += (shape.empty() ? "" : ",") + std::to_string(extent);
    return quoted(tensor.name) + ":{\"dtype\":" + quoted(tensor.dtype) + ",\"shape\":[" + shape +
           "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}

}  // namespace

std::vector<std::byte> serialize_safetensors(std::span<const Tensor> tensors) {
    constexpr size_t kAlignment = 8;
    std::vector<const Tensor *> sorted;
    for (const Tensor &tensor : tensors) sorted.push_back(&tensor);
    std::sort(sorted.begin(), sorted.end(), [](const Tensor *a, const Tensor *b) { return a->name < b->name; });

    std::string text = "{";
    size_t size = 0;
    for (const Tensor *tensor : sorted) {
        const size_t end = size + tensor->data.size();
        text += (text.size() > 1 ? "," : "") + header_entry(*tensor, size, end);
        size = end;
    }
    text += "}";
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
