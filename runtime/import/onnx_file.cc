#include "onnx_file.h"

#include <utility>

#include "match.h"
#include "runtime/src/safetensors.h"

namespace shufflenet {

namespace {

using namespace imports;

onnx::ModelProto parse_model(std::span<const std::byte> file) {
    onnx::ModelProto model;
    if (file.size() > kOnnxFile.most) {
        throw Refusal("expected an ONNX file of less than 2 GiB, found " + std::to_string(file.size()) + " bytes");
    }
    if (!model.ParseFromArray(file.data(), static_cast<int>(file.size()))) {
        throw Refusal("not an ONNX file, or truncated: its protocol buffer ends early or makes no sense");
    }
    if (!model.has_graph() || model.graph().node_size() == 0) throw Refusal("not an ONNX file: no graph in it");
    return model;
}

int64_t operator_set(const onnx::ModelProto &model) {
    int64_t version = 0;
    for (const auto &set : model.opset_import()) {
        if (set.domain().empty() || set.domain() == "ai.onnx") version = set.version();
    }
    if (version < kOldestOpset || version > kNewestOpset) {
        throw Refusal("operator set " + std::to_string(version) + ", expected " + std::to_string(kOldestOpset) +
                      " to " + std::to_string(kNewestOpset));
    }
    return version;
}

ChannelOrder channel_order(const std::vector<SourceLayer> &layers, const Network &network, bool same) {
    if (same) return ChannelOrder::kTorchvision;
    const std::vector<std::vector<SourceChannel>> megvii = megvii_inputs(network);
    for (size_t i = 0; i < layers.size(); ++i) {
        const auto equal = [](const SourceChannel &a, const SourceChannel &b) {
            return a.row == b.row && a.channel == b.channel;
        };
        if (!std::equal(layers[i].inputs.begin(), layers[i].inputs.end(), megvii[i].begin(), megvii[i].end(), equal)) {
            return ChannelOrder::kOther;
        }
    }
    return ChannelOrder::kMegvii;
}

bool is_folded(const std::vector<SourceLayer> &layers) {
    return std::any_of(layers.begin(), layers.end() - 1,
                       [](const SourceLayer &layer) { return layer.weight != nullptr && !layer.norm; });
}

/// A graph that breaks off: at a layer that differs from the network's, if there is one, else where it did.
Trace read_trace(const onnx::ModelProto &model, const Network *network, Size assumed) {
    Trace trace;
    const int64_t opset = operator_set(model);
    try {
        trace_graph(model.graph(), opset, assumed, &trace);
    } catch (const Refusal &) {
        if (!trace.layers.empty()) check_layers(trace, network != nullptr ? *network : nearest_network(trace));
        throw;
    }
    return trace;
}

/// The weights and what else is known of a traced graph.
OnnxNetwork read_network(const Trace &trace, const Network &network) {
    OnnxNetwork out;
    out.network = &network;
    out.size = trace.size;
    out.batch = trace.batch;
    out.half = trace.half;
    out.input = trace.input;
    Matched matched = match_layers(trace, network);
    const Canonical canonical = canonical_form(network, matched.layers);
    out.classes = canonical.classes;
    out.order = channel_order(matched.layers, network, canonical.same_order);
    out.folded = is_folded(matched.layers);
    out.logits = matched.logits;
    auto found = find_features(trace, matched, canonical);
    for (int i = 0; i < kFeatures; ++i) {
        if (!found[i]) continue;
        out.features.push_back({static_cast<Feature>(i), std::move(found[i]->tensor), std::move(found[i]->canonical)});
    }
    out.safetensors = to_safetensors(canonical.tensors);
    return out;
}

OnnxNetwork read_model(const onnx::ModelProto &model, const Network *network, Size assumed) {
    const Trace trace = read_trace(model, network, assumed);
    const Network &of = network != nullptr ? *network : nearest_network(trace);
    try {
        return read_network(trace, of);
    } catch (const Refusal &refusal) {
        throw Refusal("not " + std::string(of.name) + ": " + refusal.what());
    }
}

/// A node that makes `target` of `source`.
onnx::NodeProto cast_node(const std::string &source, const std::string &target, int type) {
    onnx::NodeProto node;
    node.set_op_type("Cast");
    node.add_input(source);
    node.add_output(target);
    onnx::AttributeProto &to = *node.add_attribute();
    to.set_name("to");
    to.set_type(onnx::AttributeProto::INT);
    to.set_i(type);
    return node;
}

/// Gives the graph a float input in front of its own. Returns the new one's name.
std::string replace_input(onnx::GraphProto &graph, const std::string &input) {
    std::string name = "float/" + input;
    for (onnx::ValueInfoProto &value : *graph.mutable_input()) {
        if (value.name() != input) continue;
        onnx::TypeProto::Tensor &type = *value.mutable_type()->mutable_tensor_type();
        *graph.add_node() = cast_node(name, input, type.elem_type());
        value.set_name(name);
        type.set_elem_type(onnx::TensorProto::FLOAT);
    }
    // A node stands before those that read it.
    for (int i = graph.node_size() - 1; i > 0; --i) graph.mutable_node()->SwapElements(i, i - 1);
    return name;
}

std::string add_output(onnx::GraphProto &graph, const std::string &tensor) {
    std::string name = "float/" + tensor;
    *graph.add_node() = cast_node(tensor, name, onnx::TensorProto::FLOAT);
    onnx::ValueInfoProto &output = *graph.add_output();
    output.set_name(name);
    output.mutable_type()->mutable_tensor_type()->set_elem_type(onnx::TensorProto::FLOAT);
    return name;
}

FloatModel float_model(onnx::ModelProto model, const OnnxNetwork &onnx) {
    onnx::GraphProto &graph = *model.mutable_graph();
    FloatModel out;
    out.input = replace_input(graph, onnx.input);
    graph.clear_output();
    out.outputs.push_back(add_output(graph, onnx.logits));
    for (const OnnxFeature &feature : onnx.features) out.outputs.push_back(add_output(graph, feature.tensor));
    out.file.resize(model.ByteSizeLong());
    if (!model.SerializeToArray(out.file.data(), static_cast<int>(out.file.size()))) {
        throw Refusal("too large to be written again");
    }
    return out;
}

}  // namespace

Status read_onnx(std::span<const std::byte> file, const std::string &name, const Network *network, Size assumed,
                 OnnxNetwork *out) try {
    if (Status status = check_kind(file, name, kOnnxFile); !status.ok()) return status;
    *out = read_model(parse_model(file), network, assumed);
    return {};
} catch (const Refusal &refusal) {
    return message::bad_input(name, refusal.what());
} catch (...) {
    return message::from_exception(name);
}

Status with_features(std::span<const std::byte> file, const std::string &name, const OnnxNetwork &onnx,
                     FloatModel *out) try {
    *out = float_model(parse_model(file), onnx);
    return {};
} catch (const Refusal &refusal) {
    return message::bad_input(name, refusal.what());
} catch (...) {
    return message::from_exception(name);
}

}  // namespace shufflenet
