#include "trace.h"

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "moves.h"
#include "networks/bounds.h"
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

/// A window, and its pads: top, left, bottom, right.
struct PaddedWindow {
    networks::Window window;
    Dims pads;
};

Size size_of(const Dims &pair) { return {static_cast<int>(pair[0]), static_cast<int>(pair[1])}; }

/// Its own pads, and those of a Pad before it.
Dims padded_by(const Node &node, const Pads &before) {
    Dims pads = node.integers("pads", {0, 0, 0, 0});
    if (pads.size() != 4 || !within(pads, 0)) return pads;
    pads[0] += before.top;
    pads[1] += before.left;
    pads[2] += before.bottom;
    pads[3] += before.right;
    return pads;
}

/// A window's attributes, checked; those that are absent are ONNX's defaults.
PaddedWindow read_window(const Node &node, const Dims &default_kernel, const Pads &before = {}) {
    if (const std::string pad = node.text("auto_pad", "NOTSET"); pad != "NOTSET") {
        throw Refusal("has auto_pad " + message::shortened(pad) + ", expected pads");
    }
    const Dims kernel = node.integers("kernel_shape", default_kernel), strides = node.integers("strides", {1, 1});
    const Dims dilations = node.integers("dilations", {1, 1}), pads = padded_by(node, before);
    const bool flat = kernel.size() == 2 && strides.size() == 2 && dilations.size() == 2 && pads.size() == 4;
    if (!flat || !within(kernel, 1) || !within(strides, 1) || !within(pads, 0)) {
        throw Refusal("has a window that is not two-dimensional, or an attribute of it out of range");
    }
    if (dilations != Dims{1, 1}) {
        throw Refusal("has dilations " + message::shape_text(dilations) + " and pads " + message::shape_text(pads) +
                      ", expected no dilations");
    }
    return {{size_of(kernel), size_of(strides), size_of({pads[0], pads[1]})}, pads};
}

/// `up`: ONNX's ceil_mode, where the last window may hang over but begins in the image or its padding before it.
int window_output(int in, int kernel, int stride, int64_t before, int64_t after, bool up) {
    const int64_t rest = in + before + after - kernel;
    if (rest < 0) throw Refusal("has a window that is larger than its input");
    int64_t out = (up ? (rest + stride - 1) / stride : rest / stride) + 1;
    if ((out - 1) * stride >= in + before) --out;
    return static_cast<int>(out);
}

Size window_output(Size in, const PaddedWindow &padded, bool up = false) {
    const auto &[kernel, stride, padding] = padded.window;
    const Dims &pads = padded.pads;
    return {window_output(in.height, kernel.height, stride.height, pads[0], pads[2], up),
            window_output(in.width, kernel.width, stride.width, pads[1], pads[3], up)};
}

const Activations &activations_of(const Inputs &inputs, size_t i) {
    const auto *activations = std::get_if<Activations>(&input_value(inputs, i));
    if (activations == nullptr) throw Refusal("input " + std::to_string(i) + " is a constant, not activations");
    return *activations;
}

std::string size_text(Size size) { return std::to_string(size.height) + "x" + std::to_string(size.width); }

