#include "graph_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <sstream>
#include <stdexcept>

namespace shufflenet::networks {

namespace {

constexpr std::array<std::string_view, 10> kKinds = {"convolution", "max_pool", "average_pool", "global_pool", "linear",
                                                     "add",         "resize",   "softmax",      "activation",  "copy"};

/// A name, or a sign for none: fields are separated by blanks.
std::string field(const std::string &name) { return name.empty() ? "-" : name; }
std::string name_of(std::string_view field) { return field == "-" ? std::string() : std::string(field); }

/// "4x5:0.0+3,2.7": size, then runs of neighbouring channels, layer.index+count; a layer is "i" for the image.
std::string tensor_text(const Tensor &tensor) {
    std::string text = std::to_string(tensor.size.height) + "x" + std::to_string(tensor.size.width) + ":";
    for (size_t i = 0; i < tensor.channels.size();) {
        const Channel first = tensor.channels[i];
        size_t count = 1;
        while (i + count < tensor.channels.size() &&
               tensor.channels[i + count] == Channel{first.layer, first.index + static_cast<int>(count)}) {
            ++count;
        }
        if (i > 0) text += ",";
        text += (first.layer == kImage ? "i" : std::to_string(first.layer)) + "." + std::to_string(first.index);
        if (count > 1) text += "+" + std::to_string(count);
        i += count;
    }
    return text;
}

/// Reads numbers and signs from a line's fields.
class Fields {
  public:
    Fields(std::string_view line, int number) : rest_(line), number_(number) {}

    [[noreturn]] void fail(const std::string &expected) const {
        throw std::invalid_argument("line " + std::to_string(number_) + " of a graph: expected " + expected);
    }
    bool done() {
        rest_.remove_prefix(std::min(rest_.find_first_not_of(' '), rest_.size()));
        return rest_.empty();
    }
    /// A view of the line.
    std::string_view word(const std::string &expected) {
        if (done()) fail(expected);
        const std::string_view word = rest_.substr(0, rest_.find(' '));
        rest_.remove_prefix(word.size());
        return word;
    }
    int number(const std::string &expected) {
        std::string_view rest = word(expected);
        const int value = number(rest, expected);
        if (!rest.empty()) fail(expected);
        return value;
    }
    /// Below `count`.
    int choice(const std::string &expected, int count) {
        const int value = number(expected);
        if (value >= count) fail(expected);
        return value;
    }
    Size size(const std::string &expected) {
        Size size;
        size.height = number(expected);
        size.width = number(expected);
        return size;
    }
    Tensor tensor() {
        std::string_view rest = word("a tensor");
        Tensor tensor;
        tensor.size.height = number(rest, "a tensor's height");
        sign(rest, 'x');
        tensor.size.width = number(rest, "a tensor's width");
        sign(rest, ':');
        while (true) {
            const bool image = rest.starts_with('i');
            const int layer = image ? kImage : number(rest, "a layer's number");
            if (image) rest.remove_prefix(1);
            sign(rest, '.');
            const int first = number(rest, "a channel");
            int count = 1;
            if (rest.starts_with('+')) {
                rest.remove_prefix(1);
                count = number(rest, "a number of channels");
            }
            if (count > kMostChannels) fail("fewer channels");
            for (int i = 0; i < count; ++i) tensor.channels.push_back({layer, first + i});
            if (rest.empty()) return tensor;
            sign(rest, ',');
        }
    }

  private:
    static constexpr int kMostChannels = 1 << 20;

    int number(std::string_view &rest, const std::string &expected) const {
        int value = 0;
        const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
        if (error != std::errc() || value < 0) fail(expected);
        rest.remove_prefix(static_cast<size_t>(end - rest.data()));
        return value;
    }
    void sign(std::string_view &rest, char expected) const {
        if (!rest.starts_with(expected)) fail(std::string("'") + expected + "'");
        rest.remove_prefix(1);
    }

