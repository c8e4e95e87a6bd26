#include "megvii.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "canonical.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/element.h"
#include "runtime/src/message.h"

namespace shufflenet {

namespace {

using namespace imports;

constexpr Size kAnyInput{kDefaultCrop, kDefaultCrop};
const std::string kFirstWeight = "first_conv.0.weight";

/// "stage3.1.branch2.5" is "features.5.branch_main.5": units are numbered through.
std::string megvii_module(const Network &network, std::string_view module) {
    if (module == "fc") return "classifier.0";
    const size_t dot = module.find('.');
    const std::string rest(module.substr(dot));
    if (module.starts_with("conv1.")) return "first_conv" + rest;
    if (module.starts_with("conv5.")) return "conv_last" + rest;
    int unit = 0;
    for (int number = 2; number < module[5] - '0'; ++number) unit += network.units[number - 2];
    const size_t branch = rest.find('.', 1);
    unit += std::stoi(rest.substr(1, branch - 1));
    const bool projection = rest[branch + 7] == '1';
    return "features." + std::to_string(unit) + (projection ? ".branch_proj." : ".branch_main.") +
           rest.substr(branch + 9);
}

/// What stands before every name; the first, if there are several.
std::string prefix_of(const Safetensors &file) {
    if (file.find(kFirstWeight) != nullptr) return {};
    const std::vector<std::string> prefixes = prefixes_of(file, kFirstWeight);
    return prefixes.empty() ? std::string() : prefixes.front();
}

/// Reads the tensors of modules, and notes what is missing, misshapen or left over.
class MegviiReader {
  public:
    MegviiReader(const Safetensors &file, const Network &network)
        : file_(file), network_(network), prefix_(prefix_of(file)), inputs_(megvii_inputs(network)) {}

    std::vector<SourceLayer> read() {
        std::vector<SourceLayer> layers;
        std::vector<std::string_view> unexpected;
        for (const Layer &row : network_layers(network_, kAnyInput, kDefaultClasses)) {
            SourceLayer &layer = layers.emplace_back();
            layer.inputs = std::move(inputs_[layers.size() - 1]);
            if (row.has_weights()) read_layer(row, layer);
        }
        for (const Tensor &tensor : file_.tensors()) {
            if (known_.contains(tensor.name) || is_training_count(tensor.name)) continue;
            unexpected.push_back(tensor.name);
        }
        if (!problems_.empty() || !unexpected.empty()) throw Refusal(message::misfits_text(unexpected, problems_));
        return layers;
    }

  private:
    void read_layer(const Layer &row, SourceLayer &layer) {
        const std::string name = prefix_ + megvii_module(network_, row.conv.view());
        const bool connected = row.kind == LayerKind::kFullyConnected;
        layer.name = name + ".weight";
        const Tensor *weight = find(layer.name, connected ? 2 : 4);
        if (weight == nullptr) return;
        layer.weight = std::make_shared<const Array<float>>(Array<float>{weight->shape, values(*weight)});
        const int64_t outputs = weight->shape.front();
        if (connected) {
            if (outputs < 1 || outputs > kMaxClasses) {
                problems_.push_back(layer.name + " has shape " + message::shape_text(weight->shape) +
                                    ", expected 1 to " + std::to_string(kMaxClasses) + " classes");
            }
            // Megvii's classifier has none.
            if (file_.find(name + ".bias") != nullptr) layer.bias = vector(name + ".bias", outputs);
            return;
        }
        const std::string norm = prefix_ + megvii_module(network_, row.norm.view());
        layer.norm = Norm{vector(norm + ".weight", outputs), vector(norm + ".bias", outputs),
                          vector(norm + ".running_mean", outputs), vector(norm + ".running_var", outputs), 1e-5};
    }

    std::vector<float> values(const Tensor &tensor) {
        const ElementType type = *element_type(tensor.dtype);
        std::vector<std::byte> bytes(tensor.bytes);
        Status status = file_.read(tensor, 0, bytes);
        if (!status.ok()) problems_.push_back(status.message());
        std::vector<float> values(bytes.size() / element_bytes(type));
        elements_to_floats(type, bytes.data(), values);
        return values;
    }

    std::vector<float> vector(const std::string &name, int64_t elements) {
        const Tensor *tensor = find(name, 1);
        if (tensor == nullptr) return {};
        if (tensor->shape.front() != elements) {
            problems_.push_back(name + " has shape " + message::shape_text(tensor->shape) + ", expected [" +
                                std::to_string(elements) + "]");
        }
        return values(*tensor);
    }

    const Tensor *find(const std::string &name, size_t rank) {
        known_.insert(name);
        const Tensor *tensor = file_.find(name);
        if (tensor == nullptr) {
            problems_.push_back("missing " + name);
        } else if (!element_type(tensor->dtype)) {
            problems_.push_back(name + " has dtype " + tensor->dtype + ", expected " + std::string(kElementTypes));
        } else if (tensor->shape.size() != rank) {
            problems_.push_back(name + " has shape " + message::shape_text(tensor->shape) + ", expected rank " +
                                std::to_string(rank));
        } else {
            return tensor;
        }
        return nullptr;
    }

    const Safetensors &file_;
    const Network &network_;
    std::string prefix_;
    std::vector<std::vector<SourceChannel>> inputs_;
    std::set<std::string> known_;
    std::vector<std::string> problems_;
};

/// By the input channels of the last convolution, which are stage 4's.
const Network &network_of(const Safetensors &file) {
    const Tensor *last = file.find(prefix_of(file) + "conv_last.0.weight");
    if (last == nullptr || last->shape.size() != 4) return kNetworks.front();
    for (const Network &network : kNetworks) {
        if (network.stage_channels.back() == last->shape[1]) return network;
    }
    return kNetworks.front();
}

}  // namespace

bool has_megvii_names(const Safetensors &file) {
    return file.find(kFirstWeight) != nullptr || !prefixes_of(file, kFirstWeight).empty();
}

Status read_megvii(const Safetensors &file, const std::string &file_name, const Network *network,
                   std::vector<std::byte> *out) try {
    const Network &of = network != nullptr ? *network : network_of(file);
    try {
        *out = to_safetensors(canonical_form(of, MegviiReader(file, of).read()).tensors);
    } catch (const Refusal &refusal) {
        throw Refusal("not Megvii's weights of " + std::string(of.name) + ": " + refusal.what());
    }
    return {};
} catch (const Refusal &refusal) {
    return message::bad_input(file_name, refusal.what());
} catch (...) {
    return message::from_exception(file_name);
}

}  // namespace shufflenet