/// (N, C, H, W), as all layers but the last have it.
const Activations &image_of(const Inputs &inputs) {
    const Activations &in = activations_of(inputs, 0);
    if (in.plane != Plane::kHeightWidth || in.channels.dims.size() != 2 || !in.order.empty()) {
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
        for (const auto &output : graph_.output()) add_output(output.name());
        for (const NamedTensor &tensor : tensors_) {
            if (is_finished(tensor)) trace_.tensors.push_back({tensor.name, tensor_of(tensor)});
        }
    }

  private:
    using LayerNode = Value (Tracer::*)(const Node &, const Inputs &);

    /// What is known of a layer's outputs.
    struct Outputs {
        int applied = 0;  ///< Bias and norm by nodes of their own.
        bool is_read = false;
    };
    /// Channels of the first image.
    struct NamedTensor {
        std::string name;
        std::vector<TracedChannel> channels;
        Size size;
    };

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
    void add_output(const std::string &name);
    static networks::Output output_shape(const Activations &value);
    bool is_finished(const NamedTensor &tensor) const;
    static networks::Tensor tensor_of(const NamedTensor &tensor);
    Value constant(const onnx::TensorProto &tensor);
    Value constant(const Node &node);

    static void check_batch(const Activations &in);
    void note_read(const TracedChannel &channel);
    networks::Tensor read(const Activations &in);
    const std::string &node_of(int layer) const { return trace_.layers[layer].name; }
    Activations add_layer(networks::Layer layer, FileLayer file, const Activations &in);
    int whole_layer(const Activations &in) const;
    Value attached(const Activations &in, int layer, int what);
    bool has_whole_layers(const Activations &in) const;
    bool non_negative(const TracedChannel &channel) const;
    bool non_negative(const networks::Channel &channel) const;
    int number_of(const networks::Activation &activation);

    Value conv(const Node &node, const Inputs &inputs);
    Value max_pool(const Node &node, const Inputs &inputs);
    Activations global_pool(const Node &node, const Activations &in);
    Value average_pool(const Node &node, const Inputs &inputs);
    Value global_average_pool(const Node &node, const Inputs &inputs);
    Value reduce_mean(const Node &node, const Inputs &inputs);
    Value fully_connected(const Node &node, const Activations &in, std::shared_ptr<const Array<float>> weight);
    Value gemm(const Node &node, const Inputs &inputs);
    Value matmul(const Node &node, const Inputs &inputs);
    Value batch_normalization(const Node &node, const Inputs &inputs);
    Value add(const Node &node, const Inputs &inputs);
    Value activation(const Node &node, const Inputs &inputs, const networks::Activation &activation);
    Value relu(const Node &node, const Inputs &inputs);
    Value leaky_relu(const Node &node, const Inputs &inputs);
    Value sigmoid(const Node &node, const Inputs &inputs);
    Value clip(const Node &node, const Inputs &inputs);
    Value sum(const Node &node, const Inputs &inputs);
    Value quantise(const Node &node, const Inputs &inputs);
    Value dequantise(const Node &node, const Inputs &inputs);
    Value resize(const Node &node, const Inputs &inputs);
    Value softmax(const Node &node, const Inputs &inputs);
    Value cast(const Node &node, const Inputs &inputs);

    const onnx::GraphProto &graph_;
    int64_t opset_;
    int64_t budget_;
    std::unordered_map<std::string, const onnx::TensorProto *> initializers_;
    std::unordered_map<std::string, Entry> values_;
    std::vector<Outputs> outputs_;  ///< One for each layer.
    std::vector<networks::Activation> activations_ = {networks::kNoActivation, networks::kRelu};
    bool read_before_ = false;  ///< Whether others read what the node reads first.
    std::vector<NamedTensor> tensors_;
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
    trace_.graph.input = size;

    Activations image{{{std::max<int64_t>(dims[0], 1), 3}, {}}, Plane::kHeightWidth, size};
    for (int n = 0; n < image.channels.dims[0]; ++n) {
        for (int c = 0; c < 3; ++c) image.channels.data.push_back({n, {networks::kImage, c}, 0});
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
    read_before_ = node.has_input(0) && values_[node.input(0)].uses > 1;
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
            tensors_.push_back({name, {begin, begin + tensor->channels.dims[1]}, tensor->size});
        }
    }
    values_[name].value = std::make_shared<const Value>(std::move(value));
}

void Tracer::add_output(const std::string &name) {
    const std::string text = "output '" + message::shortened(name) + "'";
    const auto found = values_.find(name);
    if (found == values_.end() || found->second.value == nullptr) throw Refusal(text + " is made by no node");
    const auto *value = std::get_if<Activations>(found->second.value.get());
    if (value == nullptr) throw Refusal(text + " is a constant");
    const networks::Output shape = output_shape(*value);
    if (shape.shape.empty()) return;
    check_batch(*value);
    const auto begin = value->channels.data.begin();
    const NamedTensor tensor{
        name, {begin, begin + detail::product(value->channels.dims) / value->channels.dims[0]}, value->size};
    // Where no layer reads it, the output tells whether there is a ReLU.
    for (const TracedChannel &channel : tensor.channels) {
        if (channel.of.layer != networks::kImage && !outputs_[channel.of.layer].is_read) note_read(channel);
    }
    if (is_finished(tensor)) {
        trace_.graph.outputs.push_back({name, tensor_of(tensor), shape.shape, shape.pixels_first});
    }
}

