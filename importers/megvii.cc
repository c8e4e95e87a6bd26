#include "megvii.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "graph_weights.h"
#include "networks/bounds.h"
#include "recognise.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/element.h"
#include "runtime/src/message.h"
#include "weights.h"

namespace shufflenet {

namespace {

using namespace imports;

const std::string kFirstWeight = "first_conv.0.weight";

/// Megvii's names of the modules. "stage3.1.branch2.5" is "features.5.branch_main.5": units are numbered through.
class MegviiNames {
  public:
    std::string name_of(const std::string &module) {
        if (module == "fc") return "classifier.0";
        const size_t stage = module.find('.');
        if (module.starts_with("conv1.")) return "first_conv" + module.substr(stage);
        if (module.starts_with("conv5.")) return "conv_last" + module.substr(stage);
        const size_t unit = module.find('.', stage + 1), branch = module.find('.', unit + 1);
        const int number = numbers_.try_emplace(module.substr(0, unit), std::ssize(numbers_)).first->second;
        const bool projection = module.substr(unit, branch - unit) == ".branch1";
        return "features." + std::to_string(number) + (projection ? ".branch_proj" : ".branch_main") +
               module.substr(branch);
    }

  private:
    std::map<std::string, int> numbers_;  ///< Of "stage3.1", in the order of execution.
};

/// What stands before every name; the first, if there are several.
std::string prefix_of(const Safetensors &file) {
    if (file.find(kFirstWeight) != nullptr) return {};
    const std::vector<std::string> prefixes = prefixes_of(file, kFirstWeight);
    return prefixes.empty() ? std::string() : prefixes.front();
}

/// Reads the tensors of modules, and notes what is missing, misshapen or left over.
class MegviiReader {
  public:
    MegviiReader(const Safetensors &file, const networks::Graph &network)
        : file_(file), network_(network), prefix_(prefix_of(file)) {}

    std::vector<FileLayer> read() {
        std::vector<FileLayer> layers;
        std::vector<std::string_view> unexpected;
        for (const networks::Layer &row : network_.layers) {
            FileLayer &layer = layers.emplace_back();
            layer.name = row.id;
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
    void read_layer(const networks::Layer &row, FileLayer &layer) {
        const std::string name = prefix_ + names_.name_of(row.module);
        const bool connected = row.kind == networks::LayerKind::kLinear;
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
        const std::string norm = prefix_ + names_.name_of(row.norm);
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
    const networks::Graph &network_;
    std::string prefix_;
    MegviiNames names_;
    std::set<std::string> known_;
    std::vector<std::string> problems_;
};

/// By the input channels of the last convolution, which are stage 4's; else the first.
networks::Graph network_of(const Safetensors &file) {
    std::vector<networks::Graph> graphs = published_graphs(Family::kShuffleNetV2);
    const Tensor *last = file.find(prefix_of(file) + "conv_last.0.weight");
    const auto fits = [last](const networks::Graph &graph) {
        const auto conv5 = std::ranges::find(graph.layers, "conv5", &networks::Layer::id);
        return last != nullptr && last->shape.size() == 4 && conv5->in_channels() == last->shape[1];
    };
    const auto found = std::ranges::find_if(graphs, fits);
    return found != graphs.end() ? *found : graphs.front();
}

std::vector<std::byte> converted(const Safetensors &file, networks::Graph network) {
    const std::vector<FileLayer> layers = MegviiReader(file, network).read();
    if (any_classes(network)) {
        set_classes(&network, static_cast<int>(layers[last_with_weights(network)].weight->dims[0]));
    }
    check_shapes(layers, network);
    return to_safetensors(state_dict(layers, map_channels(in_megvii_order(network), layers, network), network));
}

}  // namespace

bool has_megvii_names(const Safetensors &file) {
    return file.find(kFirstWeight) != nullptr || !prefixes_of(file, kFirstWeight).empty();
}

Status read_megvii(const Safetensors &file, const std::string &file_name, const networks::Graph *network,
                   std::vector<std::byte> *out) {
    return read_status(file_name, [&]() -> Status {
        const networks::Graph of = network != nullptr ? *network : network_of(file);
        try {
            *out = converted(file, of);
        } catch (const Refusal &refusal) {
            throw Refusal("not Megvii's weights of " + of.name + ": " + refusal.what());
        }
        return {};
    });
}

networks::Graph in_megvii_order(networks::Graph network) {
    using networks::GraphBuilder;
    networks::Tensor now, kept;
    for (int i = 0; i < static_cast<int>(network.layers.size()); ++i) {
        networks::Layer &layer = network.layers[i];
        const std::vector<networks::Channel> &reads = layer.in.front().channels;
        if (reads.front().layer != reads.back().layer)
            layer.in = {now};  // Only outputs of units are of several layers.
        if (layer.id.ends_with("_branch2_pw1")) {
            const bool down = network.layers[i - 1].id.ends_with("_branch1_pw");
            kept = down ? network.tensor(i - 1) : GraphBuilder::slice(now, 0, now.count() / 2, 2);
            layer.in = {down ? now : GraphBuilder::slice(now, 1, now.count() / 2, 2)};
        }
        if (layer.id == "stem_pool") now = network.tensor(i);
        if (layer.id.ends_with("_branch2_pw2")) now = GraphBuilder::concat({kept, network.tensor(i)});
    }
    return network;
}

}  // namespace shufflenet
