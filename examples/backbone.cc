// A detector's backbone: backbone WEIGHTS.safetensors, which has stages 2, 3 and 4 and no classifier. Detectors attach
// their heads to the outputs of the stages, which are 8, 16 and 32 times smaller than the image.
#include <array>
#include <cstdio>
#include <vector>

#include "detector.h"
#include "shufflenet/model.h"

namespace {

constexpr int kInputFloats = 3 * DETECTOR_HEIGHT * DETECTOR_WIDTH;
constexpr std::array kStages = {"stage2", "stage3", "stage4"};

/// As much as a head would do: a look at every element.
double mean(const std::vector<float> &values) {
    double sum = 0;
    for (const float value : values) sum += value;
    return sum / static_cast<double>(values.size());
}

/// The same element through a view, which copies nothing.
float element(const shufflenet::OutputView &view, int channel, int y, int x) {
    return view.data[view.channel_offset[channel] + (y * view.shape.width + x) * view.pixel_stride];
}

shufflenet::Status run(const char *weights) {
    shufflenet::Model model;
    shufflenet::Status status = model.open(detector_descriptor, 1);
    if (status.ok()) status = model.load_weights(std::string(weights));
    if (!status.ok()) return status;

    std::array<std::vector<float>, kStages.size()> outputs;
    std::vector<shufflenet::OutputRequest> requests;
    for (size_t i = 0; i < kStages.size(); ++i) {
        outputs[i].resize(model.output_shape(kStages[i]).elements());
        requests.push_back({kStages[i], shufflenet::Layout::kNHWC, outputs[i]});
    }
    // The picture: grey that rises from the left.
    std::vector<float> image(kInputFloats);
    for (int i = 0; i < kInputFloats; ++i) image[i] = static_cast<float>(i % DETECTOR_WIDTH) / DETECTOR_WIDTH;
    status = model.run(image, 1, requests);

    for (size_t i = 0; i < kStages.size() && status.ok(); ++i) {
        const auto [channels, height, width] = model.output_shape(kStages[i]);
        shufflenet::OutputView view;
        status = model.view(kStages[i], &view);
        if (!status.ok()) break;
        const bool same = element(view, channels - 1, height - 1, width - 1) == outputs[i].back();
        std::printf("%s: %dx%dx%d, mean %.6f, view %s\n", kStages[i], height, width, channels, mean(outputs[i]),
                    same ? "agrees" : "DIFFERS");
    }
    return status;
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 2) return std::fprintf(stderr, "usage: backbone WEIGHTS.safetensors\n"), 2;
    const shufflenet::Status status = run(argv[1]);
    if (status.ok()) return 0;
    std::fprintf(stderr, "backbone: error: %s\n", status.message().c_str());
    return 1;
}