/// An output's shape and what lies first in it; without a shape: neither channels nor pixels lie together.
networks::Output Tracer::output_shape(const Activations &value) {
    networks::Output out;
    const Dims dims = value.dims();
    if (dims.size() < 2 || value.pads.any()) return out;
    const size_t channels = value.channels.dims.size();
    if (!value.order.empty()) {
        // The images, pixels in their order, then channels.
        std::vector<size_t> last = {0};
        for (size_t i = 0; i < value.pixel_axes(); ++i) last.push_back(channels + i);
        for (size_t i = 1; i < channels; ++i) last.push_back(i);
        if (value.order != last) return out;
        out.pixels_first = true;
    }
    for (const int64_t extent : std::span(dims).subspan(1)) out.shape.push_back(static_cast<int>(extent));
    return out;
}

/// Whether all of the channels are as other layers read them.
bool Tracer::is_finished(const NamedTensor &tensor) const {
    return std::ranges::all_of(tensor.channels, [this](const TracedChannel &channel) {
        if (channel.of.layer == networks::kImage) return channel.applied == 0;
        return channel.applied % kActivated == outputs_[channel.of.layer].applied &&
               activations_[channel.applied / kActivated] == trace_.graph.layers[channel.of.layer].activation;
    });
}

networks::Tensor Tracer::tensor_of(const NamedTensor &tensor) {
    networks::Tensor out{{}, tensor.size};
    for (const TracedChannel &channel : tensor.channels) out.channels.push_back(channel.of);
    return out;
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
        {"Clip", &Tracer::clip},
        {"Conv", &Tracer::conv},
        {"DequantizeLinear", &Tracer::dequantise},
        {"Gemm", &Tracer::gemm},
        {"GlobalAveragePool", &Tracer::global_average_pool},
        {"LeakyRelu", &Tracer::leaky_relu},
        {"MatMul", &Tracer::matmul},
        {"MaxPool", &Tracer::max_pool},
        {"QuantizeLinear", &Tracer::quantise},
        {"ReduceMean", &Tracer::reduce_mean},
        {"Relu", &Tracer::relu},
        {"Resize", &Tracer::resize},
        {"Sigmoid", &Tracer::sigmoid},
        {"Softmax", &Tracer::softmax},
        {"Upsample", &Tracer::resize},
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
    if (found == kLayerNodes.end()) throw Refusal("is of an operator that is not known here");
    return {(this->*found->second)(node, inputs)};
}

// Layers.

void Tracer::check_batch(const Activations &in) {
    const int64_t batch = in.channels.dims[0], count = detail::product(in.channels.dims) / batch;
    for (int64_t i = 0; i < batch * count; ++i) {
        TracedChannel expected = in.channels.data[i % count];
        expected.image = static_cast<int>(i / count);
        if (in.channels.data[i] == expected) continue;
        throw Refusal("mixes the images of a batch, or treats them differently");
    }
}

/// An activation is part of the layer before it, whose outputs are therefore read with it everywhere or nowhere.
void Tracer::note_read(const TracedChannel &channel) {
    const int layer = channel.of.layer;
    Outputs &outputs = outputs_[layer];
    if (channel.applied % kActivated != outputs.applied) {
        throw Refusal("reads " + node_of(layer) + " before its bias or normalisation");
    }
    const networks::Activation &found = activations_[channel.applied / kActivated];
    networks::Activation &activation = trace_.graph.layers[layer].activation;
    if (outputs.is_read && found != activation) {
        throw Refusal("reads " + node_of(layer) + " with activation " + to_string(found) + ", other nodes with " +
                      to_string(activation));
    }
    activation = found;
    outputs.is_read = true;
}

/// The channels that a layer reads, which must be the same of every image.
networks::Tensor Tracer::read(const Activations &in) {
    check_batch(in);
    networks::Tensor tensor{{}, in.size};
    for (const TracedChannel &channel : std::span(in.channels.data).first(in.channels.dims[1])) {
        if (channel.of.layer != networks::kImage) {
            note_read(channel);
        } else if (channel.applied != 0) {
            throw Refusal("reads the input with an activation");
        }
        tensor.channels.push_back(channel.of);
    }
    return tensor;
}

