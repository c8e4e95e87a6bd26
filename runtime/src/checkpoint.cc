#include "checkpoint.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "finite.h"
#include "half.h"
#include "message.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// Weights do not depend on the input size.
constexpr Size kAnyInput{kDefaultCrop, kDefaultCrop};

/// A dimension that the file decides.
constexpr int kAnyClasses = -1;

struct ExpectedTensor {
    std::string name;
    std::vector<int64_t> shape;
};

std::vector<int64_t> weight_shape(const Layer &layer) {
    if (layer.kind == LayerKind::kFullyConnected) return {layer.out_channels, layer.in_channels};
    return {layer.out_channels, layer.group_channels(), layer.kernel(), layer.kernel()};
}

std::vector<ExpectedTensor> expected_tensors(const AnyNetwork &network, int classes) {
    std::vector<ExpectedTensor> expected;
    for (const Layer &layer : network_layers(network, kAnyInput, classes)) {
        if (!layer.has_weights()) continue;
        const std::string conv(layer.conv.view()), norm(layer.norm.view());
        const std::vector<int64_t> channels = {layer.out_channels};
        expected.push_back({conv + ".weight", weight_shape(layer)});
        if (norm.empty()) {
            if (layer.bias) expected.push_back({conv + ".bias", channels});
            continue;
        }
        for (const char *suffix : {".weight", ".bias", ".running_mean", ".running_var"}) {
            expected.push_back({norm + suffix, channels});
        }
    }
    return expected;
}

/// PyTorch counts the training batches of each normalisation; nothing is computed from it.
std::unordered_set<std::string> ignored_tensors(const AnyNetwork &network) {
    std::unordered_set<std::string> ignored;
    for (const Layer &layer : network_layers(network, kAnyInput, kAnyClasses)) {
        if (!layer.norm.empty()) ignored.insert(std::string(layer.norm.view()) + ".num_batches_tracked");
    }
    return ignored;
}

/// Only a last weight that fits decides the class count: a transposed one must not make its bias look wrong.
int file_classes(const Safetensors &file, const AnyNetwork &network) {
    const Layer last = network_layers(network, kAnyInput, kAnyClasses).back();
    const Tensor *weight = file.find(std::string(last.conv.view()) + ".weight");
    const bool valid = weight != nullptr && weight->shape.size() == 2 && weight->shape[0] >= 1 &&
                       weight->shape[0] <= kMaxClasses && weight->shape[1] == last.in_channels;
    return valid ? static_cast<int>(weight->shape[0]) : kAnyClasses;
}

bool same_shape(const std::vector<int64_t> &expected, const std::vector<int64_t> &found) {
    return std::equal(expected.begin(), expected.end(), found.begin(), found.end(),
                      [](int64_t e, int64_t f) { return e == kAnyClasses ? f >= 1 && f <= kMaxClasses : e == f; });
}

std::string expected_shape_text(const std::vector<int64_t> &shape) {
    if (shape.front() != kAnyClasses) return message::shape_text(shape);
    std::string text = "[classes";
    for (size_t i = 1; i < shape.size(); ++i) text += ", " + std::to_string(shape[i]);
    return text + "] with 1 to " + std::to_string(kMaxClasses) + " classes";
}

/// What is wrong with a tensor as far as the header tells, or nothing.
std::string misfit(const ExpectedTensor &expected, const Tensor *tensor) {
    if (tensor == nullptr) return "missing " + expected.name;
    if (!same_shape(expected.shape, tensor->shape)) {
        return expected.name + " has shape " + message::shape_text(tensor->shape) + ", expected " +
               expected_shape_text(expected.shape);
    }
    if (tensor->dtype != "F32" && tensor->dtype != "F16") {
        return expected.name + " has dtype " + tensor->dtype + ", expected F32 or F16";
    }
    return {};
}

