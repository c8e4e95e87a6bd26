#include "emit_descriptor.h"

#include <array>
#include <map>
#include <set>
#include <span>
#include <type_traits>

#include "text.h"

namespace shufflenet::compile {

namespace {

constexpr std::string_view kSource = R"(// Made by shufflenet_compile: the descriptor and the C interface of @name@.
// A shared library that contains the model has its interface, and nothing else of it.
#pragma GCC visibility push(default)
#include "@name@.h"
#pragma GCC visibility pop

#include "shufflenet/c_interface.h"
#include "shufflenet/descriptor.h"

extern "C" {

typedef int kernel(const void *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *,
                   halide_buffer_t *, halide_buffer_t *);
@declarations@
@programs@
constexpr shufflenet_descriptor @name@_descriptor = {
    .abi = SHUFFLENET_VERSION_NUMBER,
    .name = "@name@",
    .network = "@network@",
    .height = @height@,
    .width = @width@,
    .classes = @classes@,
    .program = &program,
    .kernels = targets,
    .kernels_count = @targets_count@,
    .packed = @packed@,
    .weights = @weights@,
    .weights_end = @weights_end@,
    .metadata = @metadata@,
    .devices = @devices@,
    .devices_count = @devices_count@,
};

// The model's C type is the runtime's, under a name of its own.
struct @name@_model : shufflenet::CModel {};

int @name@_open(@name@_model **model, const char *weights_path, int threads, char *error, int error_size) {
    return shufflenet::c_open(@name@_descriptor, model, weights_path, threads, error, error_size);
}
int @name@_share(const @name@_model *model, @name@_model **other, int threads, char *error, int error_size) {
    return shufflenet::c_share(*model, other, threads, error, error_size);
}
int @name@_run(@name@_model *model, const float *input, int batch, float *out) {
    return shufflenet::c_run(*model, input, batch, out);
}
int @name@_run_outputs(@name@_model *model, const float *input, int batch, float *const *outputs) {
    return shufflenet::c_run_outputs(*model, input, batch, outputs);
}
int @name@_classes(const @name@_model *model) { return model->model.classes(); }
const char *@name@_isa(const @name@_model *model) { return model->model.isa(); }
const char *@name@_error(const @name@_model *model) { return model->error.c_str(); }
void @name@_close(@name@_model *model) { delete model; }

}  // extern "C"
)";

constexpr std::string_view kProgram = R"(@tables@
static constexpr shufflenet_program program = {
    .shapes = shapes,
    .kernels_count = @kernels_count@,
    .calls = calls,
    .calls_count = @calls_count@,
    .image_calls = @image_calls@,
    .arena_floats = @arena_floats@,
    .row_floats = @row_floats@,
    .weight_floats = @weight_floats@,
    .tables = tables,
    .tables_count = @tables_count@,
    .layers = @layers@,
    .packing = @packing@,
    .layers_count = @layers_count@,
    .outputs = outputs,
    .outputs_count = @outputs_count@,
    .graph = @graph@,
};
)";

std::string quoted(std::string_view text) { return "\"" + literal(text) + "\""; }

/// One initialiser of a row of values.
template <typename... Values>
std::string row(const Values &...values) {
    std::string text;
    const auto add = [&](const auto &value) {
        if (!text.empty()) text += ", ";
        if constexpr (std::is_arithmetic_v<std::decay_t<decltype(value)>>) {
            text += std::to_string(value);
        } else {
            text += value;
        }
    };
    (add(values), ...);
    return "{" + text + "}";
}

/// An array of rows, one a line.
std::string rows_text(const std::string &declaration, std::span<const std::string> rows) {
    std::string text = declaration + " = {\n";
    for (const std::string &one : rows) text += "    " + one + ",\n";
    return text + "};\n";
}

