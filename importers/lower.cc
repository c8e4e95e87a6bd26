#include "lower.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>
#include <utility>

#include "model_proto.h"
#include "trace.h"
#include "weights.h"

namespace shufflenet {

namespace {

using namespace imports;
using networks::Graph;
using networks::Layer;

/// A C identifier in lower case.
std::string identifier(const std::string &name) {
    std::string made;
    for (const char ch : name) {
        const auto letter = static_cast<unsigned char>(ch);
        const bool good = std::isalnum(letter) != 0;
        if (good || (!made.empty() && made.back() != '_')) made += good ? static_cast<char>(std::tolower(letter)) : '_';
    }
    while (!made.empty() && made.back() == '_') made.pop_back();
    if (made.empty() || std::isdigit(static_cast<unsigned char>(made.front())) != 0) made.insert(0, "n");
    return made;
}

/// Names that are all different.
class Names {
  public:
    std::string take(const std::string &wanted) {
        std::string name = identifier(wanted);
        for (int number = 2; !taken_.insert(name).second; ++number) {
            name = identifier(wanted) + "_" + std::to_string(number);
        }
        return name;
    }

  private:
    std::set<std::string> taken_;
};

/// A layer's weights as a convolution with a bias has them.
struct Folded {
    Array<float> weight;
    std::vector<float> bias;
};

/// In double precision, rounded once.
Folded folded(const FileLayer &file) {
    Folded out{*file.weight, file.bias};
    const auto channels = static_cast<size_t>(out.weight.dims[0]);
    out.bias.resize(channels);
    if (!file.norm) return out;
    const Norm &norm = *file.norm;
    const size_t each = out.weight.data.size() / channels;
    for (size_t i = 0; i < channels; ++i) {
        const double scale = norm.gamma[i] / std::sqrt(norm.variance[i] + norm.epsilon);
        const double bias = out.bias[i];
        out.bias[i] = static_cast<float>((bias - norm.mean[i]) * scale + norm.beta[i]);
        for (float &value : std::span(out.weight.data).subspan(i * each, each)) {
            value = static_cast<float>(value * scale);
        }
    }
    return out;
}

/// What stands between a node's quotes, or its operator.
std::string node_name(const std::string &text) {
    const size_t first = text.find('\''), last = text.rfind('\'');
    if (first != std::string::npos && first < last) return text.substr(first + 1, last - first - 1);
    return text;
}

std::string graph_name(const std::string &file) {
    const size_t slash = file.find_last_of('/');
    const std::string base = slash == std::string::npos ? file : file.substr(slash + 1);
    return identifier(base.substr(0, base.rfind('.')));
}

/// Where a file leaves its input's size open, it is run at this one until what is missing is named.
constexpr Size kAnySize{64, 64};

void check_size(const Trace &trace, std::optional<Size> size) {
    const auto text = [](Size of) { return std::to_string(of.height) + "x" + std::to_string(of.width); };
    if (!trace.size && !size) throw Refusal("leaves its input's size open: expected --input HEIGHT,WIDTH");
    if (size && trace.graph.input != *size) {
        throw Refusal("has an input of " + text(trace.graph.input) + ", expected " + text(*size) + " (--input)");
    }
}

ImportedNetwork lower(const onnx::GraphProto &file, Trace trace, const std::string &file_name) {
    ImportedNetwork out;
    Graph &graph = trace.graph;
    graph.name = graph_name(file_name);
    std::vector<StateTensor> state;
    Names names;
    for (size_t i = 0; i < graph.layers.size(); ++i) {
        Layer &layer = graph.layers[i];
        layer.id = names.take(node_name(trace.layers[i].name));
        if (trace.layers[i].weight == nullptr) continue;
        layer.module = layer.id;
    }
    for (const auto &output : file.output()) {
        if (graph.find_output(output.name()) != nullptr) continue;
        throw Refusal("output '" + message::shortened(output.name()) +
                      "' is not channels and pixels as layers compute them");
    }
    Names outputs;
    for (networks::Output &output : graph.outputs) output.name = outputs.take(output.name);
    for (size_t i = 0; i < graph.layers.size(); ++i) {
        Layer &layer = graph.layers[i];
        if (!layer.has_weights()) continue;
        Folded weights = folded(trace.layers[i]);
        state.push_back({layer.module + ".weight", weights.weight.dims, std::move(weights.weight.data)});
        state.push_back({layer.module + ".bias", {layer.out_channels}, std::move(weights.bias)});
    }
    check(graph);
    out.safetensors = to_safetensors(state);
    out.graph = std::move(graph);
    return out;
}

}  // namespace

Status import_onnx(std::span<const std::byte> file, const std::string &name, std::optional<Size> size,
                   ImportedNetwork *out) {
    return read_status(name, [&]() -> Status {
        if (Status status = check_kind(file, name, kOnnxFile); !status.ok()) return status;
        const onnx::ModelProto model = parse_model(file);
        Trace trace;
        trace_graph(model.graph(), operator_set(model), size.value_or(kAnySize), &trace);
        check_size(trace, size);
        *out = lower(model.graph(), std::move(trace), name);
        return {};
    });
}

}  // namespace shufflenet
