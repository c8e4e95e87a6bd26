#include "emit_descriptor.h"

#include <map>
#include <span>

#include "networks/graph_text.h"
#include "text.h"

namespace shufflenet::compile {

namespace {

using networks::Destination;
using networks::KernelKind;
using networks::LayerKind;

constexpr std::string_view kSource = R"(// Made by shufflenet_compile: the descriptor and the C interface of @name@.
// A shared library that contains the model has its interface, and nothing else of it.
#pragma GCC visibility push(default)
#include "@name@.h"
#pragma GCC visibility pop

#include "shufflenet/c_interface.h"
#include "shufflenet/descriptor.h"

extern "C" {

typedef int kernel(const void *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *,
                   halide_buffer_t *);
@declarations@
@tables@
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
    .graph = graph,
};

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
    .devices = nullptr,
    .devices_count = 0,
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
    std::string text = "static constexpr " + declaration + " = {\n";
    for (const std::string &one : rows) text += "    " + one + ",\n";
    return text + "};\n";
}

/// An array of numbers, in lines of bounded length.
template <typename T>
std::string numbers_text(const std::string &declaration, const std::vector<T> &numbers) {
    constexpr size_t kLongest = 120;
    std::string text = "static constexpr " + declaration + " = {\n", line = "   ";
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
    /// The name of an array; of an empty one no pointer.
    std::string name(const std::vector<int> &numbers) {
        if (numbers.empty()) return "nullptr";
        const auto [at, added] = names_.try_emplace(numbers, "order" + std::to_string(names_.size()));
        if (added) text_ += numbers_text("int16_t " + at->second + "[]", numbers);
        return at->second;
    }
    const std::string &text() const { return text_; }

  private:
    std::map<std::vector<int>, std::string> names_;
    std::string text_;
};

std::string source_of(const networks::Kernel &kernel) {
    if (kernel.kind == KernelKind::kStem) return "SHUFFLENET_IMAGE";
    return kernel.kind == KernelKind::kLinear ? "SHUFFLENET_ROWS" : "SHUFFLENET_ARENA";
}

std::string destination_text(Destination destination) {
    switch (destination) {
    case Destination::kRow:
        return "SHUFFLENET_TO_ROW";
    case Destination::kOutput:
        return "SHUFFLENET_TO_OUTPUT";
    case Destination::kArena:
        break;
    }
    return "SHUFFLENET_TO_ARENA";
}

std::string shapes_text(const networks::Program &program) {
    std::vector<std::string> rows;
    for (const networks::Kernel &kernel : program.kernels) {
        rows.push_back(row(source_of(kernel), table_layout(kernel).size(), weight_floats(kernel), kernel.out.pixels(),
                           kernel.planes(), kernel.groups) +
                       "  /* " + key(kernel) + " */");
    }
    return rows_text("shufflenet_shape shapes[]", rows);
}

std::string calls_text(const networks::Program &program) {
    std::vector<std::string> rows;
    for (const networks::Call &call : program.calls) {
        rows.push_back(row(quoted(call.id), call.kernel, destination_text(call.destination), call.out, call.table,
                           call.weights));
    }
    return rows_text("shufflenet_call calls[]", rows);
}

bool counts_up(const std::vector<int> &numbers) {
    for (size_t i = 0; i < numbers.size(); ++i) {
        if (numbers[i] != static_cast<int>(i)) return false;
    }
    return true;
}

/// Layers, and how each is packed.
std::string layers_text(const networks::Program &program) {
    std::vector<std::string> layers, packs;
    Arrays arrays;
    for (const networks::PackStep &step : program.packing) {
        const networks::Layer &layer = program.graph.layers[static_cast<size_t>(step.layer)];
        layers.push_back(row(quoted(layer.module), quoted(layer.norm), int{layer.kind == LayerKind::kLinear},
                             int{layer.norm.empty() && layer.bias}, layer.out_channels, layer.group_channels(),
                             layer.window.kernel.height, layer.window.kernel.width));
        const networks::WeightLayout &layout = step.layout;
        packs.push_back(row(layout.panel, layout.rows, layout.lanes, layout.groups, layout.stride, layout.bias,
                            layout.weights, step.blob, int{step.taps_last},
                            counts_up(step.lanes) ? "nullptr" : arrays.name(step.lanes), arrays.name(step.order),
                            step.order.size()));
    }
    if (layers.empty()) return {};
    return arrays.text() + rows_text("shufflenet_layer layers[]", layers) + rows_text("shufflenet_pack packing[]", packs);
}

std::string outputs_text(const networks::Program &program) {
    std::vector<std::string> rows;
    std::string arrays;
    for (const networks::ProgramOutput &output : program.outputs) {
        std::string offsets = "nullptr";
        if (!output.offsets.empty()) {
            offsets = "offsets" + std::to_string(rows.size());
            arrays += numbers_text("int32_t " + offsets + "[]", output.offsets);
        }
        rows.push_back(row(quoted(output.name), output.channels, output.size.height, output.size.width, offsets));
    }
    return arrays + rows_text("shufflenet_output outputs[]", rows);
}

std::string graph_text(const networks::Graph &graph) {
    std::string text = "static constexpr char graph[] =\n", line;
    for (const char ch : graph_to_text(graph)) {
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
        text += rows_text("shufflenet_kernel " + name + "[]", rows);
        target_rows.push_back(row(quoted(isa), name, target.scratch_bytes()));
    }
    return text + rows_text("shufflenet_kernels targets[]", target_rows);
}

std::string declarations_text(const Model &model) {
    std::string text;
    for (const CompiledTarget &target : model.targets) {
        for (const CompiledKernel &kernel : target.kernels) text += "kernel " + kernel.symbol + ";\n";
    }
    if (model.packed) text += "extern const float " + model.name + "_packed[];\n";
    if (model.weights) {
        text += "extern const unsigned char " + model.name + "_weights[], " + model.name + "_weights_end[];\n";
    }
    if (model.metadata) text += "extern const char " + model.name + "_metadata[];\n";
    return text;
}

}  // namespace