/// An array of numbers, in lines of bounded length.
template <typename T>
std::string numbers_text(const std::string &declaration, std::span<const T> numbers) {
    constexpr size_t kLongest = 120;
    std::string text = declaration + " = {\n", line = "   ";
    for (const T number : numbers) {
        const std::string next = " " + std::to_string(number) + ",";
        if (line.size() + next.size() > kLongest) {
            text += line + "\n";
            line = "   ";
        }
        line += next;
    }
    return text + line + "\n};\n";
}

/// Arrays of small numbers, equal ones once.
class Arrays {
  public:
    /// The name of an array; of no array no pointer.
    std::string name(const int16_t *numbers, int count) {
        if (numbers == nullptr) return "nullptr";
        const std::span all(numbers, static_cast<size_t>(count));
        const auto [at, added] = names_.try_emplace({all.begin(), all.end()}, "order" + std::to_string(names_.size()));
        if (added) text_ += numbers_text("static constexpr int16_t " + at->second + "[]", all);
        return at->second;
    }
    const std::string &text() const { return text_; }

  private:
    std::map<std::vector<int16_t>, std::string> names_;
    std::string text_;
};

std::string_view source_name(shufflenet_source source) {
    constexpr std::array<std::string_view, 3> kNames = {"SHUFFLENET_ARENA", "SHUFFLENET_IMAGE", "SHUFFLENET_ROWS"};
    return kNames[source];
}

std::string_view destination_name(shufflenet_destination destination) {
    constexpr std::array<std::string_view, 3> kNames = {"SHUFFLENET_TO_ARENA", "SHUFFLENET_TO_ROW",
                                                        "SHUFFLENET_TO_OUTPUT"};
    return kNames[destination];
}

std::string_view element_name(shufflenet_element element) {
    constexpr std::array<std::string_view, 2> kNames = {"SHUFFLENET_F32", "SHUFFLENET_S16"};
    return kNames[element];
}

std::string shapes_text(const ProgramData &data) {
    std::vector<std::string> rows;
    for (const networks::Kernel &kernel : data.source().kernels) {
        const shufflenet_shape &shape = data.program().shapes[rows.size()];
        rows.push_back("/* " + key(kernel) + " */ " +
                       row(source_name(shape.in), shape.table, shape.weights, shape.pixels, shape.planes, shape.groups,
                           element_name(shape.element)));
    }
    return rows_text("static constexpr shufflenet_shape shapes[]", rows);
}

std::string calls_text(const shufflenet_program &program) {
    std::vector<std::string> rows;
    for (const shufflenet_call &call : std::span(program.calls, program.calls_count)) {
        rows.push_back(
            row(quoted(call.id), call.kernel, destination_name(call.to), call.out, call.table, call.weights));
    }
    return rows_text("static constexpr shufflenet_call calls[]", rows);
}

/// Layers, and how each is packed.
std::string layers_text(const shufflenet_program &program) {
    std::vector<std::string> layers, packs;
    Arrays arrays;
    for (int i = 0; i < program.layers_count; ++i) {
        const shufflenet_layer &layer = program.layers[i];
        layers.push_back(row(quoted(layer.module), quoted(layer.norm), layer.linear, layer.bias, layer.out_channels,
                             layer.in_channels, layer.kernel_height, layer.kernel_width));
        const shufflenet_pack &pack = program.packing[i];
        packs.push_back(row(pack.panel, pack.rows, pack.lanes, pack.groups, pack.stride, pack.bias, pack.weights,
                            pack.blob, element_name(pack.element), pack.interleave, pack.taps_last,
                            arrays.name(pack.lane_of, layer.out_channels), arrays.name(pack.order, pack.order_count),
                            pack.order_count));
    }
    if (layers.empty()) return {};
    return arrays.text() + rows_text("static constexpr shufflenet_layer layers[]", layers) +
           rows_text("static constexpr shufflenet_pack packing[]", packs);
}

