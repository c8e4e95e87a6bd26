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

#include "element.h"
#include "finite.h"
#include "log.h"
#include "message.h"
#include "networks/bounds.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// A dimension that the file decides.
constexpr int kAnyClasses = -1;

struct ExpectedTensor {
    std::string name;
    std::vector<int64_t> shape;
};

std::vector<int64_t> weight_shape(const shufflenet_layer &layer) {
    if (layer.linear != 0) return {layer.out_channels, layer.in_channels};
    return {layer.out_channels, layer.in_channels, layer.kernel_height, layer.kernel_width};
}

bool has_norm(const shufflenet_layer &layer) { return *layer.norm != '\0'; }

/// The layers as a file with so many classes has them.
std::vector<shufflenet_layer> layers_of(const NeededWeights &needed, int classes) {
    std::vector<shufflenet_layer> layers(needed.layers.begin(), needed.layers.end());
    if (needed.any_classes) layers.back().out_channels = classes;
    return layers;
}

std::vector<ExpectedTensor> expected_tensors(const NeededWeights &needed, int classes) {
    std::vector<ExpectedTensor> expected;
    for (const shufflenet_layer &layer : layers_of(needed, classes)) {
        const std::string module = layer.module, norm = layer.norm;
        const std::vector<int64_t> channels = {layer.out_channels};
        expected.push_back({module + ".weight", weight_shape(layer)});
        if (!has_norm(layer)) {
            if (layer.bias != 0) expected.push_back({module + ".bias", channels});
            continue;
        }
        for (const char *suffix : {".weight", ".bias", ".running_mean", ".running_var"}) {
            expected.push_back({norm + suffix, channels});
        }
    }
    return expected;
}

/// PyTorch counts the training batches of each normalisation.
constexpr std::string_view kBatchCount = "num_batches_tracked";

/// And torch.optim.swa_utils.AveragedModel the models that it averaged.
constexpr std::string_view kModelCount = "n_averaged";

bool is_last_name(std::string_view name, std::string_view last) {
    return name.ends_with(last) && (name.size() == last.size() || name[name.size() - last.size() - 1] == '.');
}

std::unordered_set<std::string> ignored_tensors(const NeededWeights &needed) {
    std::unordered_set<std::string> ignored;
    for (const shufflenet_layer &layer : needed.layers) {
        if (has_norm(layer)) ignored.insert(std::string(layer.norm) + "." + std::string(kBatchCount));
    }
    return ignored;
}

