#include "checkpoint.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "half.h"
#include "message.h"
#include "networks/layers.h"

namespace shufflenet {

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

std::vector<ExpectedTensor> expected_tensors(const Network &network, int classes) {
    std::vector<ExpectedTensor> expected;
    for (const Layer &layer : network_layers(network, kAnyInput, classes)) {
        if (!layer.has_weights()) continue;
        const std::string conv(layer.conv.view()), norm(layer.norm.view());
        const std::vector<int64_t> channels = {layer.out_channels};
        expected.push_back({conv + ".weight", weight_shape(layer)});
        if (norm.empty()) {
            expected.push_back({conv + ".bias", channels});
            continue;
        }
        for (const char *suffix : {".weight", ".bias", ".running_mean", ".running_var"}) {
            expected.push_back({norm + suffix, channels});
        }
    }
    return expected;
}

/// PyTorch counts the training batches of each normalisation; nothing is computed from it.
std::unordered_set<std::string> ignored_tensors(const Network &network) {
    std::unordered_set<std::string> ignored;
    for (const Layer &layer : network_layers(network, kAnyInput, kAnyClasses)) {
        if (!layer.norm.empty()) ignored.insert(std::string(layer.norm.view()) + ".num_batches_tracked");
    }
    return ignored;
}

/// Only an fc.weight that fits decides the class count: a transposed one must not make fc.bias look wrong.
int file_classes(const Safetensors &file, const Network &network) {
    const Tensor *weight = file.find("fc.weight");
    const bool valid = weight != nullptr && weight->shape.size() == 2 && weight->shape[0] >= 1 &&
                       weight->shape[0] <= kMaxClasses && weight->shape[1] == network.conv5_channels;
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
std::vector<std::string> misfits(const Safetensors &file, const Network &network) {
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

/// Another published network that the file fits far better, or nullptr.
const Network *better_fit(const Safetensors &file, size_t misfit_count) {
    const Network *best = nullptr;
    size_t fewest = misfit_count / 4;
    for (const Network &candidate : kNetworks) {
        const size_t count = misfits(file, candidate).size();
        if (count < fewest) {
            fewest = count;
            best = &candidate;
        }
    }
    return best;
}

/// Reads tensors that are known to fit, and notes those with values that no trained network has.
class ValueReader {
  public:
    explicit ValueReader(const Safetensors &file) : file_(file) {}

    /// All values, noted unless they are finite and at least `least`.
    std::vector<double> read(const std::string &name, double least = std::numeric_limits<double>::lowest()) {
        std::vector<double> values = decode(*file_.find(name));
        const auto bad =
            std::find_if(values.begin(), values.end(), [least](double v) { return !std::isfinite(v) || v < least; });
        if (bad != values.end()) {
            culprits_.push_back(name + " has the value " + number_text(*bad) + " at element " +
                                std::to_string(bad - values.begin()));
        }
        return values;
    }

    const std::vector<std::string> &culprits() const { return culprits_; }

  private:
    static std::vector<double> decode(const Tensor &tensor) {
        const bool half = tensor.dtype == "F16";
        const size_t element = half ? sizeof(uint16_t) : sizeof(float);
        std::vector<double> values(tensor.data.size() / element);
        const std::byte *from = tensor.data.data();
        for (double &value : values) {
            if (half) {
                uint16_t bits = 0;
                std::memcpy(&bits, from, sizeof bits);
                value = half_to_double(bits);
            } else {
                float single = 0;
                std::memcpy(&single, from, sizeof single);
                value = single;
            }
            from += element;
        }
        return values;
    }

    static std::string number_text(double value) {
        std::array<char, 32> text{};
        const char *end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
        return {text.data(), static_cast<size_t>(end - text.data())};
    }

    const Safetensors &file_;
    std::vector<std::string> culprits_;
};

/// norm(conv(x)) = gamma (w x - mean) / sqrt(var + eps) + beta, as one convolution.
FoldedLayer fold(const Layer &layer, ValueReader &reader) {
    const std::string conv(layer.conv.view()), norm(layer.norm.view());
    FoldedLayer folded;
    folded.weights = reader.read(conv + ".weight");
    if (norm.empty()) {
        folded.bias = reader.read(conv + ".bias");
        return folded;
    }
    const std::vector<double> gamma = reader.read(norm + ".weight");
    const std::vector<double> mean = reader.read(norm + ".running_mean");
    const std::vector<double> variance = reader.read(norm + ".running_var", 0);
    folded.bias = reader.read(norm + ".bias");

    const size_t per_channel = folded.weights.size() / gamma.size();
    for (size_t c = 0; c < gamma.size(); ++c) {
        const double scale = gamma[c] / std::sqrt(variance[c] + kBatchNormEps);
        for (size_t i = 0; i < per_channel; ++i) folded.weights[c * per_channel + i] *= scale;
        folded.bias[c] -= mean[c] * scale;
    }
    return folded;
}

bool fits_float(const std::vector<double> &values) {
    return std::all_of(values.begin(), values.end(),
                       [](double v) { return std::abs(v) <= std::numeric_limits<float>::max(); });
}

std::vector<std::string> too_large(const std::vector<Layer> &layers, const std::vector<FoldedLayer> &folded) {
    std::vector<std::string> culprits;
    for (size_t i = 0; i < layers.size(); ++i) {
        if (fits_float(folded[i].weights) && fits_float(folded[i].bias)) continue;
        culprits.push_back(std::string(layers[i].conv.view()) + ".weight folded with " +
                           std::string(layers[i].norm.view()) + " is too large for a float");
    }
    return culprits;
}

}  // namespace

Status check_state_dict(const Safetensors &file, const std::string &file_name, const Network &network,
                        int *classes) try {
    const std::vector<std::string> culprits = misfits(file, network);
    if (culprits.empty()) {
        *classes = file_classes(file, network);
        return {};
    }
    std::string problem = "not weights of " + std::string(network.name);
    if (const Network *other = better_fit(file, culprits.size())) {
        problem += ", rather of " + std::string(other->name);
    }
    return message::bad_input(file_name, problem + ": " + message::list_text(culprits));
} catch (...) {
    return message::from_exception(file_name);
}

Status read_checkpoint(const Safetensors &file, const std::string &file_name, const Network &network,
                       Checkpoint *out) try {
    Checkpoint checkpoint;
    if (Status status = check_state_dict(file, file_name, network, &checkpoint.classes); !status.ok()) return status;

    const std::vector<Layer> layers = network_layers(network, kAnyInput, checkpoint.classes);
    ValueReader reader(file);
    for (const Layer &layer : layers) {
        checkpoint.layers.push_back(layer.has_weights() ? fold(layer, reader) : FoldedLayer{});
    }
    std::vector<std::string> culprits = reader.culprits();
    if (culprits.empty()) culprits = too_large(layers, checkpoint.layers);
    if (!culprits.empty()) return message::bad_input(file_name, message::list_text(culprits));
    *out = std::move(checkpoint);
    return {};
} catch (...) {
    return message::from_exception(file_name);
}

}  // namespace shufflenet