/// The layer's output, whose axes are its input's, and of which nothing else is known but who made it.
Activations Tracer::add_layer(networks::Layer layer, FileLayer file, const Activations &in) {
    const int64_t batch = in.channels.dims[0];
    Activations out{{{batch, layer.out_channels}, {}}, in.plane, layer.out, in.order};
    if (element_count(out.channels.dims) > budget_) throw Refusal("makes more than a network of this kind would");
    const auto index = static_cast<int>(trace_.layers.size());
    for (int n = 0; n < batch; ++n) {
        for (int c = 0; c < layer.out_channels; ++c) out.channels.data.push_back({n, {index, c}, 0});
    }
    trace_.graph.layers.push_back(std::move(layer));
    trace_.layers.push_back(std::move(file));
    outputs_.emplace_back();
    return out;
}

/// The layer that made these channels: all of them, in its order.
int Tracer::whole_layer(const Activations &in) const {
    const auto &all = in.channels.data;
    const int layer = all.empty() ? networks::kImage : all.front().of.layer;
    bool whole = in.channels.dims.size() == 2 && layer != networks::kImage;
    for (size_t i = 0; whole && i < all.size(); ++i) {
        const auto count = static_cast<size_t>(trace_.graph.layers[layer].out_channels);
        const TracedChannel expected{
            static_cast<int>(i / count), {layer, static_cast<int>(i % count)}, all.front().applied};
        whole = all[i] == expected && static_cast<size_t>(in.channels.dims[1]) == count;
    }
    if (!whole) throw Refusal("is not applied to all outputs of one layer");
    return layer;
}

/// The layer's output with a bias or a norm applied to it, which must be the next in that order.
Value Tracer::attached(const Activations &in, int layer, int what) {
    Outputs &to = outputs_[layer];
    const bool has_weights = trace_.layers[layer].weight != nullptr;
    if (!has_weights || to.is_read || to.applied >= what || in.channels.data.front().applied != to.applied) {
        throw Refusal("is applied to " + node_of(layer) + ", which has that already or is read without it");
    }
    to.applied |= what;
    Activations out = in;
    for (TracedChannel &channel : out.channels.data) channel.applied = to.applied;
    return out;
}

Value Tracer::conv(const Node &node, const Inputs &inputs) {
    const Activations &in = image_of(inputs);
    FileLayer file{.name = node.text(), .weight = share_floats(inputs, 1)};
    const Dims &shape = file.weight->dims;
    if (shape.size() != 4 || !within(shape, 1)) {
        throw Refusal("has weights of shape " + message::shape_text(shape) + ", expected [out, in, ky, kx]");
    }
    const PaddedWindow padded = read_window(node, {shape[2], shape[3]}, in.pads);
    const int64_t groups = node.integer("group", 1);
    if (padded.window.kernel != size_of({shape[2], shape[3]}) || groups < 1 || groups > shape[0] ||
        shape[0] % groups != 0 || shape[1] * groups != in.channels.dims[1]) {
        throw Refusal("has weights of shape " + message::shape_text(shape) + " for " +
                      std::to_string(in.channels.dims[1]) + " channels in " + std::to_string(groups) +
                      " groups and kernel " + size_text(padded.window.kernel));
    }
    if (node.has_input(2)) file.bias = floats_of(inputs, 2).data;
    if (node.has_input(2) && file.bias.size() != static_cast<size_t>(shape[0])) {
        throw Refusal("has a bias of " + std::to_string(file.bias.size()) + " values for " + std::to_string(shape[0]) +
                      " outputs");
    }
    file.pads = padded.pads;
    networks::Layer layer{.kind = networks::LayerKind::kConvolution};
    layer.out_channels = static_cast<int>(shape[0]);
    layer.out = window_output(in.size, padded);
    layer.window = padded.window;
    layer.groups = static_cast<int>(groups);
    layer.in = {read(in)};
    return add_layer(std::move(layer), std::move(file), in);
}

Value Tracer::max_pool(const Node &node, const Inputs &inputs) {
    const Activations &in = image_of(inputs);
    if (!node.has("kernel_shape")) throw Refusal("lacks attribute kernel_shape");
    const PaddedWindow padded = read_window(node, {}, in.pads);
    networks::Layer layer{.kind = networks::LayerKind::kMaxPool};
    layer.out = window_output(in.size, padded, node.integer("ceil_mode", 0) != 0);
    layer.window = padded.window;
    layer.in = {read(in)};
    const auto negative = [this](const networks::Channel &channel) { return !non_negative(channel); };
    if (in.pads.any() && std::ranges::any_of(layer.in[0].channels, negative)) {
        throw Refusal("takes the maximum with zeros that a Pad put around its input");
    }
    layer.out_channels = layer.in_channels();
    return add_layer(std::move(layer), {.name = node.text(), .pads = padded.pads}, in);
}