/// Only a last weight that fits decides the class count: a transposed one must not make its bias look wrong.
int file_classes(const Safetensors &file, const NeededWeights &needed, const std::string &prefix) {
    if (!needed.any_classes) return 0;
    const shufflenet_layer &last = needed.layers.back();
    const Tensor *weight = file.find(prefix + last.module + ".weight");
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

/// What is wrong with a tensor as far as the header tells, or nothing. `name`: the file's.
std::string misfit(const ExpectedTensor &expected, const std::string &name, const Tensor *tensor) {
    if (tensor == nullptr) return "missing " + name;
    if (!same_shape(expected.shape, tensor->shape)) {
        return name + " has shape " + message::shape_text(tensor->shape) + ", expected " +
               expected_shape_text(expected.shape);
    }
    if (!element_type(tensor->dtype)) {
        return name + " has dtype " + tensor->dtype + ", expected " + std::string(kElementTypes);
    }
    return {};
}

/// What is wrong with each tensor that does not fit, with names as the file has them.
struct Misfits {
    std::vector<std::string_view> unexpected;  ///< Names that the network does not know,
    std::vector<std::string> wrong;            ///< and what is wrong with what it needs, in its order.

    size_t count() const { return unexpected.size() + wrong.size(); }
};

Misfits misfits(const Safetensors &file, const NeededWeights &needed, const std::string &prefix) {
    Misfits found;
    std::unordered_set<std::string> known;
    for (const std::string &name : ignored_tensors(needed)) known.insert(prefix + name);
    for (const ExpectedTensor &expected : expected_tensors(needed, file_classes(file, needed, prefix))) {
        const std::string name = prefix + expected.name;
        std::string problem = misfit(expected, name, file.find(name));
        if (!problem.empty()) found.wrong.push_back(std::move(problem));
        known.insert(name);
    }
    for (const Tensor &tensor : file.tensors()) {
        if (known.contains(tensor.name) || is_last_name(tensor.name, kModelCount)) continue;
        found.unexpected.push_back(tensor.name);
    }
    return found;
}

struct Fit {
    std::string prefix;
    Misfits misfits;
    std::vector<std::string> complete;  ///< Several prefixes, if the file has all weights under each.
};

/// With the prefix that leaves the fewest misfits; without any, if that is as good.
Fit best_fit(const Safetensors &file, const NeededWeights &needed) {
    Fit best{"", misfits(file, needed, ""), {}};
    if (best.misfits.count() == 0 || needed.layers.empty()) return best;
    if (best.misfits.wrong.empty()) best.complete.emplace_back();
    // What stands before the first name stands before the others.
    for (const std::string &prefix : prefixes_of(file, std::string(needed.layers.front().module) + ".weight")) {
        Misfits found = misfits(file, needed, prefix);
        if (found.wrong.empty()) best.complete.push_back(prefix);
        if (found.count() < best.misfits.count()) {
            best.prefix = prefix;
            best.misfits = std::move(found);
        }
    }
    return best;
}

/// The name of what the file fits far better, or nothing.
std::string_view better_fit(const Safetensors &file, size_t misfit_count, std::span<const NeededWeights> others) {
    std::string_view best;
    size_t fewest = misfit_count / 4;
    for (const NeededWeights &candidate : others) {
        const size_t count = best_fit(file, candidate).misfits.count();
        if (count < fewest) {
            fewest = count;
            best = candidate.network;
        }
    }
    return best;
}

bool fits_float(double value) { return is_finite(value) && std::abs(value) <= std::numeric_limits<float>::max(); }

/// What is wrong with a file that does not fit.
std::string problem_of(const Safetensors &file, const NeededWeights &needed, const Fit &fit,
                       std::span<const NeededWeights> others) {
    if (fit.complete.size() > 1) {
        std::string prefixes;
        for (const std::string &prefix : fit.complete) {
            prefixes += (prefixes.empty() ? "'" : ", '") + message::shortened(prefix) + "'";
        }
        return "expected one set of weights, found " + std::to_string(fit.complete.size()) +
               ", whose names begin with " + prefixes + ": keep one (examples/pth_to_safetensors.py --prefix)";
    }
    std::string problem = "not weights of " + std::string(needed.network);
    if (const std::string_view other = better_fit(file, fit.misfits.count(), others); !other.empty()) {
        problem += ", rather of " + std::string(other);
    }
    return problem + ": " + message::misfits_text(fit.misfits.unexpected, fit.misfits.wrong);
}

std::string number_text(double value) {
    std::array<char, 32> text{};
    const char *end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
    return {text.data(), static_cast<size_t>(end - text.data())};
}

size_t elements_of(const Tensor &tensor) { return tensor.bytes / element_bytes(*element_type(tensor.dtype)); }

/// The largest magnitude; infinity or NaN if a value is. As integers, magnitudes of floats are in order, and those two
/// come last.
float largest_magnitude(std::span<const float> values) {
    int32_t largest = 0;
    for (const float value : values) largest = std::max(largest, std::bit_cast<int32_t>(value) & INT32_MAX);
    return std::bit_cast<float>(largest);
}

}  // namespace

bool is_training_count(std::string_view name) {
    return is_last_name(name, kBatchCount) || is_last_name(name, kModelCount);
}

std::vector<std::string> prefixes_of(const Safetensors &file, const std::string &name) {
    constexpr size_t kMost = 8;  // Each is tried.
    std::vector<std::string> prefixes;
    for (const Tensor &tensor : file.tensors()) {
        if (prefixes.size() == kMost || !tensor.name.ends_with("." + name)) continue;
        prefixes.push_back(tensor.name.substr(0, tensor.name.size() - name.size()));
    }
    return prefixes;
}

int classes_output(const shufflenet_program &program) {
    if (program.layers_count == 0 || program.layers[program.layers_count - 1].linear == 0) return -1;
    const int64_t blob = program.packing[program.layers_count - 1].blob;
    for (const shufflenet_call &call : std::span(program.calls, program.calls_count)) {
        if (call.to == SHUFFLENET_TO_OUTPUT && call.weights == blob) return call.out;
    }
    return -1;
}

NeededWeights needed_weights(std::string_view network, const shufflenet_program &program) {
    return {network, {program.layers, size_t(program.layers_count)}, classes_output(program) >= 0};
}

std::string best_prefix(const Safetensors &file, const NeededWeights &needed) { return best_fit(file, needed).prefix; }