std::string outputs_text(const shufflenet_program &program) {
    std::vector<std::string> rows;
    std::string arrays;
    for (const shufflenet_output &output : std::span(program.outputs, program.outputs_count)) {
        std::string offsets = "nullptr";
        if (output.offsets != nullptr) {
            offsets = "offsets" + std::to_string(rows.size());
            arrays += numbers_text("static constexpr int32_t " + offsets + "[]",
                                   std::span(output.offsets, static_cast<size_t>(output.channels)));
        }
        rows.push_back(row(quoted(output.name), output.channels, output.height, output.width, offsets));
    }
    return arrays + rows_text("static constexpr shufflenet_output outputs[]", rows);
}

std::string graph_text(std::string_view graph) {
    std::string text = "static constexpr char graph[] =\n", line;
    for (const char ch : graph) {
        line += ch;
        if (ch != '\n') continue;
        line.pop_back();
        text += "    \"" + literal(line) + "\\n\"\n";
        line.clear();
    }
    text += "    " + quoted(line);
    return text + ";\n";
}

std::string kernels_text(const std::vector<CompiledTarget> &targets) {
    std::string text;
    std::vector<std::string> target_rows;
    for (const CompiledTarget &target : targets) {
        const std::string isa(target.target->name), name = "kernels_" + isa;
        std::vector<std::string> rows;
        for (const CompiledKernel &kernel : target.kernels) {
            rows.push_back(row(kernel.symbol, row(kernel.lanes[0], kernel.lanes[1])));
        }
        text += rows_text("static constexpr shufflenet_kernel " + name + "[]", rows);
        target_rows.push_back(row(quoted(isa), name, target.scratch_bytes()));
    }
    return text + rows_text("static constexpr shufflenet_kernels targets[]", target_rows);
}

std::string declarations_text(const Model &model) {
    std::string text;
    for (const CompiledTarget &target : model.targets) {
        for (const CompiledKernel &kernel : target.kernels) text += "kernel " + kernel.symbol + ";\n";
    }
    std::set<std::string> symbols;
    for (const CompiledDevice &device : model.devices) {
        for (const DeviceVariant &variant : device.variants) {
            for (const CompiledKernel &kernel : variant.kernels) symbols.insert(kernel.symbol);
        }
    }
    for (const std::string &symbol : symbols) text += "kernel " + symbol + ";\n";
    if (model.packed) text += "extern const float " + model.name + "_packed[];\n";
    if (model.weights) {
        text += "extern const unsigned char " + model.name + "_weights[], " + model.name + "_weights_end[];\n";
    }
    if (model.metadata) text += "extern const char " + model.name + "_metadata[];\n";
    return text;
}

/// The tables of a program, and it. `graph`: what they say of its graph.
std::string program_text(const ProgramData &data, std::string_view graph) {
    const shufflenet_program &program = data.program();
    const bool has_layers = program.layers_count > 0;
    const std::span entries(program.tables, static_cast<size_t>(program.tables_count));
    const std::string tables = shapes_text(data) + calls_text(program) +
                               numbers_text("alignas(64) static constexpr int32_t tables[]", entries) +
                               layers_text(program) + outputs_text(program);
    return fill(kProgram, {{"tables", tables},
                           {"kernels_count", std::to_string(program.kernels_count)},
                           {"calls_count", std::to_string(program.calls_count)},
                           {"image_calls", std::to_string(program.image_calls)},
                           {"arena_floats", std::to_string(program.arena_floats)},
                           {"row_floats", std::to_string(program.row_floats)},
                           {"weight_floats", std::to_string(program.weight_floats)},
                           {"tables_count", std::to_string(program.tables_count)},
                           {"layers", has_layers ? "layers" : "nullptr"},
                           {"packing", has_layers ? "packing" : "nullptr"},
                           {"layers_count", std::to_string(program.layers_count)},
                           {"outputs_count", std::to_string(program.outputs_count)},
                           {"graph", std::string(graph)}});
}

