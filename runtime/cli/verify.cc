// shufflenet verify: our outputs against those of an ONNX file, on the same inputs.
#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "commands.h"
#include "error.h"
#include "importers/graph_weights.h"
#include "importers/onnx_file.h"
#include "importers/onnxruntime.h"
#include "reference/random_weights.h"
#include "reference/reference.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/file.h"
#include "runtime/src/finite.h"
#include "runtime/src/message.h"
#include "runtime/src/metadata.h"
#include "shufflenet/image.h"
#include "terminal.h"

namespace shufflenet::cli {

namespace {

constexpr int kRandomInputs = 3;
constexpr uint64_t kSeed = 1;

/// Values below this share of an output's range are mostly cancellation, and floats near zero are close together.
constexpr double kLeastForUlp = 1e-3;

/// One image, NCHW.
struct Input {
    std::string name;
    std::vector<float> data;
};

/// An output of both sides.
struct Output {
    std::string name;
    std::vector<int64_t> shape;  ///< Of one image.
};

/// The worst errors of an output so far.
struct Errors {
    double absolute = 0, relative = 0;
    int64_t ulp = 0;
    std::string input;  ///< With the worst relative error.
};

using Values = std::vector<std::vector<double>>;

/// The side that we are compared with.
struct Side {  // NOLINT(bugprone-exception-escape): a JSON value moves without throwing.
    nlohmann::ordered_json about;
    std::string text;
    std::vector<Output> outputs;
    std::function<Values(const Input &)> run;
};

// Sides.

/// One of ours.
Output output_of(const shufflenet_descriptor &descriptor, const Model &model, const std::string &name) {
    return {name, dimensions(descriptor, name, model.output_shape(name))};
}

size_t elements(const Output &output) {
    size_t count = 1;
    for (const int64_t n : output.shape) count *= static_cast<size_t>(n);
    return count;
}

/// The weights of a file, one element a layer of the graph.
std::vector<reference::LayerWeights> read_layers(std::span<const std::byte> safetensors, const std::string &name,
                                                 const GraphWeights &weights) {
    Safetensors file;
    check(Safetensors::parse(safetensors, name, &file));
    Checkpoint checkpoint;
    check(read_checkpoint(file, name, weights.needed(), &checkpoint));
    std::vector<reference::LayerWeights> layers(weights.graph().layers.size());
    size_t next = 0;
    for (size_t i = 0; i < layers.size(); ++i) {
        if (!weights.graph().layers[i].has_weights()) continue;
        FoldedLayer &folded = checkpoint.layers[next++];
        layers[i] = {std::move(folded.weights), std::move(folded.bias)};
    }
    return layers;
}

/// The reference: our graph with the ONNX file's weights.
Side reference_side(const VerifyOptions &options, const OnnxNetwork &onnx, const shufflenet_descriptor &descriptor,
                    const Model &model) {
    networks::Graph graph = graph_of(descriptor, model.classes());
    std::vector<reference::LayerWeights> layers = read_layers(onnx.safetensors, options.onnx, GraphWeights(graph));
    Side side;
    side.about = {{"name", "reference"}, {"precision", "double"}, {"weights", options.onnx}};
    side.text = "the double-precision reference with the weights of " + options.onnx;
    for (const OutputInfo &output : model.outputs()) side.outputs.push_back(output_of(descriptor, model, output.name));
    side.run = [graph = std::move(graph), layers = std::move(layers)](const Input &input) {
        Values values;
        for (reference::Tensor &tensor : reference::run(graph, layers, input.data)) {
            values.push_back(std::move(tensor.data));
        }
        return values;
    };
    return side;
}

/// Output `values` of the first image, its channels renumbered as ours; `order`: see OnnxOutput.
std::vector<double> in_our_order(std::span<const float> values, const std::vector<int> &order) {
    std::vector<double> out(values.size());
    const size_t pixels = values.size() / order.size();
    for (size_t c = 0; c < order.size(); ++c) {
        std::copy_n(&values[c * pixels], pixels, &out[order[c] * pixels]);
    }
    return out;
}

/// A graph made for N images gets the same one N times.
Values run_session(OnnxRuntime &session, const FloatModel &model, const OnnxNetwork &onnx, Size size,
                   const std::vector<Output> &outputs, const Input &input) {
    const int64_t batch = std::max<int64_t>(onnx.batch, 1);
    std::vector<float> images;
    for (int64_t n = 0; n < batch; ++n) images.insert(images.end(), input.data.begin(), input.data.end());
    std::vector<std::vector<float>> memory;
    std::vector<OnnxRuntime::Tensor> tensors;
    for (size_t i = 0; i < outputs.size(); ++i) {
        OnnxRuntime::Tensor &tensor = tensors.emplace_back();
        tensor.name = model.outputs[i];
        tensor.shape = outputs[i].shape;
        tensor.shape.insert(tensor.shape.begin(), batch);
        tensor.data = memory.emplace_back(batch * elements(outputs[i]));
    }
    session.run({model.input, {batch, 3, size.height, size.width}, images}, tensors);
    Values values;
    for (size_t i = 0; i < outputs.size(); ++i) {
        const std::span<const float> first = std::span(memory[i]).first(elements(outputs[i]));
        values.push_back(in_our_order(first, onnx.outputs[i].order));
    }
    return values;
}

Side onnxruntime_side(const VerifyOptions &options, const std::string &library, std::span<const std::byte> file,
                      const OnnxNetwork &onnx, const shufflenet_descriptor &descriptor, const Model &model) {
    FloatModel changed;
    check(with_outputs(file, options.onnx, onnx, &changed));
    auto session = std::make_shared<OnnxRuntime>(library, changed.file, options.threads);
    const ModelInfo info = model.info();
    Side side;
    side.about = {{"name", "ONNX Runtime"}, {"version", session->version()}, {"library", library}};
    side.text = "ONNX Runtime " + session->version() + " on " + options.onnx;
    for (const OnnxOutput &output : onnx.outputs) side.outputs.push_back(output_of(descriptor, model, output.name));
    changed.file.clear();
    side.run = [session, changed = std::move(changed), &onnx, size = Size{info.height, info.width},
                outputs = side.outputs](const Input &input) {
        return run_session(*session, changed, onnx, size, outputs, input);
    };
    return side;
}

Side other_side(const VerifyOptions &options, std::span<const std::byte> file, const OnnxNetwork &onnx,
                const shufflenet_descriptor &descriptor, const Model &model) {
    std::optional<std::string> library = options.onnxruntime;
    if (!library && !options.reference) library = OnnxRuntime::find();
    return library ? onnxruntime_side(options, *library, file, onnx, descriptor, model)
                   : reference_side(options, onnx, descriptor, model);
}

// Inputs.

#if defined(SHUFFLENET_NO_IMAGES)
Input read_image(const std::string &path, const ModelInfo & /*info*/) {
    throw Error(path + ": expected a .npy file: this build reads no images (SHUFFLENET_IMAGE=OFF)");
}
#else
Input read_image(const std::string &path, const ModelInfo &info) {
    const Metadata usual = default_metadata(info.network, info.height, info.width, usual_resize(info.network));
    Image image;
    check(decode_image_file(path, &image));
    Input input{path, std::vector<float>(size_t{3} * info.height * info.width)};
    check(preprocess(image, usual.preprocess, input.data));
    return input;
}
#endif

std::vector<Input> make_inputs(const VerifyOptions &options, const ModelInfo &info) {
    std::vector<Input> inputs;
    for (int i = 0; i < kRandomInputs; ++i) {
        inputs.push_back({"random " + std::to_string(i + 1),
                          reference::random_input({info.height, info.width}, 1, kSeed + static_cast<uint64_t>(i))});
    }
    for (const std::string &path : options.inputs) {
        if (std::filesystem::path(path).extension() != ".npy") {
            inputs.push_back(read_image(path, info));
            continue;
        }
        const Npy all = read_input(path, info);
        if (const std::string text = non_finite_text(all); !text.empty()) {
            throw Error(path + ": expected finite values, found " + text);
        }
        const ptrdiff_t image = ptrdiff_t{3} * info.height * info.width;
        for (ptrdiff_t n = 0; n < all.shape[0]; ++n) {
            const auto begin = all.data.begin() + n * image;
            inputs.push_back({path + "[" + std::to_string(n) + "]", {begin, begin + image}});
        }
    }
    return inputs;
}

// Errors.

/// Floats between two floats.
int64_t ulp_distance(float a, float b) {
    const auto place = [](float value) {
        const auto bits = static_cast<int64_t>(std::bit_cast<uint32_t>(value) & 0x7FFFFFFFU);
        return std::signbit(value) ? -bits : bits;
    };
    return std::abs(place(a) - place(b));
}

/// Not-a-number counts as infinitely wrong.
double error_of(double ours, double theirs) {
    const double error = std::abs(ours - theirs);
    return is_nan(error) ? std::numeric_limits<double>::infinity() : error;
}

/// What errors are relative to: the largest value less the smallest or, of equal values, their magnitude.
double range_of(const std::vector<double> &values) {
    const auto [low, high] = std::ranges::minmax(values);
    return high > low ? high - low : std::abs(high);
}

void update(Errors &errors, std::span<const float> ours, const std::vector<double> &theirs, const std::string &input) {
    const double range = range_of(theirs);
    double worst = 0;
    for (size_t i = 0; i < theirs.size(); ++i) {
        worst = std::max(worst, error_of(ours[i], theirs[i]));
        if (std::abs(theirs[i]) < kLeastForUlp * range) continue;
        errors.ulp = std::max(errors.ulp, ulp_distance(ours[i], static_cast<float>(theirs[i])));
    }
    errors.absolute = std::max(errors.absolute, worst);
    const double relative = worst > 0 ? worst / range : 0;
    if (relative > errors.relative || errors.input.empty()) errors.input = input;
    errors.relative = std::max(errors.relative, relative);
}

std::vector<Errors> compare(Model &model, const Side &side, const std::vector<Input> &inputs) {
    std::vector<Errors> errors(side.outputs.size());
    std::vector<std::vector<float>> ours;
    std::vector<OutputRequest> requests;
    for (const Output &output : side.outputs) ours.emplace_back(elements(output));
    for (size_t i = 0; i < ours.size(); ++i) requests.push_back({side.outputs[i].name, Layout::kNCHW, ours[i]});
    for (const Input &input : inputs) {
        check(model.run(input.data, 1, std::span<const OutputRequest>(requests)));
        const Values theirs = side.run(input);
        for (size_t i = 0; i < ours.size(); ++i) update(errors[i], ours[i], theirs[i], input.name);
    }
    return errors;
}

constexpr double kHalf = 0x1p-11, kBfloat16 = 0x1p-9;

/// By how much of its size a weight may have been rounded when the file was written.
double weight_rounding(const std::optional<std::string> &path) {
    if (!path) return 0;
    Safetensors file;
    check(Safetensors::open(*path, &file));
    double rounding = 0;
    for (const Tensor &tensor : file.tensors()) {
        rounding = std::max(rounding, tensor.dtype == "BF16" ? kBfloat16 : tensor.dtype == "F16" ? kHalf : 0);
    }
    return rounding;
}

/// Rounding errors of sums grow as random walks do: a sum of k products is wrong by about u sqrt(k) of its size, and
/// those of successive layers add up as independent ones do.
double default_tolerance(const networks::Graph &graph, double weight_rounding) {
    constexpr double kSingle = 0x1p-24, kSides = 4;
    double products = 0, layers = 0;
    for (const networks::Layer &layer : graph.layers) {
        if (!layer.has_weights()) continue;
        products += static_cast<double>(layer.weight_elements()) / layer.out_channels;
        layers += 1;
    }
    return kSides * (kSingle * std::sqrt(products) + weight_rounding * std::sqrt(layers));
}

// What is printed.

std::string scientific(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.2e", value);
    return text.data();
}

std::string shape_text(const Output &output) {
    std::string text;
    for (const int64_t n : output.shape) text += (text.empty() ? "" : "x") + std::to_string(n);
    return text;
}

void print_table(const std::vector<Output> &outputs, const std::vector<Errors> &errors) {
    using enum Table::Align;
    Table table(
        {{"output"}, {"shape", kRight}, {"absolute", kRight}, {"of range", kRight}, {"ULP", kRight}, {"worst input"}});
    for (size_t i = 0; i < outputs.size(); ++i) {
        table.add_row({outputs[i].name, shape_text(outputs[i]), scientific(errors[i].absolute),
                       scientific(errors[i].relative), std::to_string(errors[i].ulp), errors[i].input});
    }
    table.print();
}

void print_json(const Model &model, const Side &side, const std::vector<Input> &inputs,
                const std::vector<Errors> &errors, double tolerance, bool passed) {
    using Json = nlohmann::ordered_json;
    Json names = Json::array(), outputs = Json::array();
    for (const Input &input : inputs) names.push_back(input.name);
    for (size_t i = 0; i < errors.size(); ++i) {
        outputs.push_back({{"output", side.outputs[i].name},
                           {"shape", side.outputs[i].shape},
                           {"absolute", errors[i].absolute},
                           {"relative", errors[i].relative},
                           {"ulp", errors[i].ulp},
                           {"worst_input", errors[i].input}});
    }
    const Json all = {
        {"model", model.info().name}, {"isa", model.isa()},     {"against", side.about}, {"inputs", names},
        {"outputs", outputs},         {"tolerance", tolerance}, {"passed", passed}};
    std::cout << all.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
}

void check_fit(const VerifyOptions &options, const OnnxNetwork &onnx, const Model &model) {
    const ModelInfo info = model.info();
    if (onnx.size && !(*onnx.size == Size{info.height, info.width})) {
        throw Error(options.onnx + ": expected input " + size_text(info.height, info.width) + " for " + info.name +
                    ", found " + size_text(onnx.size->height, onnx.size->width));
    }
    if (onnx.classes != model.classes()) {
        throw Error(options.onnx + ": expected " + std::to_string(model.classes()) +
                    " classes as the weights have, found " + std::to_string(onnx.classes));
    }
}

}  // namespace

int verify(const VerifyOptions &options) {
    const shufflenet_descriptor &descriptor = get_model(options.model);
    Model model = open_model(descriptor, options.weights, options.threads);
    const ModelInfo info = model.info();
    const networks::Graph graph = graph_of(descriptor, info.classes);
    std::vector<std::byte> file;
    check(read_expected(options.onnx, kOnnxFile, &file));
    OnnxNetwork onnx;
    check(read_onnx(file, options.onnx, &graph, {info.height, info.width}, &onnx));
    check_fit(options, onnx, model);

    const std::vector<Input> inputs = make_inputs(options, info);
    const Side side = other_side(options, file, onnx, descriptor, model);
    const std::vector<Errors> errors = compare(model, side, inputs);
    const double rounding = std::max(onnx.half ? kHalf : 0, weight_rounding(options.weights));
    const double tolerance = options.tolerance.value_or(default_tolerance(graph, rounding));
    const auto worst = std::ranges::max_element(errors, {}, &Errors::relative);
    const bool passed = worst->relative <= tolerance;
    if (options.json) {
        print_json(model, side, inputs, errors, tolerance, passed);
    } else {
        std::cout << message::one_line(info.name) << " (" << model.isa() << ") against " << message::one_line(side.text)
                  << ", on " << inputs.size() << " inputs\n\n";
        print_table(side.outputs, errors);
        if (passed) std::cout << "\nwithin the tolerance of " << scientific(tolerance) << " of the range\n";
    }
    if (passed) return 0;
    const std::string &output = side.outputs[worst - errors.begin()].name;
    throw Error(options.onnx + ": " + output + " differs by " + scientific(worst->relative) + " of its range on " +
                worst->input + ", expected at most " + scientific(tolerance));
}

}  // namespace shufflenet::cli