bool is_state_dict(const Safetensors &file, const NeededWeights &needed) {
    return best_fit(file, needed).misfits.count() == 0;
}

Status check_state_dict(const Safetensors &file, const std::string &file_name, const NeededWeights &needed,
                        StateDict *out, std::span<const NeededWeights> others) try {
    Fit fit = best_fit(file, needed);
    if (fit.misfits.count() > 0) return message::bad_input(file_name, problem_of(file, needed, fit, others));
    out->classes = file_classes(file, needed, fit.prefix);
    out->prefix = std::move(fit.prefix);
    return {};
} catch (...) {
    return message::from_exception(file_name);
}

Status FoldingReader::open(const Safetensors &file, const std::string &file_name, const NeededWeights &needed) try {
    if (Status status = check_state_dict(file, file_name, needed, &dict_); !status.ok()) return status;
    if (!prefix().empty()) log_debug("%s: all names begin with %s", file_name.c_str(), prefix().c_str());
    file_ = &file;
    file_name_ = file_name;
    layers_ = layers_of(needed, classes());
    return {};
} catch (...) {
    return message::from_exception(file_name);
}

const shufflenet_layer &FoldingReader::next() {
    layer_ = &layers_[next_++];
    const std::string module = layer_->module;
    tensor_ = &tensor(module + ".weight");
    row_.resize(elements_of(*tensor_) / layer_->out_channels);
    scale_.assign(layer_->out_channels, 1);
    if (has_norm(*layer_)) {
        fold_bias(layer_->norm);
    } else {
        bias_ = layer_->bias != 0 ? read_all(module + ".bias") : std::vector<double>(layer_->out_channels);
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
    const ElementType type = *element_type(tensor.dtype);
    const size_t bytes = element_bytes(type);
    elements_to_floats(type, fetch(tensor, first * bytes, values.size() * bytes), values);
}

std::vector<double> FoldingReader::read_all(const std::string &name, double least) {
    const Tensor &found = tensor(name);
    std::vector<float> values(elements_of(found));
    decode(found, 0, values);
    note_bad_value(found, values, 0, least);
    return {values.begin(), values.end()};
}

void FoldingReader::note_bad_value(const Tensor &tensor, std::span<const float> values, size_t first, double least) {
    const auto bad =
        std::find_if(values.begin(), values.end(), [least](float v) { return !is_finite(v) || v < least; });
    const std::string start = tensor.name + " has the value ";
    if (bad == values.end() || (!bad_values_.empty() && bad_values_.back().starts_with(start))) return;
    const size_t element = first + static_cast<size_t>(bad - values.begin());
    // As the file has it: it may be too large for a float only.
    const ElementType type = *element_type(tensor.dtype);
    const std::byte *stored = fetch(tensor, element * element_bytes(type), element_bytes(type));
    bad_values_.push_back(start + number_text(element_to_double(type, stored, 0)) + " at element " +
                          std::to_string(element) + ", expected a finite float" + (least == 0 ? " from 0 up" : ""));
}

void FoldingReader::note_too_large() {
    const std::string message =
        std::string(layer_->module) + ".weight folded with " + layer_->norm + " is too large for a float";
    if (too_large_.empty() || too_large_.back() != message) too_large_.push_back(message);
}

Status FoldingReader::status() const {
    if (!read_status_.ok()) return read_status_;
    // What is not finite is too large as well when folded.
    const std::vector<std::string> &culprits = bad_values_.empty() ? too_large_ : bad_values_;
    if (culprits.empty()) return {};
    return message::bad_input(file_name_, message::list_text(culprits));
}

Status read_checkpoint(const Safetensors &file, const std::string &file_name, const NeededWeights &needed,
                       Checkpoint *out) try {
    FoldingReader reader;
    if (Status status = reader.open(file, file_name, needed); !status.ok()) return status;
    Checkpoint checkpoint{reader.classes(), reader.prefix(), {}};
    for (size_t i = 0; i < needed.layers.size(); ++i) {
        FoldedLayer &folded = checkpoint.layers.emplace_back();
        const int channels = reader.next().out_channels;
        folded.bias = reader.bias();
        for (int c = 0; c < channels; ++c) {
            for (const float weight : reader.weights(c)) folded.weights.push_back(weight * reader.scale(c));
        }
    }
    Status status = reader.status();
    if (status.ok()) *out = std::move(checkpoint);
    return status;
} catch (...) {
    return message::from_exception(file_name);
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