std::string descriptor_text(const Model &model) {
    const networks::Program &program = model.program;
    const bool has_layers = !program.packing.empty();
    const auto embedded = [&](bool there, const char *suffix) { return there ? model.name + suffix : "nullptr"; };
    const auto count = [](const auto &of) { return std::to_string(of.size()); };
    const std::string tables = shapes_text(program) + calls_text(program) +
                               numbers_text("int32_t tables[]", program.tables) + layers_text(program) +
                               outputs_text(program) + graph_text(program.graph) + kernels_text(model.targets);
    return fill(kSource, {{"name", model.name},
                          {"network", literal(model.network)},
                          {"height", std::to_string(program.graph.input.height)},
                          {"width", std::to_string(program.graph.input.width)},
                          {"classes", std::to_string(classes_of(program.graph))},
                          {"declarations", declarations_text(model)},
                          {"tables", tables},
                          {"kernels_count", count(program.kernels)},
                          {"calls_count", count(program.calls)},
                          {"image_calls", std::to_string(program.image_calls)},
                          {"arena_floats", std::to_string(program.arena_floats)},
                          {"row_floats", std::to_string(program.row_floats)},
                          {"weight_floats", std::to_string(program.weight_floats)},
                          {"tables_count", count(program.tables)},
                          {"layers", has_layers ? "layers" : "nullptr"},
                          {"packing", has_layers ? "packing" : "nullptr"},
                          {"layers_count", count(program.packing)},
                          {"outputs_count", count(program.outputs)},
                          {"targets_count", count(model.targets)},
                          {"packed", embedded(model.packed, "_packed")},
                          {"weights", embedded(model.weights, "_weights")},
                          {"weights_end", embedded(model.weights, "_weights_end")},
                          {"metadata", embedded(model.metadata, "_metadata")}});
}

}  // namespace shufflenet::compile
