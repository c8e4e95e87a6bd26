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

namespace {

template <typename T>
void load_weights(T &model, const shufflenet_descriptor &descriptor, const std::optional<std::string> &weights) {
    if (!weights && descriptor.weights == nullptr) {
        throw Error(std::string(descriptor.name) +
                    ": no weights are embedded: give a file, --weights FILE.safetensors");
    }
    check(weights ? model.load_weights(*weights) : model.load_embedded_weights());
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

std::string size_text(int height, int width) { return std::to_string(height) + "x" + std::to_string(width); }

}  // namespace shufflenet::cli