/// What a call costs: shufflenet_cost.
std::string cost_row(const networks::Graph &graph, const networks::Call &call) {
    const networks::Layer &last = graph.layers[static_cast<size_t>(call.layers.back())];
    int64_t multiply_adds = 0, elements = int64_t{last.out.pixels()} * last.out_channels;
    for (const int layer : call.layers) multiply_adds += graph.layers[static_cast<size_t>(layer)].flops();
    for (const networks::Tensor &tensor : graph.layers[static_cast<size_t>(call.layers.front())].in) {
        elements += int64_t{tensor.size.pixels()} * tensor.count();
    }
    return row(multiply_adds, elements * static_cast<int64_t>(sizeof(float)));
}

/// The variants of a device, after its name.
std::string variants_text(const CompiledDevice &device, std::string *row_text) {
    const std::string name(device.device->name);
    std::string text;
    std::vector<int> from;
    std::vector<std::string> tables;
    for (const DeviceVariant &variant : device.variants) {
        std::vector<std::string> rows;
        for (const CompiledKernel &kernel : variant.kernels) {
            rows.push_back(row(kernel.symbol, row(kernel.lanes[0], kernel.lanes[1])));
        }
        tables.push_back("kernels_" + name + "_" + std::to_string(variant.from_batch));
        text += rows_text("static constexpr shufflenet_kernel " + tables.back() + "[]", rows);
        from.push_back(variant.from_batch);
    }
    text += numbers_text("static constexpr int batches_" + name + "[]", std::span<const int>(from));
    text += rows_text("static constexpr const shufflenet_kernel *variants_" + name + "[]", tables);
    *row_text = row(quoted(name), "&program", from.size(), "batches_" + name, "variants_" + name, "offsets", "costs");
    return text;
}

/// A program of their own, in a namespace of its own.
std::string devices_text(const Model &model) {
    if (model.devices.empty()) return {};
    const networks::Program &program = model.device_data->source();
    std::vector<std::string> costs, rows;
    std::vector<int> offsets;
    for (const networks::Kernel &kernel : program.kernels) {
        const bool rows_of_images = kernel.kind == networks::KernelKind::kLinear;
        offsets.push_back(rows_of_images ? 0 : networks::table_layout(kernel).first_lane());
    }
    for (const networks::Call &call : program.calls) costs.push_back(cost_row(program.graph, call));
    std::string text = "\nnamespace for_devices {\n" + program_text(*model.device_data, "graph");
    text += numbers_text("static constexpr int offsets[]", std::span<const int>(offsets));
    text += rows_text("static constexpr shufflenet_cost costs[]", costs);
    for (const CompiledDevice &device : model.devices) text += variants_text(device, &rows.emplace_back());
    return text + rows_text("static constexpr shufflenet_device devices[]", rows) + "}  // namespace for_devices\n";
}

}  // namespace

std::string descriptor_text(const Model &model) {
    const networks::Graph &graph = model.data.graph();
    const auto embedded = [&](bool there, const char *suffix) { return there ? model.name + suffix : "nullptr"; };
    const std::string programs = graph_text(model.data.program().graph) + kernels_text(model.targets) +
                                 program_text(model.data, "graph") + devices_text(model);
    return fill(kSource, {{"name", model.name},
                          {"network", literal(model.network)},
                          {"height", std::to_string(graph.input.height)},
                          {"width", std::to_string(graph.input.width)},
                          {"classes", std::to_string(classes_of(graph))},
                          {"declarations", declarations_text(model)},
                          {"programs", programs},
                          {"targets_count", std::to_string(model.targets.size())},
                          {"devices", model.devices.empty() ? "nullptr" : "for_devices::devices"},
                          {"devices_count", std::to_string(model.devices.size())},
                          {"packed", embedded(model.packed, "_packed")},
                          {"weights", embedded(model.weights, "_weights")},
                          {"weights_end", embedded(model.weights, "_weights_end")},
                          {"metadata", embedded(model.metadata, "_metadata")}});
}

}  // namespace shufflenet::compile