Activations Tracer::global_pool(const Node &node, const Activations &in) {
    networks::Layer layer{.kind = networks::LayerKind::kGlobalPool};
    layer.out = {1, 1};
    layer.in = {read(in)};
    layer.out_channels = layer.in_channels();
    return add_layer(std::move(layer), {.name = node.text()}, in);
}

Value Tracer::global_average_pool(const Node &node, const Inputs &inputs) {
    return global_pool(node, image_of(inputs));
}

Value Tracer::average_pool(const Node &node, const Inputs &inputs) {
    const Activations &in = image_of(inputs);
    const PaddedWindow padded = read_window(node, {}, in.pads);
    const bool pads = std::ranges::any_of(padded.pads, [](int64_t pad) { return pad != 0; });
    if (!pads && padded.window.kernel == in.size) return global_pool(node, in);
    networks::Layer layer{.kind = networks::LayerKind::kAveragePool};
    const bool up = node.integer("ceil_mode", 0) != 0;
    layer.out = window_output(in.size, padded, up);
    if (up && layer.out != window_output(in.size, padded)) throw Refusal("has windows that hang over (ceil_mode 1)");
    layer.window = padded.window;
    const bool own = node.integers("pads", {0, 0, 0, 0}) != Dims{0, 0, 0, 0};
    const bool counted = node.integer("count_include_pad", 0) != 0;
    if (own && !counted && in.pads.any()) throw Refusal("counts a Pad's zeros, and not its own");
    layer.counts_padding = !own || counted;
    layer.in = {read(in)};
    layer.out_channels = layer.in_channels();
    return add_layer(std::move(layer), {.name = node.text(), .pads = padded.pads}, in);
}

