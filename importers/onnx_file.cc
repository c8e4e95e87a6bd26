#include "onnx_file.h"

#include <algorithm>
#include <map>
#include <utility>

#include "graph_weights.h"
#include "match.h"
#include "megvii.h"
#include "model_proto.h"
#include "weights.h"

namespace shufflenet {

namespace {

using namespace imports;

bool reads_the_same(const networks::Graph &a, const networks::Graph &b) {
    return std::ranges::equal(a.layers, b.layers, [](const networks::Layer &one, const networks::Layer &other) {
        return one.in.front().channels == other.in.front().channels;
    });
}

ChannelOrder channel_order(const networks::Graph &found, const networks::Graph &network) {
    if (reads_the_same(found, network)) return ChannelOrder::kTorchvision;
    return reads_the_same(found, in_megvii_order(network)) ? ChannelOrder::kMegvii : ChannelOrder::kOther;
}

bool is_folded(std::span<const FileLayer> layers, const networks::Graph &network) {
    for (size_t i = 0; i < layers.size(); ++i) {
        if (!network.layers[i].norm.empty() && !layers[i].norm) return true;
    }
    return false;
}

/// Where each of the file's channels is in the output; empty: they are others.
std::vector<int> order_in(const networks::Tensor &output, const networks::Tensor &found, const ChannelMap &map) {
    std::map<networks::Channel, int> places;
    for (int at = 0; at < output.count(); ++at) places[output.channels[at]] = at;
    std::vector<int> order;
    for (networks::Channel channel : found.channels) {
        if (channel.layer == networks::kImage) return {};
        channel.index = map.outputs[channel.layer][channel.index];
        const auto place = places.find(channel);
        if (place == places.end()) return {};
        order.push_back(place->second);
        places.erase(place);
    }
    return places.empty() ? order : std::vector<int>{};
}

/// The network's outputs that are in the file: as its own outputs, or while it runs.
std::vector<OnnxOutput> find_outputs(const Matched &matched, const ChannelMap &map, const networks::Graph &network) {
    std::vector<networks::Output> tensors = matched.graph.outputs;
    tensors.insert(tensors.end(), matched.tensors.begin(), matched.tensors.end());
    std::vector<OnnxOutput> found;
    for (const networks::Output &output : network.outputs) {
        for (const networks::Output &tensor : tensors) {
            std::vector<int> order = order_in(output.tensor, tensor.tensor, map);
            if (order.empty()) continue;
            found.push_back({output.name, tensor.name, std::move(order)});
            break;
        }
    }
    return found;
}

/// Classes have no order but the file's: its output must have them as they are.
void check_classes(const onnx::GraphProto &file, const std::vector<OnnxOutput> &outputs,
                   const networks::Graph &network) {
    const networks::Tensor classes = network.tensor(last_with_weights(network));
    for (const OnnxOutput &output : outputs) {
        if (network.find_output(output.name)->tensor == classes && std::ranges::is_sorted(output.order)) return;
    }
    throw Refusal("output '" + message::shortened(file.output(0).name()) +
                  "' is not the fully connected layer's outputs, [N, classes], as they are");
}

/// A graph that breaks off: at a layer that differs from the network's, if there is one, else where it did.
Trace read_trace(const onnx::ModelProto &model, const networks::Graph *network, Size assumed) {
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

/// The weights and what else is known of a traced file.
OnnxNetwork read_network(const onnx::GraphProto &file, const Trace &trace, networks::Graph network) {
    const Matched matched = match_layers(trace, network);
    OnnxNetwork out;
    const bool has_classes = any_classes(network);
    if (has_classes) {
        out.classes = static_cast<int>(matched.layers[last_with_weights(network)].weight->dims[0]);
        set_classes(&network, out.classes);
    }
    check_shapes(matched.layers, network);
    const ChannelMap map = map_channels(matched.graph, matched.layers, network);
    out.outputs = find_outputs(matched, map, network);
    if (has_classes) check_classes(file, out.outputs, network);
    out.size = trace.size;
    out.batch = trace.batch;
    out.half = trace.half;
    out.input = trace.input;
    out.order = channel_order(matched.graph, network);
    out.folded = is_folded(matched.layers, network);
    out.safetensors = to_safetensors(state_dict(matched.layers, map, network));
    out.graph = std::move(network);
    return out;
}

OnnxNetwork read_model(const onnx::ModelProto &model, const networks::Graph *network, Size assumed) {
    const Trace trace = read_trace(model, network, assumed);
    const networks::Graph of = network != nullptr ? *network : nearest_network(trace);
    try {
        return read_network(model.graph(), trace, of);
    } catch (const Refusal &refusal) {
        throw Refusal("not " + of.name + ": " + refusal.what());
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
    for (const OnnxOutput &output : onnx.outputs) out.outputs.push_back(add_output(graph, output.tensor));
    out.file.resize(model.ByteSizeLong());
    if (!model.SerializeToArray(out.file.data(), static_cast<int>(out.file.size()))) {
        throw Refusal("too large to be written again");
    }
    return out;
}

}  // namespace

Status read_onnx(std::span<const std::byte> file, const std::string &name, const networks::Graph *network, Size assumed,
                 OnnxNetwork *out) {
    return read_status(name, [&]() -> Status {
        if (Status status = check_kind(file, name, kOnnxFile); !status.ok()) return status;
        *out = read_model(parse_model(file), network, assumed);
        return {};
    });
}

Status with_outputs(std::span<const std::byte> file, const std::string &name, const OnnxNetwork &onnx,
                    FloatModel *out) {
    return read_status(name, [&]() -> Status {
        *out = float_model(parse_model(file), onnx);
        return {};
    });
}

}  // namespace shufflenet
