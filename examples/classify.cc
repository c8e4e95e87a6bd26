// Classifies photographs in C++: classify IMAGE...
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <vector>

#include "cifar10_x0_5.h"
#include "shufflenet/image.h"
#include "shufflenet/model.h"

namespace {

// The image becomes 64 pixels high or wide, then 64x64; mean and standard deviation are ImageNet's, the default.
constexpr shufflenet::Preprocess kPreprocess{
    .resize = 64, .crop_height = CIFAR10_X0_5_HEIGHT, .crop_width = CIFAR10_X0_5_WIDTH};

std::vector<float> softmax(std::vector<float> values) {
    const float largest = *std::max_element(values.begin(), values.end());
    for (float &value : values) value = std::exp(value - largest);
    const float sum = std::accumulate(values.begin(), values.end(), 0.0F);
    for (float &value : values) value /= sum;
    return values;
}

shufflenet::Status classify(shufflenet::Model &model, const char *path) {
    shufflenet::Image image;
    std::vector<float> input(3 * CIFAR10_X0_5_HEIGHT * CIFAR10_X0_5_WIDTH), logits(model.classes());
    shufflenet::Status status = shufflenet::decode_image_file(path, &image);
    if (status.ok()) status = shufflenet::preprocess(image, kPreprocess, input);
    if (status.ok()) status = model.run(input, 1, logits);
    if (!status.ok()) return status;
    const std::vector<float> probabilities = softmax(logits);
    const auto best = std::max_element(probabilities.begin(), probabilities.end());
    std::printf("%s: class %d, %.4f\n", path, static_cast<int>(best - probabilities.begin()), *best);
    return {};
}

}  // namespace

int main(int argc, char **argv) {
    shufflenet::Model model;
    shufflenet::Status status = model.open(cifar10_x0_5_descriptor);
    if (status.ok()) status = model.load_embedded_weights();
    for (int i = 1; i < argc && status.ok(); ++i) status = classify(model, argv[i]);
    if (status.ok()) return 0;
    std::fprintf(stderr, "classify: error: %s\n", status.message().c_str());
    return 1;
}
