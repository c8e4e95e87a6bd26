#include "models/compiled_models.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "commands.h"
#include "error.h"
#include "importers/recognise.h"
#include "networks/catalog.h"
#include "networks/graph_text.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/message.h"

namespace shufflenet::cli {

namespace {

std::string model_names() {
    std::string names;
    for (const shufflenet_descriptor *model : compiled_models())
        names += (names.empty() ? "" : ", ") + std::string(model->name);
    return names;
}

}  // namespace

const shufflenet_descriptor *find_model(const std::string &name) {
    for (const shufflenet_descriptor *model : compiled_models()) {
        if (name == model->name) return model;
    }
    return nullptr;
}

const shufflenet_descriptor &get_model(const std::string &name) {
    const shufflenet_descriptor *model = find_model(name);
    if (model == nullptr) throw Error("unknown model '" + name + "': expected one of " + model_names());
    return *model;
}

namespace {

/// A file that does not fit one model may be meant for another, which a model itself cannot know.
void check_fit(const std::string &path, const shufflenet_descriptor &descriptor) {
    Safetensors file;
    if (!Safetensors::open(path, &file).ok()) return;
    std::vector<GraphWeights> published;
    std::vector<NeededWeights> others;
    for (networks::Graph &graph : published_graphs(Family::kAll)) published.emplace_back(std::move(graph));
    for (const GraphWeights &weights : published) others.push_back(weights.needed());
    StateDict dict;
    check(check_state_dict(file, path, needed_weights(descriptor.network, *descriptor.program), &dict, others));
}

template <typename T>
void load_weights(T &model, const shufflenet_descriptor &descriptor, const std::optional<std::string> &weights) {
    if (weights) {
        const Status status = model.load_weights(*weights);
        if (status.code() == Code::kBadInput) check_fit(*weights, descriptor);
        return check(status);
    }
    if (!describe(descriptor).embedded_weights) {
        throw Error(std::string(descriptor.name) +
                    ": no weights are embedded: give a file, --weights FILE.safetensors");
    }
    check(model.load_embedded_weights());
}

}  // namespace

Model open_model(const shufflenet_descriptor &descriptor, const std::optional<std::string> &weights, int threads) {
    Model model;
    check(model.open(descriptor, threads));
    load_weights(model, descriptor, weights);
    return model;
}

DeviceModel open_device_model(const shufflenet_descriptor &descriptor, const std::optional<std::string> &weights,
                              const std::string &device, int images) {
    DeviceModel model;
    DeviceOptions options;
    options.device = device;
    options.max_batch = images;
    check(model.open(descriptor, options));
    load_weights(model, descriptor, weights);
    return model;
}

networks::Graph graph_of(const shufflenet_descriptor &descriptor, int classes) try {
    networks::Graph graph = networks::graph_from_text(descriptor.program->graph);
    if (classes_output(*descriptor.program) >= 0) set_classes(&graph, classes);
    return graph;
} catch (const std::invalid_argument &error) {
    throw Error(std::string(descriptor.name) + ": " + message::one_line(error.what()));
}

int usual_resize(const std::string &network) {
    const networks::PublishedNetwork *published = networks::find_published(network);
    return published != nullptr ? published->resize : 256;
}

std::vector<int64_t> dimensions(const shufflenet_descriptor &descriptor, const std::string &output,
                                const OutputShape &shape) {
    const std::span outputs(descriptor.program->outputs, descriptor.program->outputs_count);
    const auto found = std::ranges::find(outputs, output, &shufflenet_output::name);
    if (found != outputs.end() && found->offsets == nullptr) return {shape.channels};
    return {shape.channels, shape.height, shape.width};
}

std::string size_text(int height, int width) { return std::to_string(height) + "x" + std::to_string(width); }

}  // namespace shufflenet::cli
