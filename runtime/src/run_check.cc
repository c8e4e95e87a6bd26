#include "run_check.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

std::string count_mismatch(const char *what, size_t expected, size_t found) {
    return std::string(what) + ": expected " + std::to_string(expected) + " floats, found " + std::to_string(found);
}

}  // namespace

FeatureShape feature_shape(const Network &network, const std::array<StageShape, kStages> &stages, Feature feature) {
    if (feature == Feature::kConv5) {
        const Size size = stages.back().out;
        return {network.conv5_channels, size.height, size.width};
    }
    const StageShape &s = stages[static_cast<int>(feature)];
    return {2 * s.branch_channels, s.out.height, s.out.width};
}

Status check_run(const RunShape &model, size_t input, int batch, size_t logits,
                 std::span<const FeatureRequest> features) {
    if (model.weights == nullptr) {
        return {Code::kBadInput, std::string(model.name) + ": run() before weights were loaded"};
    }
    if (batch < 1) return {Code::kBadInput, "batch: expected at least 1, found " + std::to_string(batch)};
    const auto images = static_cast<size_t>(batch);
    const size_t image = size_t(3) * model.input.pixels();
    if (input != images * image) return {Code::kBadInput, count_mismatch("input", images * image, input)};
    const size_t classes = model.weights->classes;
    if (logits != images * classes) return {Code::kBadInput, count_mismatch("logits", images * classes, logits)};
    for (const FeatureRequest &request : features) {
        const size_t elements = images * feature_shape(*model.network, *model.stages, request.feature).elements();
        if (!request.out.empty() && request.out.size() != elements) {
            return {Code::kBadInput, count_mismatch("feature", elements, request.out.size())};
        }
    }
    return {};
}

}  // namespace shufflenet
