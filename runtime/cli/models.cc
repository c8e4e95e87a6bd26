#include "models/compiled_models.h"

#include "commands.h"
#include "error.h"

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

Model open_model(const shufflenet_descriptor &descriptor, const std::optional<std::string> &weights, int threads) {
    if (!weights && descriptor.weights == nullptr) {
        throw Error(std::string(descriptor.name) +
                    ": no weights are embedded: give a file, --weights FILE.safetensors");
    }
    Model model;
    check(model.open(descriptor, threads));
    check(weights ? model.load_weights(*weights) : model.load_embedded_weights());
    return model;
}

std::string size_text(int height, int width) { return std::to_string(height) + "x" + std::to_string(width); }

}  // namespace shufflenet::cli
