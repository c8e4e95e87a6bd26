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
#include "model_graph.h"
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

/// Of a model. A weight of a classifier of 16 bits is off by 2^-16 of its class's greatest at most.
inline double tolerance_of(const shufflenet_descriptor &model) {
    const std::span shapes(model.program->shapes, size_t(model.program->kernels_count));
    const auto integers = [](const shufflenet_shape &shape) { return shape.element == SHUFFLENET_S16; };
    return std::ranges::any_of(shapes, integers) ? kTolerance + 0x1p-15 : kTolerance;
}

/// Random images for a network: large where there are ReLU6, so that they cut.
inline std::vector<float> images_for(const networks::Graph &graph, int images) {
    std::vector<float> input = reference::random_input(graph.input, images, kSeed);
    const auto cuts = [](const networks::Layer &layer) { return layer.activation == networks::kRelu6; };
    if (std::ranges::any_of(graph.layers, cuts)) {
        for (float &value : input) value *= 8;
    }
    return input;
}

/// Weights, input and expected outputs of one model; made once, the instruction sets share it.
struct Expected {
    std::vector<std::byte> safetensors;
    std::vector<float> input;
    std::vector<std::vector<reference::Tensor>> results;  ///< Of each image, its outputs in order.

    int images() const { return static_cast<int>(results.size()); }
    std::span<const float> image(int first, int count = 1) const {
        const size_t floats = input.size() / results.size();
        return std::span(input).subspan(first * floats, count * floats);
    }
};

inline const Expected &expected_of(const shufflenet_descriptor &model) {
    static std::map<const shufflenet_descriptor *, Expected> cache;
    auto [entry, fresh] = cache.try_emplace(&model);
    Expected &e = entry->second;
    if (!fresh) return e;
    const networks::Graph &graph = graph_of(model);
    e.results.resize(runs_once(model) ? 1 : kImages);
    e.safetensors = reference::random_safetensors(graph, kSeed);
    e.input = images_for(graph, e.images());
    const auto layers = reference::fold(graph, kSeed);
    for (int i = 0; i < e.images(); ++i) e.results[i] = reference::run(graph, layers, e.image(i));
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

/// A batch's outputs, in order, each [image][channel][row][column].
using Outputs = std::vector<std::vector<float>>;

/// Room for a model's outputs, and the requests that fill it: of a Model or a DeviceModel.
class OutputBuffers {
  public:
    template <typename M>
    OutputBuffers(const M &model, int batch, Layout layout = Layout::kNCHW) : infos_(model.outputs()) {
        for (const OutputInfo &info : infos_) values_.emplace_back(batch * info.shape.elements(), NAN);
        for (size_t i = 0; i < infos_.size(); ++i) requests_.push_back({infos_[i].name, layout, values_[i]});
    }
    OutputBuffers(const OutputBuffers &) = delete;
    OutputBuffers &operator=(const OutputBuffers &) = delete;
    std::span<const OutputRequest> requests() const { return requests_; }
    Outputs take() { return std::move(values_); }

  private:
    std::vector<OutputInfo> infos_;
    Outputs values_;
    std::vector<OutputRequest> requests_;
};

/// All outputs of a batch.
template <typename M>
Outputs outputs_of(M &model, std::span<const float> images, int batch, Layout layout = Layout::kNCHW) {
    OutputBuffers buffers(model, batch, layout);
    const Status status = model.run(images, batch, buffers.requests());
    EXPECT_TRUE(status.ok()) << status.message();
    return buffers.take();
}

/// The first output of a batch, alone.
template <typename M>
std::vector<float> first_output_of(M &model, std::span<const float> images, int batch) {
    std::vector<float> out(batch * model.outputs().at(0).shape.elements(), NAN);
    const Status status = model.run(images, batch, out);
    EXPECT_TRUE(status.ok()) << status.message();
    return out;
}

/// What belongs to image `i` of `batch`.
inline std::span<const float> image_of(std::span<const float> output, int i, int batch) {
    const size_t floats = output.size() / batch;
    return output.subspan(i * floats, floats);
}
inline Outputs image_of(const Outputs &outputs, int i, int batch) {
    Outputs own;
    for (const std::vector<float> &output : outputs) {
        const std::span<const float> values = image_of(std::span(output), i, batch);
        own.emplace_back(values.begin(), values.end());
    }
    return own;
}

/// Torchvision's outputs of the model's network at its size.
inline std::vector<golden::Case> golden_cases(const shufflenet_descriptor &model) {
    std::vector<golden::Case> cases = golden::load().cases;
    std::erase_if(cases, [&](const golden::Case &c) {
        return c.network != model.network || c.input != Size{model.height, model.width};
    });
    return cases;
}

}  // namespace shufflenet
