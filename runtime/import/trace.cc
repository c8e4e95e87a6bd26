#include "trace.h"

#include <map>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "moves.h"
#include "shape_arithmetic.h"

namespace shufflenet::imports {

namespace {

/// Largest extent of an axis of a batch or of pixels, of a kernel, a stride or a pad.
constexpr int64_t kMaxExtent = 1 << 16;

/// Elements that all nodes together may make, beside what the file's own bytes allow for.
constexpr int64_t kMaxWork = int64_t{1} << 25;

bool within(const Dims &values, int64_t least) {
    return std::all_of(values.begin(), values.end(), [least](int64_t v) { return v >= least && v <= kMaxExtent; });
}

/// A window's attributes, checked; those that are absent are ONNX's defaults.
void read_window(const Node &node, const Dims &kernel, TracedLayer &layer) {
    if (const std::string pad = node.text("auto_pad", "NOTSET"); pad != "NOTSET") {
        throw Refusal("has auto_pad " + message::shortened(pad) + ", expected pads");
    }
    layer.kernel = node.integers("kernel_shape", kernel);
    layer.strides = node.integers("strides", {1, 1});
    layer.dilations = node.integers("dilations", {1, 1});
    layer.pads = node.integers("pads", {0, 0, 0, 0});
    const bool flat = layer.kernel.size() == 2 && layer.strides.size() == 2 && layer.dilations.size() == 2;
    if (!flat || layer.pads.size() != 4 || !within(layer.kernel, 1) || !within(layer.strides, 1) ||
        !within(layer.dilations, 1) || !within(layer.pads, 0)) {
        throw Refusal("has a window that is not two-dimensional, or an attribute of it out of range");
    }
}

int window_output(int in, int64_t kernel, int64_t stride, int64_t dilation, int64_t pads) {
    const int64_t rest = in + pads - dilation * (kernel - 1) - 1;
    if (rest < 0) throw Refusal("has a window that is larger than its input");
    return static_cast<int>(rest / stride + 1);
}

Size window_output(const TracedLayer &layer) {
    const Dims &pads = layer.pads;
    return {window_output(layer.in.height, layer.kernel[0], layer.strides[0], layer.dilations[0], pads[0] + pads[2]),
            window_output(layer.in.width, layer.kernel[1], layer.strides[1], layer.dilations[1], pads[1] + pads[3])};
}

const Activations &activations_of(const Inputs &inputs, size_t i) {
    const auto *activations = std::get_if<Activations>(&input_value(inputs, i));
    if (activations == nullptr) throw Refusal("input " + std::to_string(i) + " is a constant, not activations");
    return *activations;
}

/// (N, C, H, W), as all layers but the last have it.
const Activations &image_of(const Inputs &inputs) {
    const Activations &in = activations_of(inputs, 0);
    if (in.plane != Plane::kHeightWidth || in.channels.dims.size() != 2) {
        throw Refusal("has an input of shape " + message::shape_text(in.dims()) + ", expected [N, C, H, W]");
    }
    return in;
}

/// (N, C)
const Activations &vector_of(const Inputs &inputs) {
    const Activations &in = activations_of(inputs, 0);
    if (in.plane != Plane::kNone || in.channels.dims.size() != 2) {
        throw Refusal("has an input of shape " + message::shape_text(in.dims()) + ", expected [N, C]");
    }
    return in;
}

/// Shares the ownership of the whole value.
std::shared_ptr<const Array<float>> share_floats(const Inputs &inputs, size_t i) {
    const Array<float> &floats = floats_of(inputs, i);
    return {inputs[i], &floats};
}

size_t elements(const Value &value) {
    if (const auto *activations = std::get_if<Activations>(&value)) return activations->channels.data.size();
    if (const auto *floats = std::get_if<Array<float>>(&value)) return floats->data.size();
    return std::get<Array<int64_t>>(value).data.size();
}

class Tracer {
  public:
    Tracer(const onnx::GraphProto &graph, int64_t opset, Size assumed, Trace &out)
        : graph_(graph), opset_(opset), budget_(kMaxWork + static_cast<int64_t>(graph.ByteSizeLong())), trace_(out) {
        for (const onnx::TensorProto &tensor : graph.initializer()) initializers_[tensor.name()] = &tensor;
        read_input(assumed);
    }

