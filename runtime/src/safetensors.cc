#include "safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>

#include "file.h"
#include "message.h"
#include "strict_json.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

static_assert(std::endian::native == std::endian::little, "safetensors is little-endian");

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

/// The length of the header. `start`: at least the file's first eight bytes, if there are so many.
Status header_length(Bytes start, size_t file_size, const std::string &name, size_t *out) {
    if (file_size < kLengthBytes) {
        return message::bad_input(name,
                                  "expected a safetensors file, found only " + std::to_string(file_size) + " bytes");
    }
    uint64_t length = 0;
    std::memcpy(&length, start.data(), sizeof length);
    const uint64_t limit = std::min<uint64_t>(file_size - kLengthBytes, kMaxHeaderBytes);
    if (length > limit && is_pytorch(start)) return message::bad_input(name, std::string(kPytorchProblem));
    if (length > limit) {
        return message::bad_input(name, "expected a header of at most " + std::to_string(limit) +
                                            " bytes, found a header length of " + std::to_string(length));
    }
    *out = static_cast<size_t>(length);
    return {};
}

Status check_metadata(const Json &metadata, const std::string &file) {
    const std::string name(kMetadataKey);
    const auto *entries = metadata.as<Json::Object>();
    if (entries == nullptr) return message::bad_input(file, name + " is not an object");
    for (const auto &[key, value] : *entries) {
        if (value.as<std::string>() == nullptr) {
            return message::bad_input(file, name + ": " + message::shortened(key) + " is not a string");
        }
    }
    return {};
}

/// A list of integers from 0 to 2^63 - 1.
std::optional<std::vector<int64_t>> read_integers(const Json &value) {
    const auto *items = value.as<Json::Array>();
    if (items == nullptr) return std::nullopt;
    std::vector<int64_t> integers;
    for (const Json &item : *items) {
        const auto *integer = item.as<uint64_t>();
        if (integer == nullptr || *integer > uint64_t{INT64_MAX}) return std::nullopt;
        integers.push_back(static_cast<int64_t>(*integer));
    }
    return integers;
}

/// Reads one entry of the header, where `buffer` bytes are the tensors'; returns what is wrong with it, or nothing.
std::string read_entry(const Json &entry, size_t buffer, Tensor *out) {
    const auto *object = entry.as<Json::Object>();
    if (object == nullptr) return "entry is not an object";
    for (const char *key : {"dtype", "shape", "data_offsets"}) {
        if (entry.find(key) == nullptr) return std::string("entry has no ") + key;
    }
    if (object->size() != 3) return "entry has keys other than dtype, shape and data_offsets";

    const auto *dtype_name = entry.find("dtype")->as<std::string>();
    if (dtype_name == nullptr) return "dtype is not a string";
    out->dtype = *dtype_name;
    const Dtype *dtype = find_dtype(out->dtype);
    if (dtype == nullptr) return "unknown dtype " + message::shortened(out->dtype);

    auto shape = read_integers(*entry.find("shape"));
    if (!shape) return "shape is not a list of integers from 0 to 2^63 - 1";
    const std::optional<int64_t> bytes = tensor_bytes(*shape, dtype->bytes);
    if (!bytes) return "shape " + message::shape_text(*shape) + " is too large";
    out->shape = std::move(*shape);

    const auto offsets = read_integers(*entry.find("data_offsets"));
    if (!offsets || offsets->size() != 2) return "data_offsets is not a pair of integers from 0 to 2^63 - 1";
    const int64_t begin = offsets->front(), end = offsets->back();
    if (begin > end) return "data_offsets " + message::shape_text(*offsets) + " are reversed";
    if (static_cast<uint64_t>(end) > buffer) {
        return "data_offsets " + message::shape_text(*offsets) + " exceed the " + std::to_string(buffer) +
               " bytes of data in the file";
    }
    if (end - begin != *bytes) {
        return "expected " + std::to_string(*bytes) + " bytes for " + out->dtype + " " +
               message::shape_text(out->shape) + ", found " + std::to_string(end - begin);
    }
    out->offset = static_cast<size_t>(begin);
    out->bytes = static_cast<size_t>(*bytes);
    return {};
}