/// What is wrong with each tensor that does not fit: in the network's order, then what it does not know.
std::vector<std::string> misfits(const Safetensors &file, const AnyNetwork &network) {
    std::vector<std::string> found;
    std::unordered_set<std::string> known = ignored_tensors(network);
    for (const ExpectedTensor &expected : expected_tensors(network, file_classes(file, network))) {
        std::string problem = misfit(expected, file.find(expected.name));
        if (!problem.empty()) found.push_back(std::move(problem));
        known.insert(expected.name);
    }
    for (const Tensor &tensor : file.tensors()) {
        if (!known.contains(tensor.name)) found.push_back("unexpected " + message::shortened(tensor.name));
    }
    return found;
}

/// Another published network that the file fits far better, or nothing.
std::optional<AnyNetwork> better_fit(const Safetensors &file, size_t misfit_count) {
    std::optional<AnyNetwork> best;
    size_t fewest = misfit_count / 4;
    for (const AnyNetwork &candidate : published_networks()) {
        const size_t count = misfits(file, candidate).size();
        if (count < fewest) {
            fewest = count;
            best = candidate;
        }
    }
    return best;
}

bool fits_float(double value) { return is_finite(value) && std::abs(value) <= std::numeric_limits<float>::max(); }

std::string number_text(double value) {
    std::array<char, 32> text{};
    const char *end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
    return {text.data(), static_cast<size_t>(end - text.data())};
}

template <typename T>
T load(const std::byte *from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

size_t elements_of(const Tensor &tensor) {
    return tensor.bytes / (tensor.dtype == "F16" ? sizeof(uint16_t) : sizeof(float));
}

/// The largest magnitude; infinity or NaN if a value is. As integers, magnitudes of floats are in order, and those two
/// come last.
float largest_magnitude(std::span<const float> values) {
    int32_t largest = 0;
    for (const float value : values) largest = std::max(largest, std::bit_cast<int32_t>(value) & INT32_MAX);
    return std::bit_cast<float>(largest);
}

}  // namespace

Status check_state_dict(const Safetensors &file, const std::string &file_name, const AnyNetwork &network,
                        int *classes) try {
    const std::vector<std::string> culprits = misfits(file, network);
    if (culprits.empty()) {
        *classes = file_classes(file, network);
        return {};
    }
    std::string problem = "not weights of " + std::string(network.name());
    if (const auto other = better_fit(file, culprits.size())) {
        problem += ", rather of " + std::string(other->name());
    }
    return message::bad_input(file_name, problem + ": " + message::list_text(culprits));
} catch (...) {
    return message::from_exception(file_name);
}

Status FoldingReader::open(const Safetensors &file, const std::string &file_name, const AnyNetwork &network) try {
    if (Status status = check_state_dict(file, file_name, network, &classes_); !status.ok()) return status;
    file_ = &file;
    file_name_ = file_name;
    layers_ = network_layers(network, kAnyInput, classes_);
    return {};
} catch (...) {
    return message::from_exception(file_name);
}

const Layer &FoldingReader::next() {
    while (!layers_[next_].has_weights()) ++next_;
    layer_ = &layers_[next_++];
    const std::string conv(layer_->conv.view());
    tensor_ = file_->find(conv + ".weight");
    row_.resize(elements_of(*tensor_) / layer_->out_channels);
    scale_.assign(layer_->out_channels, 1);
    if (layer_->norm.empty()) {
        bias_ = layer_->bias ? read_all(conv + ".bias") : std::vector<double>(layer_->out_channels);
    } else {
        fold_bias(std::string(layer_->norm.view()));
    }
    return *layer_;
}

/// norm(conv(x)) = gamma (w x - mean) / sqrt(var + eps) + beta, as one convolution.
void FoldingReader::fold_bias(const std::string &norm) {
    const std::vector<double> gamma = read_all(norm + ".weight");
    const std::vector<double> mean = read_all(norm + ".running_mean");
    const std::vector<double> variance = read_all(norm + ".running_var", 0);
    bias_ = read_all(norm + ".bias");
    for (size_t c = 0; c < gamma.size(); ++c) {
        scale_[c] = gamma[c] / std::sqrt(variance[c] + kBatchNormEps);
        bias_[c] -= mean[c] * scale_[c];
    }
    if (std::any_of(bias_.begin(), bias_.end(), [](double b) { return !fits_float(b); })) note_too_large();
}

