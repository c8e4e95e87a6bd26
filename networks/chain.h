// Networks that are a chain of units: the form that all comparison networks have in common.
//
// A chain is a list of steps, each one kernel: a stem, units, pools and a head, from one tensor to the next. A unit is
// [1x1 convolution], 3x3 depthwise convolution, 1x1 convolution, which covers MobileNetV1's separable convolution,
// MobileNetV2's inverted residual and ShuffleNetV1's unit. Layers, cost, weight names, packing, kernels and the
// reference all follow from the steps.
#pragma once

#include "layers.h"

namespace shufflenet::inline SHUFFLENET_ABI {

enum class Activation { kNone, kRelu, kRelu6 };

/// What a unit does with its input beside convolving it.
enum class Shortcut {
    kNone,
    kAdd,    ///< Adds it, before the last activation.
    kConcat  ///< Puts its 3x3 stride-2 average before its own channels. A step of its own computes that.
};

enum class StepKind {
    kStem,         ///< 3x3 stride-2 convolution of the image, with or without a 3x3 stride-2 max-pool.
    kAveragePool,  ///< 3x3 stride-2 average, the padding counted (torch.nn.AvgPool2d(3, 2, 1)).
    kUnit,
    kHead  ///< [1x1 convolution], global average pool.
};

/// A convolution's names in weight files: torch modules, e.g. "features.1.conv.0.0" and "features.1.conv.0.1".
struct Module {
    Name conv, norm;
    constexpr bool operator==(const Module &) const { return true; }
};

struct Step {
    StepKind kind{};
    Size in{}, out{};
    int in_channels = 0;
    /// Channels of the output tensor, a concatenated shortcut's included.
    int out_channels = 0;
    int stride = 1;
    /// The max-pool of a stem.
    bool pool = false;
    /// Channels of the first 1x1 convolution; 0: there is none. Of a head: of its convolution.
    int expanded = 0;
    /// Groups of the first and of the last 1x1 convolution.
    int expand_groups = 1, project_groups = 1;
    /// Groups of the channel shuffle before the last 1x1 convolution: channel i becomes channel
    /// i % shuffle * (expanded / shuffle) + i / shuffle, as in the authors' code (the inverse of ShuffleNetV2's).
    int shuffle = 1;
    Activation expand_activation{}, depthwise_activation{}, activation{};
    Shortcut shortcut{};
    Module expand{}, depthwise{}, project{};

    /// Channels that the last convolution computes.
    constexpr int projected() const { return out_channels - (shortcut == Shortcut::kConcat ? in_channels : 0); }
    /// Channels of the depthwise convolution.
    constexpr int middle() const { return expanded > 0 ? expanded : in_channels; }
    /// Whether one kernel computes both; names of weights do not matter.
    constexpr bool operator==(const Step &) const = default;
};

struct Chain {
    std::vector<Step> steps;
    Name fully_connected;
    bool fully_connected_bias = true;

    /// Inputs of the fully connected layer.
    constexpr int features() const { return steps.back().out_channels; }
    /// Adds a step after the last; what follows from that one is filled in.
    constexpr void add(Step step) {
        step.in = steps.back().out;
        step.in_channels = steps.back().out_channels;
        // A concatenated shortcut's average is the step before, and starts from the same tensor.
        if (step.shortcut == Shortcut::kConcat) {
            Step average{.kind = StepKind::kAveragePool, .stride = 2};
            average.in = step.in;
            average.out = halved(step.in);
            average.in_channels = average.out_channels = step.in_channels;
            steps.push_back(average);
        }
        step.out = step.kind == StepKind::kHead ? Size{1, 1} : step.stride == 2 ? halved(step.in) : step.in;
        steps.push_back(step);
    }
    constexpr void add_stem(Size input, int channels, bool pool, Activation activation, const Module &module) {
        Step stem{.kind = StepKind::kStem, .stride = 2, .pool = pool, .activation = activation, .project = module};
        stem.in = input;
        stem.out = pool ? halved(halved(input)) : halved(input);
        stem.in_channels = 3;
        stem.out_channels = channels;
        steps.push_back(stem);
    }
};

/// The number of each step's kernel: equal steps share one. Numbers count up in the order of the steps.
constexpr std::vector<int> step_kernels(const Chain &chain) {
    std::vector<int> kernels;
    int count = 0;
    for (size_t i = 0; i < chain.steps.size(); ++i) {
        size_t same = 0;
        while (chain.steps[same] != chain.steps[i]) ++same;
        kernels.push_back(same < i ? kernels[same] : count++);
    }
    return kernels;
}

constexpr int kernel_count(const Chain &chain) {
    int count = 0;
    for (const int kernel : step_kernels(chain)) count = std::max(count, kernel + 1);
    return count;
}

namespace detail {

constexpr void add_layers(std::vector<Layer> &layers, const Step &s, const Name &id) {
    using enum LayerKind;
    const auto convolution = [&](LayerKind kind, const char *name, const Module &module, int from, int to, Size in,
                                 Size out, Activation activation, int groups) {
        layers.push_back({kind, id + name, module.conv, module.norm, from, to, in, out, activation != Activation::kNone,
                          groups, true});
    };
    const int c = s.middle();
    switch (s.kind) {
    case StepKind::kStem:
        convolution(kConv, "conv", s.project, 3, s.out_channels, s.in, halved(s.in), s.activation, 1);
        if (s.pool) {
            layers.push_back({kMaxPool, id + "pool", "", "", s.out_channels, s.out_channels, halved(s.in), s.out});
        }
        break;
    case StepKind::kAveragePool:
        layers.push_back({kAveragePool, id + "shortcut", "", "", s.in_channels, s.in_channels, s.in, s.out});
        break;
    case StepKind::kUnit:
        if (s.expanded > 0) {
            convolution(kPointwise, "pw1", s.expand, s.in_channels, c, s.in, s.in, s.expand_activation,
                        s.expand_groups);
        }
        convolution(kDepthwise, "dw", s.depthwise, c, c, s.in, s.out, s.depthwise_activation, 1);
        convolution(kPointwise, "pw2", s.project, c, s.projected(), s.out, s.out, s.activation, s.project_groups);
        break;
    case StepKind::kHead:
        if (s.expanded > 0) {
            convolution(kPointwise, "conv", s.expand, s.in_channels, c, s.in, s.in, s.expand_activation, 1);
        }
        layers.push_back({kGlobalPool, id + "pool", "", "", c, c, s.in, s.out});
        break;
    }
}

}  // namespace detail

/// All layers in order of execution.
constexpr std::vector<Layer> chain_layers(const Chain &chain, int classes) {
    std::vector<Layer> layers;
    int units = 0;
    for (const Step &step : chain.steps) {
        Name id = step.kind == StepKind::kStem   ? "stem_"
                  : step.kind == StepKind::kHead ? "head_"
                                                 : Name("unit") + units;
        if (step.kind == StepKind::kUnit || step.kind == StepKind::kAveragePool) id += "_";
        detail::add_layers(layers, step, id);
        if (step.kind == StepKind::kUnit) ++units;
    }
    layers.push_back({LayerKind::kFullyConnected,
                      "fc",
                      chain.fully_connected,
                      "",
                      chain.features(),
                      classes,
                      {1, 1},
                      {1, 1},
                      false,
                      1,
                      chain.fully_connected_bias});
    return layers;
}

}  // namespace shufflenet
