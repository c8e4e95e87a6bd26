#include "safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "message.h"
#include "strict_json.h"

namespace shufflenet {

namespace {

static_assert(std::endian::native == std::endian::little, "safetensors is little-endian");

using nlohmann::json;
using Bytes = std::span<const std::byte>;

constexpr size_t kLengthBytes = sizeof(uint64_t);
constexpr std::string_view kMetadataKey = "__metadata__";

/// The reference implementation's limit.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

struct Dtype {
    std::string_view name;
    int64_t bytes;
};

constexpr std::array kDtypes = {
    Dtype{"BOOL", 1}, Dtype{"U8", 1},  Dtype{"I8", 1},  Dtype{"F8_E5M2", 1}, Dtype{"F8_E4M3", 1},
    Dtype{"I16", 2},  Dtype{"U16", 2}, Dtype{"F16", 2}, Dtype{"BF16", 2},    Dtype{"I32", 4},
    Dtype{"U32", 4},  Dtype{"F32", 4}, Dtype{"I64", 8}, Dtype{"U64", 8},     Dtype{"F64", 8},
};

const Dtype *find_dtype(std::string_view name) {
    const auto *found = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const Dtype &d) { return d.name == name; });
    return found == kDtypes.end() ? nullptr : found;
}

/// A file taken apart: the header's text and what the tensors share.
struct Sections {
    std::string_view header;
    Bytes buffer;
};

/// A pickle is a program; it is not run here, but Python can be asked to read no more than tensors.
constexpr std::string_view kPytorchProblem =
    "expected a safetensors header, found a PyTorch file, whose pickle is not executed here; in Python: "
    "import torch, safetensors.torch; "
    "safetensors.torch.save_file(torch.load('IN.pth', map_location='cpu', weights_only=True), 'OUT.safetensors')";

/// torch.save() writes a zip archive, and wrote a pickle before version 1.6.
bool is_pytorch(Bytes file) {
    const std::string_view text(reinterpret_cast<const char *>(file.data()), file.size());
    return text.starts_with("PK\x03\x04") || text.starts_with("\x80\x02");
}

Status split(Bytes file, const std::string &name, Sections *out) {
    if (file.size() < kLengthBytes) {
        return message::bad_input(name,
                                  "expected a safetensors file, found only " + std::to_string(file.size()) + " bytes");
    }
    uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof length);
    const Bytes rest = file.subspan(kLengthBytes);
    const uint64_t limit = std::min<uint64_t>(rest.size(), kMaxHeaderBytes);
    if (length > limit && is_pytorch(file)) return message::bad_input(name, std::string(kPytorchProblem));
    if (length > limit) {
        return message::bad_input(name, "expected a header of at most " + std::to_string(limit) +
                                            " bytes, found a header length of " + std::to_string(length));
    }
    const auto size = static_cast<size_t>(length);
    *out = {{reinterpret_cast<const char *>(rest.data()), size}, rest.subspan(size)};
    if (!out->header.starts_with('{')) return message::bad_input(name, "header is not a JSON object");
    return {};
}

Status check_metadata(const json &metadata, const std::string &file) {
    const std::string name(kMetadataKey);
    if (!metadata.is_object()) return message::bad_input(file, name + " is not an object");
    for (const auto &item : metadata.items()) {
        if (!item.value().is_string()) {
            return message::bad_input(file, name + ": " + message::shortened(item.key()) + " is not a string");
        }
    }
    return {};
}

/// A list of integers from 0 to 2^63 - 1.
std::optional<std::vector<int64_t>> read_integers(const json &value) {
    if (!value.is_array()) return std::nullopt;
    std::vector<int64_t> integers;
    for (const json &item : value) {
        if (!item.is_number_unsigned() || item.get<uint64_t>() > uint64_t{INT64_MAX}) return std::nullopt;
        integers.push_back(item.get<int64_t>());
    }
    return integers;
}

