#include "program_data.h"

#include <utility>

#include "networks/graph_text.h"

namespace shufflenet::compile {

namespace {

using networks::Destination;
using networks::KernelKind;
using networks::LayerKind;

shufflenet_source source_of(KernelKind kind) {
    if (kind == KernelKind::kStem) return SHUFFLENET_IMAGE;
    return kind == KernelKind::kLinear ? SHUFFLENET_ROWS : SHUFFLENET_ARENA;
}

shufflenet_destination destination_of(Destination destination) {
    if (destination == Destination::kRow) return SHUFFLENET_TO_ROW;
    return destination == Destination::kOutput ? SHUFFLENET_TO_OUTPUT : SHUFFLENET_TO_ARENA;
}

shufflenet_element element_of(Element element) { return element == Element::kS16 ? SHUFFLENET_S16 : SHUFFLENET_F32; }

int size_of(const auto &of) { return static_cast<int>(of.size()); }

bool counts_up(const std::vector<int> &numbers) {
    for (size_t i = 0; i < numbers.size(); ++i) {
        if (numbers[i] != static_cast<int>(i)) return false;
    }
    return true;
}

}  // namespace

ProgramData::ProgramData(networks::Program program)
    : source_(std::move(program)), graph_text_(graph_to_text(source_.graph)) {
    for (const networks::Kernel &kernel : source_.kernels) {
        shapes_.push_back({source_of(kernel.kind), table_layout(kernel).size(), weight_floats(kernel),
                           kernel.out.pixels(), kernel.planes(), kernel.groups, element_of(kernel.element)});
    }
    for (const networks::Call &call : source_.calls) {
        calls_.push_back(
            {call.id.c_str(), call.kernel, destination_of(call.destination), call.out, call.table, call.weights});
    }
    for (const networks::PackStep &step : source_.packing) add_layer(step);
    for (const networks::ProgramOutput &output : source_.outputs) {
        outputs_.push_back({output.name.c_str(), output.channels, output.size.height, output.size.width,
                            output.offsets.empty() ? nullptr : output.offsets.data()});
    }
    program_ = {.shapes = shapes_.data(),
                .kernels_count = size_of(shapes_),
                .calls = calls_.data(),
                .calls_count = size_of(calls_),
                .image_calls = source_.image_calls,
                .arena_floats = source_.arena_floats,
                .row_floats = source_.row_floats,
                .weight_floats = source_.weight_floats,
                .tables = source_.tables.data(),
                .tables_count = size_of(source_.tables),
                .layers = layers_.data(),
                .packing = packing_.data(),
                .layers_count = size_of(layers_),
                .outputs = outputs_.data(),
                .outputs_count = size_of(outputs_),
                .graph = graph_text_.c_str()};
}

void ProgramData::add_layer(const networks::PackStep &step) {
    const networks::Layer &layer = source_.graph.layers[static_cast<size_t>(step.layer)];
    layers_.push_back({layer.module.c_str(), layer.norm.c_str(), int{layer.kind == LayerKind::kLinear},
                       int{layer.norm.empty() && layer.bias}, layer.out_channels, layer.group_channels(),
                       layer.window.kernel.height, layer.window.kernel.width});
    const WeightLayout &to = step.layout;
    packing_.push_back({to.panel, to.rows, to.lanes, to.groups, to.stride, to.bias, to.weights, step.blob,
                        element_of(to.element), to.interleave, int{step.taps_last},
                        counts_up(step.lanes) ? nullptr : numbers(step.lanes), numbers(step.order),
                        size_of(step.order)});
}

/// Nothing is no pointer.
const int16_t *ProgramData::numbers(const std::vector<int> &from) {
    if (from.empty()) return nullptr;
    return numbers_.emplace_back(from.begin(), from.end()).data();
}

int classes_of(const networks::Graph &graph) {
    int classes = 0;
    for (const networks::Layer &layer : graph.layers) {
        if (layer.kind == LayerKind::kLinear) classes = layer.out_channels;
    }
    return classes;
}

}  // namespace shufflenet::compile