std::span<const float> FoldingReader::weights(int channel) {
    const size_t first = row_.size() * channel;
    decode(*tensor_, first, row_);
    const float largest = largest_magnitude(row_);
    if (!is_finite(largest)) {
        note_bad_value(*tensor_, row_, first, std::numeric_limits<double>::lowest());
    } else if (!fits_float(largest * scale_[channel])) {
        note_too_large();
    }
    return row_;
}

const std::byte *FoldingReader::fetch(const Tensor &tensor, size_t first, size_t count) {
    // Few reads, and a buffer that stays in the cache.
    constexpr size_t kBlockBytes = size_t{1} << 16;
    if (!tensor.data.empty()) return tensor.data.data() + first;
    if (block_tensor_ != &tensor || first < block_first_ || first + count > block_first_ + block_.size()) {
        block_tensor_ = &tensor;
        block_first_ = first;
        block_.resize(std::min(tensor.bytes - first, std::max(count, kBlockBytes)));
        Status status = file_->read(tensor, first, block_);
        if (read_status_.ok()) read_status_ = std::move(status);
    }
    return block_.data() + (first - block_first_);
}

void FoldingReader::decode(const Tensor &tensor, size_t first, std::span<float> values) {
    if (tensor.dtype == "F16") {
        const std::byte *from = fetch(tensor, first * sizeof(uint16_t), values.size() * sizeof(uint16_t));
        for (size_t i = 0; i < values.size(); ++i) {
            values[i] = half_to_float(load<uint16_t>(from + i * sizeof(uint16_t)));
        }
    } else {
        std::memcpy(values.data(), fetch(tensor, first * sizeof(float), values.size_bytes()), values.size_bytes());
    }
}

std::vector<double> FoldingReader::read_all(const std::string &name, double least) {
    const Tensor &tensor = *file_->find(name);
    std::vector<float> values(elements_of(tensor));
    decode(tensor, 0, values);
    note_bad_value(tensor, values, 0, least);
    return {values.begin(), values.end()};
}

void FoldingReader::note_bad_value(const Tensor &tensor, std::span<const float> values, size_t first, double least) {
    const auto bad =
        std::find_if(values.begin(), values.end(), [least](float v) { return !is_finite(v) || v < least; });
    const std::string start = tensor.name + " has the value ";
    if (bad == values.end() || (!bad_values_.empty() && bad_values_.back().starts_with(start))) return;
    bad_values_.push_back(start + number_text(*bad) + " at element " +
                          std::to_string(first + static_cast<size_t>(bad - values.begin())));
}

void FoldingReader::note_too_large() {
    const std::string message = std::string(layer_->conv.view()) + ".weight folded with " +
                                std::string(layer_->norm.view()) + " is too large for a float";
    if (too_large_.empty() || too_large_.back() != message) too_large_.push_back(message);
}

Status FoldingReader::status() const {
    if (!read_status_.ok()) return read_status_;
    // What is not finite is too large as well when folded.
    const std::vector<std::string> &culprits = bad_values_.empty() ? too_large_ : bad_values_;
    if (culprits.empty()) return {};
    return message::bad_input(file_name_, message::list_text(culprits));
}

Status read_checkpoint(const Safetensors &file, const std::string &file_name, const AnyNetwork &network,
                       Checkpoint *out) try {
    FoldingReader reader;
    if (Status status = reader.open(file, file_name, network); !status.ok()) return status;
    Checkpoint checkpoint{reader.classes(), {}};
    for (const Layer &row : network_layers(network, kAnyInput, reader.classes())) {
        FoldedLayer &folded = checkpoint.layers.emplace_back();
        if (!row.has_weights()) continue;
        reader.next();
        folded.bias = reader.bias();
        for (int c = 0; c < row.out_channels; ++c) {
            for (const float weight : reader.weights(c)) folded.weights.push_back(weight * reader.scale(c));
        }
    }
    Status status = reader.status();
    if (status.ok()) *out = std::move(checkpoint);
    return status;
} catch (...) {
    return message::from_exception(file_name);
}

}  // namespace shufflenet
