// shufflenet run: tensors in, tensors out.
#include <algorithm>
#include <vector>

#include "commands.h"
#include "error.h"
#include "runtime/src/message.h"
#include "runtime/src/npy.h"

namespace shufflenet::cli {

namespace {

struct FeatureTensor {
    std::vector<int64_t> shape;
    std::vector<float> data;
};

FeatureTensor make_feature(const Model &model, Feature feature, int64_t batch) {
    const FeatureShape shape = model.feature_shape(feature);
    return {{batch, shape.channels, shape.height, shape.width}, std::vector<float>(batch * shape.elements())};
}

}  // namespace

Npy read_input(const std::string &path, const ModelInfo &info) {
    Npy input;
    check(read_npy(path, &input));
    const std::vector<int64_t> image = {3, info.height, info.width};
    if (input.shape.size() != 4 || input.shape[0] < 1 || !std::equal(image.begin(), image.end(), &input.shape[1])) {
        throw Error(path + ": expected shape [N, 3, " + std::to_string(info.height) + ", " +
                    std::to_string(info.width) + "] with N >= 1 for " + info.name + ", found " +
                    message::shape_text(input.shape));
    }
    return input;
}

int run(const RunOptions &options) {
    Model model = open_model(get_model(options.model), options.weights, options.threads);
    const Npy input = read_input(options.input, model.info());
    const int64_t batch = input.shape[0];
    const int64_t classes = model.classes();
    std::vector<float> logits(batch * classes);
    std::vector<FeatureTensor> features;
    std::vector<FeatureRequest> requests;
    for (const auto &[feature, path] : options.features) {
        FeatureTensor &tensor = features.emplace_back(make_feature(model, feature, batch));
        requests.push_back({feature, Layout::kNCHW, tensor.data});
    }

    check(model.run(input.data, static_cast<int>(batch), logits, requests));

    for (size_t i = 0; i < features.size(); ++i) {
        check(write_npy(options.features[i].path, features[i].shape, features[i].data));
    }
    check(write_npy(options.output, std::vector<int64_t>{batch, classes}, logits));
    return 0;
}

}  // namespace shufflenet::cli