    void run() {
        check_names();
        const std::vector<bool> needed = count_uses();
        for (int i = 0; i < graph_.node_size(); ++i) {
            if (needed[i]) run_node(Node(graph_.node(i), i));
        }
        for (const auto &output : graph_.output()) trace_.outputs.push_back(output_of(output.name()));
    }

  private:
    using LayerNode = Value (Tracer::*)(const Node &, const Inputs &);

    /// A value, and how many nodes have yet to read it.
    struct Entry {
        ValuePtr value;
        int uses = 0;
    };

    void read_input(Size assumed);
    void check_names() const;
    std::vector<bool> count_uses();
    void run_node(const Node &node);
    std::vector<Value> outputs_of(const Node &node, const Inputs &inputs);
    ValuePtr value_of(const std::string &name);
    Inputs take_inputs(const Node &node);
    void store(const std::string &name, Value value);
    TracedOutput output_of(const std::string &name);
    Value constant(const onnx::TensorProto &tensor);
    Value constant(const Node &node);

    std::vector<Channel> read(const Activations &in);
    Activations add_layer(TracedLayer layer, int64_t batch, Plane plane);
    int whole_layer(const Activations &in) const;
    Value attached(const Activations &in, int layer, int what);

    Value conv(const Node &node, const Inputs &inputs);
    Value max_pool(const Node &node, const Inputs &inputs);
    Value global_pool(const Node &node, const Activations &in, Plane plane);
    Value average_pool(const Node &node, const Inputs &inputs);
    Value global_average_pool(const Node &node, const Inputs &inputs);
    Value reduce_mean(const Node &node, const Inputs &inputs);
    Value fully_connected(const Node &node, const Activations &in, std::shared_ptr<const Array<float>> weight);
    Value gemm(const Node &node, const Inputs &inputs);
    Value matmul(const Node &node, const Inputs &inputs);
    Value batch_normalization(const Node &node, const Inputs &inputs);
    Value add(const Node &node, const Inputs &inputs);
    Value relu(const Node &node, const Inputs &inputs);
    Value cast(const Node &node, const Inputs &inputs);