Value Tracer::reduce_mean(const Node &node, const Inputs &inputs) {
    const Activations &in = activations_of(inputs, 0);
    Dims axes = inputs.size() > 1 ? integers_of(inputs, 1).data : node.integers("axes", {});
    for (int64_t &axis : axes) axis = static_cast<int64_t>(axis_of(axis, in.rank()));
    std::ranges::sort(axes);
    Dims own, pixels;
    for (const int64_t axis : axes) own.push_back(static_cast<int64_t>(in.own_axis(static_cast<size_t>(axis))));
    std::ranges::sort(own);
    for (size_t i = in.channels.dims.size(); i < in.dims().size(); ++i) pixels.push_back(static_cast<int64_t>(i));
    if (pixels.empty() || own != pixels || in.channels.dims.size() != 2 || in.pads.any()) {
        throw Refusal("takes the mean of axes " + message::shape_text(axes) + " of shape " +
                      message::shape_text(in.dims()) + ", expected all pixels of [N, C, H, W]");
    }
    Activations out = global_pool(node, in);
    if (node.integer("keepdims", 1) == 0) {
        out.plane = Plane::kNone;
        out.order.clear();
    }
    return out;
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
    networks::Layer layer{.kind = networks::LayerKind::kLinear};
    layer.out = {1, 1};
    layer.out_channels = static_cast<int>(weight->dims[0]);
    layer.in = {read(in)};
    return add_layer(std::move(layer), {.name = node.text(), .weight = std::move(weight)}, in);
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
    std::vector<float> &bias = trace_.layers.back().bias;
    bias = floats_of(inputs, 2).data;
    const auto classes = static_cast<size_t>(trace_.graph.layers.back().out_channels);
    if (bias.size() != classes) {
        throw Refusal("has a bias of " + std::to_string(bias.size()) + " values for " + std::to_string(classes) +
                      " outputs");
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

/// Two tensors, element by element.
Value Tracer::sum(const Node &node, const Inputs &inputs) {
    const Activations &a = activations_of(inputs, 0), &b = activations_of(inputs, 1);
    const bool same = a.channels.dims == b.channels.dims && a.plane == b.plane && a.size == b.size &&
                      a.order == b.order && !a.pads.any() && !b.pads.any();
    if (!same || a.channels.dims.size() != 2) {
        throw Refusal("adds shapes " + message::shape_text(a.dims()) + " and " + message::shape_text(b.dims()));
    }
    networks::Layer layer{.kind = networks::LayerKind::kAdd};
    layer.in = {read(a), read(b)};
    layer.out_channels = layer.in_channels();
    layer.out = a.size;
    return add_layer(std::move(layer), {.name = node.text()}, a);
}

/// A bias by a node of its own, or two tensors.
Value Tracer::add(const Node &node, const Inputs &inputs) {
    const auto activations = [](const ValuePtr &input) { return std::holds_alternative<Activations>(*input); };
    if (inputs.size() == 2 && inputs[0] != nullptr && inputs[1] != nullptr &&
        std::ranges::all_of(inputs, activations)) {
        return sum(node, inputs);
    }
    const bool swapped = std::holds_alternative<Array<float>>(input_value(inputs, 0));
    const Activations &in = activations_of(inputs, swapped ? 1 : 0);
    const Array<float> &bias = floats_of(inputs, swapped ? 0 : 1);
    const int layer = whole_layer(in);
    Dims expected = {in.channels.dims[1]};
    if (in.plane == Plane::kHeightWidth) expected.insert(expected.end(), {1, 1});
    Dims found = bias.dims;
    while (found.size() > expected.size() && found.front() == 1) found.erase(found.begin());
    if (found != expected || in.plane == Plane::kFlat || !in.order.empty() || !trace_.layers[layer].bias.empty()) {
        throw Refusal("adds shape " + message::shape_text(bias.dims) + " to " + node_of(layer) +
                      ", expected one bias of shape " + message::shape_text(expected));
    }
    Value out = attached(in, layer, kBias);
    trace_.layers[layer].bias = bias.data;
    return out;
}

/// Part of the layers before it, if nothing reads these without it; otherwise a layer.
Value Tracer::activation(const Node &node, const Inputs &inputs, const networks::Activation &activation) {
    Activations out = activations_of(inputs, 0);
    const auto taken = [this](const TracedChannel &channel) {
        return channel.of.layer == networks::kImage || channel.applied >= kActivated ||
               outputs_[channel.of.layer].is_read;
    };
    if (out.pads.any()) throw Refusal("is applied to what a Pad made larger");
    if (read_before_ || std::ranges::any_of(out.channels.data, taken) || !has_whole_layers(out)) {
        if (out.channels.dims.size() != 2)
            throw Refusal("is applied to a tensor of rank " + std::to_string(out.rank()));
        networks::Layer layer{.kind = networks::LayerKind::kActivation};
        layer.in = {read(out)};
        layer.out_channels = layer.in_channels();
        layer.out = out.size;
        layer.activation = activation;
        Activations made = add_layer(std::move(layer), {.name = node.text()}, out);
        // What it does is its own, and not to be applied again.
        outputs_.back().is_read = false;
        for (TracedChannel &channel : made.channels.data) channel.applied = kActivated * number_of(activation);
        return made;
    }
    for (TracedChannel &channel : out.channels.data) channel.applied += kActivated * number_of(activation);
    return out;
}

/// Whether of each layer that made some of the channels all are there.
bool Tracer::has_whole_layers(const Activations &in) const {
    std::map<int, std::set<int>> found;
    for (const TracedChannel &channel : in.channels.data) found[channel.of.layer].insert(channel.of.index);
    return std::ranges::all_of(found, [this](const auto &layer) {
        return static_cast<int>(layer.second.size()) == trace_.graph.layers[layer.first].out_channels;
    });
}

/// In activations_.
int Tracer::number_of(const networks::Activation &activation) {
    const auto found = std::ranges::find(activations_, activation);
    const auto number = static_cast<int>(found - activations_.begin());
    if (found == activations_.end()) activations_.push_back(activation);
    return number;
}

Value Tracer::relu(const Node &node, const Inputs &inputs) { return activation(node, inputs, networks::kRelu); }

Value Tracer::sigmoid(const Node &node, const Inputs &inputs) { return activation(node, inputs, networks::kSigmoid); }

Value Tracer::leaky_relu(const Node &node, const Inputs &inputs) {
    const auto slope = static_cast<float>(node.real("alpha", 0.01));
    if (!(slope >= 0 && slope <= 1)) throw Refusal("has a slope of " + std::to_string(slope) + ", expected 0 to 1");
    return activation(node, inputs, networks::leaky_relu(slope));
}

/// Its bounds are attributes until operator set 10, inputs since then.
Value Tracer::clip(const Node &node, const Inputs &inputs) {
    const auto bound = [&](const char *name, size_t input, double otherwise) {
        if (input >= inputs.size() || inputs[input] == nullptr) return node.real(name, otherwise);
        const Array<float> &value = floats_of(inputs, input);
        if (value.data.size() != 1) throw Refusal(std::string("has a ") + name + " that is not one number");
        return double{value.data.front()};
    };
    constexpr double kNone = std::numeric_limits<float>::max();
    const double least = bound("min", 1, -kNone), most = bound("max", 2, kNone);
    if (least == 0 && most == 6) return activation(node, inputs, networks::kRelu6);
    if (least == 0 && most >= kNone) return activation(node, inputs, networks::kRelu);
    throw Refusal("clips to " + std::to_string(least) + " to " + std::to_string(most) + ", expected 0 to 6");
}

namespace {

networks::Resize read_resize(const Node &node, bool upsample) {
    using networks::Resize;
    Resize resize;
    const std::string mode = node.text("mode", "nearest");
    if (mode == "linear" || mode == "bilinear") {
        resize.mode = Resize::Mode::kBilinear;
    } else if (mode != "nearest") {
        throw Refusal("has mode " + message::shortened(mode) + ", expected nearest or linear");
    }
    const std::string coordinates = node.text("coordinate_transformation_mode", upsample ? "asymmetric" : "half_pixel");
    if (coordinates == "asymmetric") {
        resize.coordinates = Resize::Coordinates::kAsymmetric;
    } else if (coordinates == "align_corners") {
        resize.coordinates = Resize::Coordinates::kAlignCorners;
    } else if (coordinates != "half_pixel" && coordinates != "pytorch_half_pixel") {
        throw Refusal("has coordinates " + message::shortened(coordinates) +
                      ", expected half_pixel, asymmetric or align_corners");
    }
    const std::map<std::string, Resize::Rounding> roundings = {{"floor", Resize::Rounding::kFloor},
                                                               {"round_prefer_floor", Resize::Rounding::kPreferFloor},
                                                               {"round_prefer_ceil", Resize::Rounding::kPreferCeil},
                                                               {"ceil", Resize::Rounding::kCeil}};
    const auto rounding = roundings.find(node.text("nearest_mode", upsample ? "floor" : "round_prefer_floor"));
    if (rounding == roundings.end()) throw Refusal("has a nearest_mode that is not known");
    resize.rounding = rounding->second;
    return resize;
}

/// Rows or columns after scaling, which have to be in the ratio of the scale.
int scaled_side(int side, float scale) {
    const double exact = double{scale} * side;
    const double nearest = std::round(exact);
    if (!(nearest >= 1 && nearest <= kMaxExtent) || std::fabs(exact - nearest) > 1e-3) {
        throw Refusal("scales " + std::to_string(side) + " by " + std::to_string(scale) + ", expected a whole number");
    }
    return static_cast<int>(nearest);
}

}  // namespace

/// Resize, and Upsample before it. Inputs: image, region (not used), scales, sizes; of Upsample image and scales.
Value Tracer::resize(const Node &node, const Inputs &inputs) {
    const Activations &in = image_of(inputs);
    const bool upsample = node.op() == "Upsample" || opset_ < 11;
    networks::Layer layer{.kind = networks::LayerKind::kResize};
    layer.resize = read_resize(node, upsample);
    const size_t scales = upsample ? 1 : 2;
    if (inputs.size() > 3 && inputs[3] != nullptr) {
        const Dims &sizes = integers_of(inputs, 3).data;
        if (sizes.size() != 4 || sizes[1] != in.channels.dims[1] || !within(sizes, 1)) {
            throw Refusal("resizes to " + message::shape_text(sizes) + ", expected [N, C, H, W]");
        }
        layer.out = size_of({sizes[2], sizes[3]});
    } else {
        const std::vector<float> factors = node.has("scales") ? node.reals("scales") : floats_of(inputs, scales).data;
        if (factors.size() != 4 || factors[0] != 1 || factors[1] != 1) {
            throw Refusal("scales " + std::to_string(factors.size()) + " axes, expected rows and columns alone");
        }
        layer.out = {scaled_side(in.size.height, factors[2]), scaled_side(in.size.width, factors[3])};
    }
    if (in.pads.any()) throw Refusal("resizes what a Pad made larger");
    layer.in = {read(in)};
    layer.out_channels = layer.in_channels();
    return add_layer(std::move(layer), {.name = node.text()}, in);
}

/// Over channels. Until operator set 12 it is over all axes from one on.
Value Tracer::softmax(const Node &node, const Inputs &inputs) {
    constexpr int64_t kOneAxisSince = 13;
    const Activations &in = activations_of(inputs, 0);
    const size_t axis = axis_of(node.integer("axis", opset_ < kOneAxisSince ? 1 : -1), in.rank());
    const bool one = opset_ >= kOneAxisSince || axis + 1 == in.rank() || in.size.pixels() == 1;
    if (!one || in.own_axis(axis) != 1 || in.channels.dims.size() != 2 || in.pads.any()) {
        throw Refusal("is over axis " + std::to_string(axis) + " of shape " + message::shape_text(in.dims()) +
                      ", expected channels");
    }
    networks::Layer layer{.kind = networks::LayerKind::kSoftmax};
    layer.in = {read(in)};
    layer.out_channels = layer.in_channels();
    layer.out = in.size;
    return add_layer(std::move(layer), {.name = node.text()}, in);
}

// NOLINTBEGIN(readability-convert-member-functions-to-static): rows of a table of members.

/// Whether it can be no less than zero.
bool Tracer::non_negative(const TracedChannel &channel) const {
    if (channel.of.layer == networks::kImage) return false;
    if (activations_[channel.applied / kActivated].non_negative()) return true;
    return channel.applied < kActivated && non_negative(channel.of);
}

/// The same of a layer's output as layers read it.
bool Tracer::non_negative(const networks::Channel &channel) const {
    if (channel.layer == networks::kImage) return false;
    const networks::Layer &layer = trace_.graph.layers[channel.layer];
    switch (layer.kind) {
    case networks::LayerKind::kMaxPool:
    case networks::LayerKind::kAveragePool:
    case networks::LayerKind::kGlobalPool:
    case networks::LayerKind::kResize:
        return non_negative(layer.in[0].channels[channel.index]);
    case networks::LayerKind::kSoftmax:
        return true;
    default:
        return layer.activation.non_negative();
    }
}

/// Activations are computed in floats, as they were before they were quantised. Where zero is the least value that
/// there is, quantisers leave out the ReLU before.
Value Tracer::quantise(const Node &node, const Inputs &inputs) {
    const Activations &in = activations_of(inputs, 0);
    bool from_zero = true;
    if (node.has_input(2)) {
        const auto zero = initializers_.find(node.input(2));
        const bool bytes = zero != initializers_.end() && zero->second->data_type() == onnx::TensorProto::UINT8;
        from_zero = bytes && std::ranges::all_of(integers_of(inputs, 2).data, [](int64_t point) { return point == 0; });
    }
    const auto is_non_negative = [this](const TracedChannel &channel) { return non_negative(channel); };
    if (!from_zero || std::ranges::all_of(in.channels.data, is_non_negative)) return in;
    return activation(node, inputs, networks::kRelu);
}

/// Weights become (x - zero point) * scale, of the whole tensor or of each place along an axis.
Value Tracer::dequantise(const Node &node, const Inputs &inputs) {
    if (std::holds_alternative<Activations>(input_value(inputs, 0))) return activations_of(inputs, 0);
    const Array<int64_t> &in = integers_of(inputs, 0);
    const std::vector<float> &scale = floats_of(inputs, 1).data;
    std::vector<int64_t> zero(scale.size(), 0);
    if (inputs.size() > 2 && inputs[2] != nullptr) zero = integers_of(inputs, 2).data;
    const size_t axis = scale.size() == 1 ? 0 : axis_of(node.integer("axis", 1), in.dims.size());
    const auto extent = scale.size() == 1 ? int64_t{1} : in.dims[axis];
    if (zero.size() != scale.size() || static_cast<int64_t>(scale.size()) != extent) {
        throw Refusal("has " + std::to_string(scale.size()) + " scales and " + std::to_string(zero.size()) +
                      " zero points for shape " + message::shape_text(in.dims));
    }
    const auto each = scale.size() == 1 ? static_cast<int64_t>(in.data.size())
                                        : detail::product(std::span(in.dims).subspan(axis + 1));
    Array<float> out{in.dims, {}};
    for (size_t i = 0; i < in.data.size(); ++i) {
        const size_t at = each > 0 ? i / static_cast<size_t>(each) % scale.size() : 0;
        out.data.push_back(static_cast<float>(in.data[i] - zero[at]) * scale[at]);
    }
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