/// The format forbids bytes that belong to several tensors or to none. Returns what is wrong, or nothing.
std::string check_coverage(const std::vector<Tensor> &tensors, size_t buffer) {
    std::vector<const Tensor *> by_place;
    for (const Tensor &tensor : tensors) by_place.push_back(&tensor);
    std::sort(by_place.begin(), by_place.end(), [](const Tensor *a, const Tensor *b) {
        return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes);
    });
    size_t at = 0;
    const Tensor *before = nullptr;
    for (const Tensor *tensor : by_place) {
        const std::string name = "tensor " + message::shortened(tensor->name);
        if (tensor->offset < at) return name + " overlaps tensor " + message::shortened(before->name);
        if (tensor->offset > at) {
            return std::to_string(tensor->offset - at) + " bytes before " + name + " belong to no tensor";
        }
        at += tensor->bytes;
        before = tensor;
    }
    if (at < buffer) return std::to_string(buffer - at) + " bytes at the end of the file belong to no tensor";
    return {};
}

/// The tensors of a header, sorted by name as its object is, without their data.
Status parse_header(std::string_view text, size_t buffer, const std::string &name, std::vector<Tensor> *out) {
    if (!text.starts_with('{')) return message::bad_input(name, "header is not a JSON object");
    Json header;
    if (Status status = parse_strict_json(text, name, "header", &header); !status.ok()) return status;
    for (const auto &[key, entry] : *header.as<Json::Object>()) {
        if (key == kMetadataKey) {
            if (Status status = check_metadata(entry, name); !status.ok()) return status;
            continue;
        }
        Tensor &tensor = out->emplace_back();
        tensor.name = key;
        if (const std::string problem = read_entry(entry, buffer, &tensor); !problem.empty()) {
            return message::bad_input(name, "tensor " + message::shortened(tensor.name) + ": " + problem);
        }
    }
    if (const std::string problem = check_coverage(*out, buffer); !problem.empty()) {
        return message::bad_input(name, problem);
    }
    return {};
}

std::string_view text_of(Bytes bytes) { return {reinterpret_cast<const char *>(bytes.data()), bytes.size()}; }

}  // namespace

Status Safetensors::parse(Bytes file, const std::string &name, Safetensors *out) try {
    size_t length = 0;
    if (Status status = header_length(file, file.size(), name, &length); !status.ok()) return status;
    const Bytes buffer = file.subspan(kLengthBytes + length);
    Safetensors parsed;
    Status status = parse_header(text_of(file.subspan(kLengthBytes, length)), buffer.size(), name, &parsed.tensors_);
    if (!status.ok()) return status;
    for (Tensor &tensor : parsed.tensors_) tensor.data = buffer.subspan(tensor.offset, tensor.bytes);
    *out = std::move(parsed);
    return {};
} catch (...) {
    return message::from_exception(name);
}

Status Safetensors::open(std::shared_ptr<const InputFile> file, Safetensors *out) try {
    std::vector<std::byte> bytes(std::min(kLengthBytes, file->size()));
    if (Status status = file->read(0, bytes); !status.ok()) return status;
    size_t length = 0;
    if (Status status = header_length(bytes, file->size(), file->name(), &length); !status.ok()) return status;
    bytes.resize(length);
    if (Status status = file->read(kLengthBytes, bytes); !status.ok()) return status;
    Safetensors opened;
    opened.buffer_ = kLengthBytes + length;
    Status status = parse_header(text_of(bytes), file->size() - opened.buffer_, file->name(), &opened.tensors_);
    if (!status.ok()) return status;
    opened.file_ = std::move(file);
    *out = std::move(opened);
    return {};
} catch (...) {
    return message::from_exception(file->name());
}

Status Safetensors::read(const Tensor &tensor, size_t first, std::span<std::byte> to) const {
    if (file_ != nullptr) return file_->read(buffer_ + tensor.offset + first, to);
    if (!to.empty()) std::memcpy(to.data(), tensor.data.data() + first, to.size());
    return {};
}

const Tensor *Safetensors::find(std::string_view name) const {
    const auto found = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                        [](const Tensor &t, std::string_view n) { return t.name < n; });
    return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

}  // namespace shufflenet