    const onnx::GraphProto &graph_;
    int64_t opset_;
    int64_t budget_;
    std::unordered_map<std::string, const onnx::TensorProto *> initializers_;
    std::unordered_map<std::string, Entry> values_;
    Trace &trace_;
};

// The graph's frame: input, order of nodes, values that come and go.

void Tracer::read_input(Size assumed) {
    const onnx::ValueInfoProto *input = nullptr;
    for (const auto &candidate : graph_.input()) {
        // Older files list the weights as inputs too.
        if (initializers_.contains(candidate.name())) continue;
        if (input != nullptr) {
            throw Refusal("has inputs '" + message::shortened(input->name()) + "' and '" +
                          message::shortened(candidate.name()) + "', expected one");
        }
        input = &candidate;
    }
    if (input == nullptr) throw Refusal("has no input");
    const std::string name = "input '" + message::shortened(input->name()) + "'";
    const onnx::TypeProto::Tensor &type = input->type().tensor_type();
    if (type.elem_type() != onnx::TensorProto::FLOAT && type.elem_type() != onnx::TensorProto::FLOAT16) {
        throw Refusal(name + " has type " + type_name(type.elem_type()) + ", expected FLOAT or FLOAT16");
    }
    Dims dims;  // -1: any.
    for (const auto &dim : type.shape().dim()) dims.push_back(dim.dim_value() > 0 ? dim.dim_value() : -1);
    if (dims.size() != 4 || (dims[1] != 3 && dims[1] != -1) || !within(dims, -1)) {
        throw Refusal(name + " has shape " + message::shape_text(dims) + ", expected [N, 3, H, W] of at most " +
                      std::to_string(kMaxExtent) + " each");
    }
    trace_.input = input->name();
    trace_.batch = std::max<int64_t>(dims[0], 0);
    Size size = assumed;
    if (dims[2] > 0) size.height = static_cast<int>(dims[2]);
    if (dims[3] > 0) size.width = static_cast<int>(dims[3]);
    if (dims[2] > 0 && dims[3] > 0) trace_.size = size;

    Activations image{{{std::max<int64_t>(dims[0], 1), 3}, {}}, Plane::kHeightWidth, size};
    for (int n = 0; n < image.channels.dims[0]; ++n) {
        for (int c = 0; c < 3; ++c) image.channels.data.push_back({n, kImage, c, 0});
    }
    store(input->name(), image);
}

/// A name stands for one value.
void Tracer::check_names() const {
    std::unordered_set<std::string> made = {trace_.input};
    for (const auto &[name, tensor] : initializers_) made.insert(name);
    for (int i = 0; i < graph_.node_size(); ++i) {
        for (const std::string &name : graph_.node(i).output()) {
            if (name.empty() || made.insert(name).second) continue;
            throw Refusal(Node(graph_.node(i), i).text() + ": makes '" + message::shortened(name) +
                          "', which is there already");
        }
    }
}

/// Which nodes the outputs depend on; notes how often each value is read.
std::vector<bool> Tracer::count_uses() {
    if (graph_.output_size() == 0) throw Refusal("has no output");
    std::unordered_set<std::string> wanted;
    for (const auto &output : graph_.output()) {
        wanted.insert(output.name());
        ++values_[output.name()].uses;
    }
    std::vector<bool> needed(graph_.node_size(), false);
    for (int i = graph_.node_size(); i-- > 0;) {
        const onnx::NodeProto &node = graph_.node(i);
        needed[i] = std::any_of(node.output().begin(), node.output().end(),
                                [&wanted](const std::string &name) { return wanted.contains(name); });
        if (!needed[i]) continue;
        for (const std::string &name : node.input()) {
            wanted.insert(name);
            ++values_[name].uses;
        }
    }
    return needed;
}

void Tracer::run_node(const Node &node) {
    try {
        std::vector<Value> outputs = outputs_of(node, take_inputs(node));
        for (int i = 0; i < node.outputs() && i < static_cast<int>(outputs.size()); ++i) {
            if (!node.output(i).empty()) store(node.output(i), std::move(outputs[i]));
        }
    } catch (const Refusal &refusal) {
        throw Refusal(node.text() + ": " + refusal.what());
    }
}

/// The value of that name. Weights are decoded when they are first read.
ValuePtr Tracer::value_of(const std::string &name) {
    Entry &entry = values_[name];
    if (entry.value == nullptr) {
        const auto found = initializers_.find(name);
        if (found == initializers_.end()) {
            throw Refusal("reads '" + message::shortened(name) +
                          "', which no input, weight or node before it makes (a cycle, or a part is missing)");
        }
        entry.value = std::make_shared<const Value>(constant(*found->second));
    }
    return entry.value;
}

/// The node's inputs; those that it is the last to read are let go of.
Inputs Tracer::take_inputs(const Node &node) {
    Inputs inputs;
    for (int i = 0; i < node.inputs(); ++i) inputs.push_back(node.has_input(i) ? value_of(node.input(i)) : nullptr);
    for (int i = 0; i < node.inputs(); ++i) {
        if (!node.has_input(i)) continue;
        Entry &entry = values_[node.input(i)];
        if (--entry.uses <= 0) entry.value = nullptr;
    }
    return inputs;
}

void Tracer::store(const std::string &name, Value value) {
    constexpr size_t kMaxRank = 16;
    if (dims_of(value).size() > kMaxRank)
        throw Refusal("makes a tensor of rank " + std::to_string(dims_of(value).size()));
    budget_ -= static_cast<int64_t>(elements(value)) + 1;
    if (budget_ < 0) throw Refusal("makes more than a network of this kind would");
    if (const auto *tensor = std::get_if<Activations>(&value)) {
        if (tensor->channels.data.empty()) throw Refusal("makes an empty tensor");
        if (tensor->plane == Plane::kHeightWidth && tensor->channels.dims.size() == 2) {
            const auto begin = tensor->channels.data.begin();
            trace_.tensors.push_back({name, {begin, begin + tensor->channels.dims[1]}, tensor->size});
        }
    }
    values_[name].value = std::make_shared<const Value>(std::move(value));
}

TracedOutput Tracer::output_of(const std::string &name) {
    const std::string text = "output '" + message::shortened(name) + "'";
    const auto found = values_.find(name);
    if (found == values_.end() || found->second.value == nullptr) throw Refusal(text + " is made by no node");
    const auto *value = std::get_if<Activations>(found->second.value.get());
    if (value == nullptr) throw Refusal(text + " is a constant");
    return {name, *value};
}

Value Tracer::constant(const onnx::TensorProto &tensor) {
    if (!is_float(tensor)) return read_integers(tensor);
    if (tensor.data_type() == onnx::TensorProto::FLOAT) trace_.half = false;
    return read_floats(tensor);
}

Value Tracer::constant(const Node &node) {
    if (node.has("value")) return constant(node.tensor("value"));
    if (node.has("value_int")) return Array<int64_t>{{}, {node.integer("value_int", 0)}};
    if (node.has("value_float")) return Array<float>{{}, {static_cast<float>(node.real("value_float", 0))}};
    if (node.has("value_floats")) {
        std::vector<float> values = node.reals("value_floats");
        return Array<float>{{static_cast<int64_t>(values.size())}, std::move(values)};
    }
    if (!node.has("value_ints")) throw Refusal("has no value that is known here");
    Dims values = node.integers("value_ints", {});
    return Array<int64_t>{{static_cast<int64_t>(values.size())}, std::move(values)};
}

std::vector<Value> Tracer::outputs_of(const Node &node, const Inputs &inputs) {
    static const std::map<std::string, LayerNode> kLayerNodes = {
        {"Add", &Tracer::add},
        {"AveragePool", &Tracer::average_pool},
        {"BatchNormalization", &Tracer::batch_normalization},
        {"Cast", &Tracer::cast},
        {"Conv", &Tracer::conv},
        {"Gemm", &Tracer::gemm},
        {"GlobalAveragePool", &Tracer::global_average_pool},
        {"MatMul", &Tracer::matmul},
        {"MaxPool", &Tracer::max_pool},
        {"ReduceMean", &Tracer::reduce_mean},
        {"Relu", &Tracer::relu},
    };
    if (!node.domain().empty() && node.domain() != "ai.onnx") {
        throw Refusal("is of domain '" + message::shortened(node.domain()) + "', expected ONNX's own operators");
    }
    if (node.op() == "Constant") return {constant(node)};
    if (is_move(node.op())) return run_move(node, opset_, inputs);
    const bool constants = std::none_of(inputs.begin(), inputs.end(), [](const ValuePtr &input) {
        return input != nullptr && std::holds_alternative<Activations>(*input);
    });
    if (constants && is_shape_arithmetic(node.op())) return {run_shape_arithmetic(node, inputs)};
    const auto found = kLayerNodes.find(node.op());
    if (found == kLayerNodes.end()) throw Refusal("ShuffleNetV2 has no such operator");
    return {(this->*found->second)(node, inputs)};
}

// Layers.

/// The channels that a layer reads, which must be the same of every image.
std::vector<Channel> Tracer::read(const Activations &in) {
    const int64_t batch = in.channels.dims[0], count = in.channels.dims[1];
    const auto first = in.channels.data.begin();
    for (int64_t i = 0; i < batch * count; ++i) {
        Channel expected = first[i % count];
        expected.image = static_cast<int>(i / count);
        if (!(first[i] == expected)) throw Refusal("mixes the images of a batch, or treats them differently");
    }
    for (const Channel &channel : std::span(first, first + count)) {
        if (channel.layer == kImage) continue;
        TracedLayer &layer = trace_.layers[channel.layer];
        if ((channel.applied & ~kRelu) != layer.applied) {
            throw Refusal("reads " + layer.node + " before its bias or normalisation");
        }
        layer.is_read = true;
    }
    return {first, first + count};
}

/// The layer's output, of which nothing is known but who made it.
Activations Tracer::add_layer(TracedLayer layer, int64_t batch, Plane plane) {
    Activations out{{{batch, layer.out_channels}, {}}, plane, layer.out};
    if (element_count(out.channels.dims) > budget_) throw Refusal("makes more than a network of this kind would");
    const auto index = static_cast<int>(trace_.layers.size());
    for (int n = 0; n < batch; ++n) {
        for (int c = 0; c < layer.out_channels; ++c) out.channels.data.push_back({n, index, c, 0});
    }
    trace_.layers.push_back(std::move(layer));
    return out;
}

/// The layer that made these channels: all of them, in its order.
int Tracer::whole_layer(const Activations &in) const {
    const Channel &first = in.channels.data.empty() ? Channel{0, kImage, 0, 0} : in.channels.data.front();
    bool whole = in.channels.dims.size() == 2 && first.layer != kImage;
    for (size_t i = 0; whole && i < in.channels.data.size(); ++i) {
        const auto count = static_cast<size_t>(trace_.layers[first.layer].out_channels);
        const Channel expected{static_cast<int>(i / count), first.layer, static_cast<int>(i % count), first.applied};
        whole = in.channels.data[i] == expected && static_cast<size_t>(in.channels.dims[1]) == count;
    }
    if (!whole) throw Refusal("is not applied to all outputs of one layer");
    return first.layer;
}

/// The layer's output with a bias or a norm applied to it, which must be the next in that order.
Value Tracer::attached(const Activations &in, int layer, int what) {
    TracedLayer &to = trace_.layers[layer];
    if (to.weight == nullptr || to.is_read || to.applied >= what || in.channels.data.front().applied != to.applied) {
        throw Refusal("is applied to " + to.node + ", which has that already or is read without it");
    }
    to.applied |= what;
    Activations out = in;
    for (Channel &channel : out.channels.data) channel.applied = to.applied;
    return out;
}

Value Tracer::conv(const Node &node, const Inputs &inputs) {
    const Activations &in = image_of(inputs);
    TracedLayer layer;
    layer.node = node.text();
    layer.weight = share_floats(inputs, 1);
    const Dims &shape = layer.weight->dims;
    if (shape.size() != 4 || !within(shape, 1)) {
        throw Refusal("has weights of shape " + message::shape_text(shape) + ", expected [out, in, ky, kx]");
    }
    read_window(node, {shape[2], shape[3]}, layer);
    layer.groups = node.integer("group", 1);
    if (layer.kernel != Dims{shape[2], shape[3]} || layer.groups < 1 || layer.groups > shape[0] ||
        shape[0] % layer.groups != 0 || shape[1] * layer.groups != in.channels.dims[1]) {
        throw Refusal("has weights of shape " + message::shape_text(shape) + " for " +
                      std::to_string(in.channels.dims[1]) + " channels in " + std::to_string(layer.groups) +
                      " groups and kernel " + message::shape_text(layer.kernel));
    }
    layer.out_channels = static_cast<int>(shape[0]);
    layer.in = in.size;
    layer.out = window_output(layer);
    if (node.has_input(2)) {
        layer.bias = floats_of(inputs, 2).data;
        if (layer.bias.size() != static_cast<size_t>(shape[0])) {
            throw Refusal("has a bias of " + std::to_string(layer.bias.size()) + " values for " +
                          std::to_string(shape[0]) + " outputs");
        }
    }
    layer.inputs = read(in);
    return add_layer(std::move(layer), in.channels.dims[0], Plane::kHeightWidth);
}

Value Tracer::max_pool(const Node &node, const Inputs &inputs) {
    const Activations &in = image_of(inputs);
    TracedLayer layer;
    layer.kind = TracedLayer::Kind::kMaxPool;
    layer.node = node.text();
    if (!node.has("kernel_shape")) throw Refusal("lacks attribute kernel_shape");
    read_window(node, {}, layer);
    if (node.integer("ceil_mode", 0) != 0) throw Refusal("has ceil_mode 1, expected 0");
    layer.in = in.size;
    layer.out = window_output(layer);
    layer.inputs = read(in);
    layer.out_channels = static_cast<int>(layer.inputs.size());
    Activations out = add_layer(std::move(layer), in.channels.dims[0], Plane::kHeightWidth);
    // The larger of two is the same before and after a ReLU.
    for (size_t i = 0; i < out.channels.data.size(); ++i) {
        out.channels.data[i].applied = in.channels.data[i].applied & kRelu;
    }
    return out;
}

Value Tracer::global_pool(const Node &node, const Activations &in, Plane plane) {
    TracedLayer layer;
    layer.kind = TracedLayer::Kind::kGlobalPool;
    layer.node = node.text();
    layer.in = in.size;
    layer.out = {1, 1};
    layer.inputs = read(in);
    layer.out_channels = static_cast<int>(layer.inputs.size());
    return add_layer(std::move(layer), in.channels.dims[0], plane);
}

Value Tracer::global_average_pool(const Node &node, const Inputs &inputs) {
    return global_pool(node, image_of(inputs), Plane::kHeightWidth);
}

Value Tracer::average_pool(const Node &node, const Inputs &inputs) {
    const Activations &in = image_of(inputs);
    TracedLayer window;
    read_window(node, {}, window);
    window.in = in.size;
    const bool padded = std::any_of(window.pads.begin(), window.pads.end(), [](int64_t pad) { return pad != 0; });
    if (padded || window.kernel != Dims{in.size.height, in.size.width}) {
        throw Refusal("has kernel " + message::shape_text(window.kernel) + " and pads " +
                      message::shape_text(window.pads) + ", expected the mean of all " +
                      std::to_string(in.size.height) + "x" + std::to_string(in.size.width) + " pixels");
    }
    return global_pool(node, in, Plane::kHeightWidth);
}

Value Tracer::reduce_mean(const Node &node, const Inputs &inputs) {
    const Activations &in = activations_of(inputs, 0);
    Dims axes = inputs.size() > 1 ? integers_of(inputs, 1).data : node.integers("axes", {});
    for (int64_t &axis : axes) axis = static_cast<int64_t>(axis_of(axis, in.dims().size()));
    std::sort(axes.begin(), axes.end());
    Dims pixels;
    for (size_t i = in.channels.dims.size(); i < in.dims().size(); ++i) pixels.push_back(static_cast<int64_t>(i));
    if (pixels.empty() || axes != pixels || in.channels.dims.size() != 2) {
        throw Refusal("takes the mean of axes " + message::shape_text(axes) + " of shape " +
                      message::shape_text(in.dims()) + ", expected all pixels of [N, C, H, W]");
    }
    return global_pool(node, in, node.integer("keepdims", 1) != 0 ? in.plane : Plane::kNone);
}

/// `weight`: (out, in)
Value Tracer::fully_connected(const Node &node, const Activations &in, std::shared_ptr<const Array<float>> weight) {
    if (weight->dims[0] < 1 || weight->dims[1] != in.channels.dims[1]) {
        throw Refusal("has weights for " + std::to_string(weight->dims[1]) + " channels, found " +
                      std::to_string(in.channels.dims[1]));
    }
    if (weight->dims[0] > kMaxClasses) {
        throw Refusal("has " + std::to_string(weight->dims[0]) + " outputs, expected at most " +
                      std::to_string(kMaxClasses));
    }
    TracedLayer layer;
    layer.kind = TracedLayer::Kind::kFullyConnected;
    layer.node = node.text();
    layer.in = layer.out = {1, 1};
    layer.out_channels = static_cast<int>(weight->dims[0]);
    layer.weight = std::move(weight);
    layer.inputs = read(in);
    return add_layer(std::move(layer), in.channels.dims[0], Plane::kNone);
}

Value Tracer::matmul(const Node &node, const Inputs &inputs) {
    const Activations &in = vector_of(inputs);
    const Array<float> &weight = floats_of(inputs, 1);
    if (weight.dims.size() != 2) throw Refusal("has weights of shape " + message::shape_text(weight.dims));
    constexpr size_t kSwap[] = {1, 0};
    return fully_connected(node, in, std::make_shared<const Array<float>>(transposed(weight, kSwap)));
}

Value Tracer::gemm(const Node &node, const Inputs &inputs) {
    const Activations &in = vector_of(inputs);
    if (node.real("alpha", 1) != 1 || node.real("beta", 1) != 1 || node.integer("transA", 0) != 0) {
        throw Refusal("has alpha, beta or transA, expected none");
    }
    if (floats_of(inputs, 1).dims.size() != 2) {
        throw Refusal("has weights of shape " + message::shape_text(floats_of(inputs, 1).dims));
    }
    Value out =
        node.integer("transB", 0) != 0 ? fully_connected(node, in, share_floats(inputs, 1)) : matmul(node, inputs);
    if (!node.has_input(2)) return out;
    TracedLayer &layer = trace_.layers.back();
    layer.bias = floats_of(inputs, 2).data;
    if (layer.bias.size() != static_cast<size_t>(layer.out_channels)) {
        throw Refusal("has a bias of " + std::to_string(layer.bias.size()) + " values for " +
                      std::to_string(layer.out_channels) + " outputs");
    }
    return out;
}

Value Tracer::batch_normalization(const Node &node, const Inputs &inputs) {
    const Activations &in = image_of(inputs);
    const int layer = whole_layer(in);
    if (node.integer("training_mode", 0) != 0 || node.outputs() > 1) {
        throw Refusal(
            "normalises with the statistics of the batch (training mode): export the model in evaluation mode");
    }
    const Norm norm{floats_of(inputs, 1).data, floats_of(inputs, 2).data, floats_of(inputs, 3).data,
                    floats_of(inputs, 4).data, node.real("epsilon", 1e-5F)};
    for (const std::vector<float> *values : {&norm.gamma, &norm.beta, &norm.mean, &norm.variance}) {
        if (values->size() != static_cast<size_t>(in.channels.dims[1])) {
            throw Refusal("has " + std::to_string(values->size()) + " values for " +
                          std::to_string(in.channels.dims[1]) + " channels");
        }
    }
    if (!(norm.epsilon > 0)) throw Refusal("has an epsilon that is not positive");
    Value out = attached(in, layer, kNorm);
    trace_.layers[layer].norm = norm;
    return out;
}

/// A bias by a node of its own.
Value Tracer::add(const Node &, const Inputs &inputs) {
    const bool swapped = std::holds_alternative<Array<float>>(input_value(inputs, 0));
    const Activations &in = activations_of(inputs, swapped ? 1 : 0);
    const Array<float> &bias = floats_of(inputs, swapped ? 0 : 1);
    const int layer = whole_layer(in);
    Dims expected = {in.channels.dims[1]};
    if (in.plane == Plane::kHeightWidth) expected.insert(expected.end(), {1, 1});
    Dims found = bias.dims;
    while (found.size() > expected.size() && found.front() == 1) found.erase(found.begin());
    if (found != expected || in.plane == Plane::kFlat || !trace_.layers[layer].bias.empty()) {
        throw Refusal("adds shape " + message::shape_text(bias.dims) + " to " + trace_.layers[layer].node +
                      ", expected one bias of shape " + message::shape_text(expected));
    }
    Value out = attached(in, layer, kBias);
    trace_.layers[layer].bias = bias.data;
    return out;
}

// NOLINTBEGIN(readability-convert-member-functions-to-static): rows of a table of members.
Value Tracer::relu(const Node &, const Inputs &inputs) {
    Activations out = activations_of(inputs, 0);
    for (Channel &channel : out.channels.data) channel.applied |= kRelu;
    return out;
}

Value Tracer::cast(const Node &node, const Inputs &inputs) {
    const auto to = static_cast<int>(node.integer("to", onnx::TensorProto::UNDEFINED));
    if (to != onnx::TensorProto::FLOAT && to != onnx::TensorProto::FLOAT16) {
        throw Refusal("casts activations to " + type_name(to) + ", expected FLOAT or FLOAT16");
    }
    return activations_of(inputs, 0);
}
// NOLINTEND(readability-convert-member-functions-to-static)

}  // namespace

void trace_graph(const onnx::GraphProto &graph, int64_t opset, Size assumed, Trace *out) {
    Tracer(graph, opset, assumed, *out).run();
}

}  // namespace shufflenet::imports
