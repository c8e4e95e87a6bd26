#include "emit_header.h"

#include <set>

#include "text.h"

namespace shufflenet::compile {

namespace {

constexpr std::string_view kHeader = R"(/** @AT@file
 * @name@: @network@ at @height@x@width@, made by shufflenet_compile. Plain C; C++ programs can also use
 * shufflenet/model.h with @name@_descriptor. Link with lib@name@.a @link_options@. */
#ifndef SHUFFLENET_MODEL_@NAME@_H
#define SHUFFLENET_MODEL_@NAME@_H

/** Height of the input, in pixels. */
#define @NAME@_HEIGHT @height@
/** Width of the input, in pixels. */
#define @NAME@_WIDTH @width@
@classes@/** Memory of activations and scratch that one thread takes, in bytes. */
#define @NAME@_ARENA_BYTES @arena_bytes@
/** Weight file that was given at build time, beside the library; empty: none, or embedded. */
#define @NAME@_WEIGHTS_FILE "@weights_file@"
/** Values that a run returns. */
#define @NAME@_OUTPUTS @outputs@
@output_macros@
#ifdef __cplusplus
extern "C" {
#endif

/** For shufflenet/model.h. */
extern const struct shufflenet_descriptor @name@_descriptor;

/** One runnable model. Used by one thread at a time; @name@_share() makes another one for a second thread. */
typedef struct @name@_model @name@_model;

/** Opens the model with `threads` threads (1 to 256, the caller's included; 0: as many as the CPUs that the process may
 * use) and weights from a safetensors file, or with the embedded weights if `weights_path` is NULL. Returns 0 and sets
 * *model; otherwise returns a code other than 0, sets *model to NULL and writes a one-line message to `error`,
 * `error_size` bytes (may be NULL, 0). */
int @name@_open(@name@_model **model, const char *weights_path, int threads, char *error, int error_size);

/** A second model on the same weights, with an arena and threads of its own. As @name@_open(). */
int @name@_share(const @name@_model *model, @name@_model **other, int threads, char *error, int error_size);

/** input: batch x @image_channels@ x @height@ x @width@ floats, normalised; out: of every image the first output,
 * @first_output@. Returns 0, or a code other than 0, after which @name@_error() has the message. */
int @name@_run(@name@_model *model, const float *input, int batch, float *out);

/** As @name@_run(), with all outputs: outputs[i] receives output i of every image; NULL: it is not wanted. */
int @name@_run_outputs(@name@_model *model, const float *input, int batch, float *const *outputs);

/** Number of classes of the loaded weights; 0: the model has no last linear layer. */
int @name@_classes(const @name@_model *model);

/** Instruction set in use: @isas@. */
const char *@name@_isa(const @name@_model *model);

/** Message of the last run that failed; empty before. */
const char *@name@_error(const @name@_model *model);

/** Frees the model; NULL is ignored. */
void @name@_close(@name@_model *model);

#ifdef __cplusplus
}
#endif

#endif
)";

constexpr std::string_view kClasses =
    R"(/** Classes that it was built for; loaded weights may have another count: see @name@_classes(). */
#define @NAME@_CLASSES @value@
)";

constexpr std::string_view kOutput = R"(/** Number of the output "@output@". */
#define @NAME@_OUTPUT_@OUTPUT@ @index@
/** Floats of one image's: @shape@. */
#define @NAME@_OUTPUT_@OUTPUT@_ELEMENTS @elements@
)";

std::string shape_text(const networks::ProgramOutput &output) {
    return std::to_string(output.channels) + " x " + std::to_string(output.size.height) + " x " +
           std::to_string(output.size.width);
}

/// Within a comment.
std::string comment(std::string text) {
    for (size_t at = text.find("*/"); at != std::string::npos; at = text.find("*/", at)) text[at] = '?';
    return text;
}

std::string output_macros(const Model &model, const std::string &upper) {
    std::string text;
    std::set<std::string> taken;
    const std::vector<networks::ProgramOutput> &outputs = model.program().outputs;
    for (size_t i = 0; i < outputs.size(); ++i) {
        std::string macro = macro_name(outputs[i].name);
        // Names of an ONNX file may differ in what no macro has.
        if (!taken.insert(macro).second) taken.insert(macro += "_" + std::to_string(i));
        text += fill(kOutput, {{"NAME", upper},
                               {"OUTPUT", macro},
                               {"output", comment(literal(outputs[i].name))},
                               {"index", std::to_string(i)},
                               {"shape", shape_text(outputs[i])},
                               {"elements", std::to_string(int64_t{outputs[i].channels} * outputs[i].size.pixels())}});
    }
    return text;
}

std::string isas(const Model &model) {
    std::string text;
    for (const CompiledTarget &target : model.targets) {
        text += (text.empty() ? "\"" : ", \"") + std::string(target.target->name) + "\"";
    }
    return text;
}

}  // namespace

std::string header_text(const Model &model) {
    const networks::Graph &graph = model.program().graph;
    const std::string upper = macro_name(model.name);
    const int classes = classes_of(graph);
    const std::string classes_macro =
        fill(kClasses, {{"name", model.name}, {"NAME", upper}, {"value", std::to_string(classes)}});
    return fill(kHeader,
                {{"AT", "@"},
                 {"name", model.name},
                 {"NAME", upper},
                 {"network", model.network},
                 {"height", std::to_string(graph.input.height)},
                 {"width", std::to_string(graph.input.width)},
                 {"image_channels", std::to_string(graph.image_channels)},
                 {"classes", classes > 0 ? classes_macro : ""},
                 {"arena_bytes", std::to_string(arena_bytes(model.program(), model.targets))},
                 {"weights_file", literal(model.weights_file)},
                 {"outputs", std::to_string(model.program().outputs.size())},
                 {"output_macros", output_macros(model, upper)},
                 {"first_output", shape_text(model.program().outputs.front()) + " floats (channels, rows, columns)"},
                 {"link_options", SHUFFLENET_LINK_OPTIONS},
                 {"isas", isas(model)}});
}

}  // namespace shufflenet::compile
