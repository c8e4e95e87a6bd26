#include "canonical.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "checkpoint.h"
#include "element.h"
#include "finite.h"
#include "message.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// A float's bits; nothing if the value is too large for one.
std::optional<float> to_single(double value) {
    if (!(std::fabs(value) <= double{std::numeric_limits<float>::max()})) return {};
    return static_cast<float>(value);
}

/// Elements of one type as those of another; `convert` makes one of them.
template <typename Convert>
Status convert(const Tensor &tensor, const std::string &file_name, const char *dtype, Convert &&convert,
               std::vector<std::byte> *bytes) {
    const ElementType type = *element_type(tensor.dtype);
    const size_t count = tensor.data.size() / element_bytes(type), width = element_bytes(*element_type(dtype));
    std::vector<std::byte> made(count * width);
    for (size_t i = 0; i < count; ++i) {
        const double value = element_to_double(type, tensor.data.data(), i);
        const auto converted = convert(value);
        if (!converted) {
            return message::bad_input(file_name, message::shortened(tensor.name) + ": " + std::to_string(value) +
                                                     " is too large for " + dtype);
        }
        std::memcpy(made.data() + i * width, &*converted, width);
    }
    *bytes = std::move(made);
    return {};
}

/// What a tensor becomes.
std::string target_type(const Tensor &tensor, Precision precision) {
    if (precision == Precision::kAsItIs) return tensor.dtype == "F16" ? "F16" : "F32";
    return precision == Precision::kHalf ? "F16" : "F32";
}

}  // namespace

Status canonical_weights(const Safetensors &file, const std::string &file_name, const std::string &prefix,
                         Precision precision, CanonicalWeights *out) try {
    CanonicalWeights weights;
    for (Tensor tensor : file.tensors()) {
        if (is_training_count(tensor.name)) continue;
        if (tensor.data.empty() && tensor.bytes > 0) {
            Status status = file.read(tensor, 0, weights.made.emplace_back(tensor.bytes));
            if (!status.ok()) return status;
            tensor.data = weights.made.back();
        }
        if (const std::string target = target_type(tensor, precision);
            element_type(tensor.dtype) && target != tensor.dtype) {
            std::vector<std::byte> &bytes = weights.made.emplace_back();
            Status status = target == "F16" ? convert(tensor, file_name, "F16", to_half, &bytes)
                                            : convert(tensor, file_name, "F32", to_single, &bytes);
            if (!status.ok()) return status;
            tensor.data = bytes;
            tensor.bytes = bytes.size();
            tensor.dtype = target;
        }
        tensor.name.erase(0, tensor.name.starts_with(prefix) ? prefix.size() : 0);
        weights.tensors.push_back(std::move(tensor));
    }
    *out = std::move(weights);
    return {};
} catch (...) {
    return message::from_exception(file_name);
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
