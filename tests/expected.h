// What a model with random weights should output: the naive double-precision network's results.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <span>
#include <vector>

#include "emulated.h"
#include "golden/golden.h"
#include "reference/random_weights.h"
#include "reference/reference.h"
#include "shufflenet/descriptor.h"
#include "shufflenet/model.h"

namespace shufflenet {

inline constexpr uint64_t kSeed = 7;
// More than four: the fully connected layer then computes four at a time, and overlaps.
inline constexpr int kImages = 5;

// Relative to the output's range. Single precision has 6e-8; sums of up to 2048 products, through up to 52 layers,
// lose about two decimal digits of it.
inline constexpr double kTolerance = 1e-5;

/// Weights, input and expected outputs of one model; made once, the instruction sets share it.
struct Expected {
    std::vector<std::byte> safetensors;
    std::vector<float> input;
    std::vector<reference::Result> results;
};

inline const Expected &expected_of(const shufflenet_descriptor &model) {
    static std::map<const shufflenet_descriptor *, Expected> cache;
    auto [entry, fresh] = cache.try_emplace(&model);
    Expected &e = entry->second;
    if (!fresh) return e;
    const Network &network = *find_network(model.network);
    const Size size{model.height, model.width};
    const int images = runs_once(model) ? 1 : kImages;
    e.safetensors = reference::random_safetensors(network, model.classes, kSeed);
    e.input = reference::random_input(size, images, kSeed);
    const auto layers = reference::fold(network, model.classes, kSeed);
    const size_t image = size_t{3} * size.pixels();
    for (int i = 0; i < images; ++i) {
        e.results.push_back(
            reference::run(network, size, model.classes, layers, std::span(e.input).subspan(i * image, image)));
    }
    return e;
}

inline double worst_error(std::span<const float> found, std::span<const double> expected) {
    EXPECT_EQ(found.size(), expected.size());
    const auto [low, high] = std::ranges::minmax(expected);
    double worst = 0;
    for (size_t i = 0; i < found.size(); ++i) {
        if (!std::isfinite(found[i])) return INFINITY;
        worst = std::max(worst, std::abs(found[i] - expected[i]));
    }
    // A network of one channel can have a constant output: then the scale is its value.
    const double range = high > low ? high - low : std::max(1e-3, std::abs(high));
    return worst / range;
}

inline const std::vector<double> &expected_feature(const reference::Result &result, Feature feature) {
    return feature == Feature::kConv5 ? result.conv5.data : result.stages[static_cast<int>(feature)].data;
}

/// Torchvision's outputs of the model's network at its size.
inline std::vector<golden::Case> golden_cases(const shufflenet_descriptor &model) {
    std::vector<golden::Case> cases = golden::load().cases;
    std::erase_if(cases, [&](const golden::Case &c) {
        return c.network->name != model.network || c.input != Size{model.height, model.width};
    });
    return cases;
}

}  // namespace shufflenet