    std::string_view rest_;
    int number_;
};

std::string size_text(Size size) { return std::to_string(size.height) + " " + std::to_string(size.width); }

std::string layer_text(const Layer &layer) {
    std::ostringstream line;
    line << kKinds.at(static_cast<size_t>(layer.kind)) << ' ' << layer.id << ' ' << field(layer.module) << ' '
         << field(layer.norm) << ' ' << layer.bias << ' ' << layer.out_channels << ' ' << size_text(layer.out) << ' '
         << size_text(layer.window.kernel) << ' ' << size_text(layer.window.stride) << ' '
         << size_text(layer.window.padding) << ' ' << layer.groups << ' ' << to_string(layer.activation) << ' '
         << layer.counts_padding << ' ' << static_cast<int>(layer.resize.mode) << ' '
         << static_cast<int>(layer.resize.coordinates) << ' ' << static_cast<int>(layer.resize.rounding);
    for (const Tensor &tensor : layer.in) line << ' ' << tensor_text(tensor);
    return line.str();
}

Layer read_layer(std::string_view kind, Fields &fields) {
    Layer layer;
    layer.kind = static_cast<LayerKind>(std::ranges::find(kKinds, kind) - kKinds.begin());
    layer.id = fields.word("a layer's name");
    layer.module = name_of(fields.word("a module"));
    layer.norm = name_of(fields.word("a normalisation"));
    layer.bias = fields.number("whether there is a bias") != 0;
    layer.out_channels = fields.number("output channels");
    layer.out = fields.size("the output's size");
    layer.window.kernel = fields.size("a window");
    layer.window.stride = fields.size("a stride");
    layer.window.padding = fields.size("a padding");
    layer.groups = fields.number("groups");
    if (!parse_activation(fields.word("an activation"), &layer.activation)) fields.fail("an activation");
    layer.counts_padding = fields.number("whether padding counts") != 0;
    layer.resize.mode = static_cast<Resize::Mode>(fields.choice("how it is resized", 2));
    layer.resize.coordinates = static_cast<Resize::Coordinates>(fields.choice("coordinates", 3));
    layer.resize.rounding = static_cast<Resize::Rounding>(fields.choice("a rounding", 4));
    while (!fields.done()) layer.in.push_back(fields.tensor());
    return layer;
}

/// With the shape, if there is one, behind what lies first in memory.
std::string output_text(const Output &output) {
    std::string text = "output " + output.name + " " + tensor_text(output.tensor);
    if (output.shape.empty()) return text;
    text += output.pixels_first ? " pixels" : " channels";
    for (const int extent : output.shape) text += " " + std::to_string(extent);
    return text;
}

Output read_output(Fields &fields) {
    Output output{.name = std::string(fields.word("an output's name")), .tensor = fields.tensor()};
    if (fields.done()) return output;
    const std::string_view first = fields.word("what lies first");
    if (first != "pixels" && first != "channels") fields.fail("'pixels' or 'channels'");
    output.pixels_first = first == "pixels";
    while (!fields.done()) output.shape.push_back(fields.number("an extent"));
    return output;
}

}  // namespace

std::string graph_to_text(const Graph &graph) {
    std::string text =
        "graph " + graph.name + " " + size_text(graph.input) + " " + std::to_string(graph.image_channels) + "\n";
    for (const Layer &layer : graph.layers) text += layer_text(layer) + "\n";
    for (const Output &output : graph.outputs) text += output_text(output) + "\n";
    return text;
}

Graph graph_from_text(std::string_view text) {
    Graph graph;
    int number = 0;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        Fields fields(text.substr(at, end - at), ++number);
        at = end + 1;
        const std::string_view kind = fields.word("a line");
        if (number == 1) {
            if (kind != "graph") fields.fail("'graph'");
            graph.name = fields.word("a name");
            graph.input = fields.size("the input's size");
            graph.image_channels = fields.number("the image's channels");
        } else if (kind == "output") {
            graph.outputs.push_back(read_output(fields));
        } else if (std::ranges::find(kKinds, kind) != kKinds.end()) {
            graph.layers.push_back(read_layer(kind, fields));
        } else {
            fields.fail("a layer or an output");
        }
    }
    try {
        check(graph);
    } catch (const std::logic_error &error) {
        throw std::invalid_argument(std::string("a graph as text: ") + error.what());
    }
    return graph;
}

}  // namespace shufflenet::networks