/// Reads one entry of the header; returns what is wrong with it, or nothing.
std::string read_entry(const json &entry, Bytes buffer, Tensor *out) {
    if (!entry.is_object()) return "entry is not an object";
    for (const char *key : {"dtype", "shape", "data_offsets"}) {
        if (!entry.contains(key)) return std::string("entry has no ") + key;
    }
    if (entry.size() != 3) return "entry has keys other than dtype, shape and data_offsets";

    if (!entry["dtype"].is_string()) return "dtype is not a string";
    out->dtype = entry["dtype"].get<std::string>();
    const Dtype *dtype = find_dtype(out->dtype);
    if (dtype == nullptr) return "unknown dtype " + message::shortened(out->dtype);

    auto shape = read_integers(entry["shape"]);
    if (!shape) return "shape is not a list of integers from 0 to 2^63 - 1";
    const std::optional<int64_t> bytes = tensor_bytes(*shape, dtype->bytes);
    if (!bytes) return "shape " + message::shape_text(*shape) + " is too large";
    out->shape = std::move(*shape);

    const auto offsets = read_integers(entry["data_offsets"]);
    if (!offsets || offsets->size() != 2) return "data_offsets is not a pair of integers from 0 to 2^63 - 1";
    const int64_t begin = offsets->front(), end = offsets->back();
    if (begin > end) return "data_offsets " + message::shape_text(*offsets) + " are reversed";
    if (static_cast<uint64_t>(end) > buffer.size()) {
        return "data_offsets " + message::shape_text(*offsets) + " exceed the " + std::to_string(buffer.size()) +
               " bytes of data in the file";
    }
    if (end - begin != *bytes) {
        return "expected " + std::to_string(*bytes) + " bytes for " + out->dtype + " " +
               message::shape_text(out->shape) + ", found " + std::to_string(end - begin);
    }
    out->data = buffer.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    return {};
}

/// The format forbids bytes that belong to several tensors or to none. Returns what is wrong, or nothing.
std::string check_coverage(const std::vector<Tensor> &tensors, Bytes buffer) {
    std::vector<const Tensor *> by_place;
    for (const Tensor &tensor : tensors) by_place.push_back(&tensor);
    const auto begin = [&](const Tensor *t) { return static_cast<size_t>(t->data.data() - buffer.data()); };
    std::sort(by_place.begin(), by_place.end(), [&](const Tensor *a, const Tensor *b) {
        return std::pair(begin(a), a->data.size()) < std::pair(begin(b), b->data.size());
    });
    size_t at = 0;
    const Tensor *before = nullptr;
    for (const Tensor *tensor : by_place) {
        const std::string name = "tensor " + message::shortened(tensor->name);
        if (begin(tensor) < at) return name + " overlaps tensor " + message::shortened(before->name);
        if (begin(tensor) > at) {
            return std::to_string(begin(tensor) - at) + " bytes before " + name + " belong to no tensor";
        }
        at += tensor->data.size();
        before = tensor;
    }
    if (at < buffer.size()) {
        return std::to_string(buffer.size() - at) + " bytes at the end of the file belong to no tensor";
    }
    return {};
}

}  // namespace

Status Safetensors::parse(Bytes file, const std::string &name, Safetensors *out) try {
    Sections sections;
    if (Status status = split(file, name, &sections); !status.ok()) return status;
    json header;
    if (Status status = parse_strict_json(sections.header, name, "header", &header); !status.ok()) return status;

    std::vector<Tensor> tensors;  // Sorted by name, as nlohmann::json's objects are.
    for (const auto &item : header.items()) {
        if (item.key() == kMetadataKey) {
            if (Status status = check_metadata(item.value(), name); !status.ok()) return status;
            continue;
        }
        Tensor &tensor = tensors.emplace_back();
        tensor.name = item.key();
        if (const std::string problem = read_entry(item.value(), sections.buffer, &tensor); !problem.empty()) {
            return message::bad_input(name, "tensor " + message::shortened(tensor.name) + ": " + problem);
        }
    }
    if (const std::string problem = check_coverage(tensors, sections.buffer); !problem.empty()) {
        return message::bad_input(name, problem);
    }
    out->tensors_ = std::move(tensors);
    return {};
} catch (...) {
    return message::from_exception(name);
}

const Tensor *Safetensors::find(std::string_view name) const {
    const auto found = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                        [](const Tensor &t, std::string_view n) { return t.name < n; });
    return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

std::vector<std::byte> serialize_safetensors(std::span<const Tensor> tensors) {
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
    text.resize((text.size() + kLengthBytes - 1) / kLengthBytes * kLengthBytes, ' ');

    const uint64_t length = text.size();
    std::vector<std::byte> file(sizeof length + text.size() + size);
    auto to = file.begin();
    const auto append = [&to](Bytes bytes) { to = std::copy(bytes.begin(), bytes.end(), to); };
    append(std::as_bytes(std::span(&length, 1)));
    append(std::as_bytes(std::span(text)));
    for (const Tensor *tensor : sorted) append(tensor->data);
    return file;
}

}  // namespace shufflenet
