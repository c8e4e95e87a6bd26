// Whole networks as blocks whose operations are those of a framework: what the run-time decomposition times (the
// paper's figure 2). Batch normalisation is folded; everything else is an operation of its own.
#pragma once

#include "any_network.h"
#include "guidelines.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// A block and how often a network has it.
struct CountedBlock {
    Block block;
    int count = 1;
};

/// The networks of the paper's figure 2, and ShuffleNetV2.
inline constexpr std::array<std::string_view, 3> kDecomposed = {"shufflenet_v2_x1_0", "shufflenet_v1_x1_0",
                                                                "mobilenet_v2_x1_0"};

namespace detail {

constexpr Block stem_block_of(const Name &name, int channels, bool pool, Activation activation, Size input) {
    BlockBuilder b(name + "_stem", 3, input);
    const int conv = activated(b, b.conv(0, channels, 3, false, 1, 2), activation);
    if (pool) b.pool(conv, OperationKind::kMaxPool, 2);
    return b.take();
}

constexpr Block classifier_block(const Name &name, int features, int classes) {
    BlockBuilder b(name + "_fc", features, {1, 1});
    b.conv(0, classes, 1, false);
    return b.take();
}

constexpr Block head_block_of(const Name &name, int in, int expanded, Activation activation, Size size) {
    BlockBuilder b(name + "_head", in, size);
    b.global_pool(expanded > 0 ? activated(b, b.conv(0, expanded, 1, false), activation) : 0);
    return b.take();
}

constexpr Block v2_down_unit(const Name &name, const StageShape &s) {
    BlockBuilder b(name + s.number + "_down", s.in_channels, s.in);
    const int c = s.branch_channels;
    const int one = b.relu(b.conv(b.depthwise(0, 3, 2), c, 1, false));
    const int wide = b.relu(b.conv(0, c, 1, false));
    const int two = b.relu(b.conv(b.depthwise(wide, 3, 2), c, 1, false));
    b.shuffle(b.concat({one, two}), 2);
    return b.take();
}

inline std::vector<CountedBlock> chain_blocks(const Name &name, const Chain &chain) {
    std::vector<CountedBlock> blocks;
    const std::vector<int> kernels = step_kernels(chain);
    for (size_t i = 0; i < chain.steps.size(); ++i) {
        const Step &s = chain.steps[i];
        const auto count = static_cast<int>(std::ranges::count(kernels, kernels[i]));
        if (s.kind == StepKind::kStem)
            blocks.push_back({stem_block_of(name, s.out_channels, s.pool, s.activation, s.in)});
        if (s.kind == StepKind::kHead) {
            blocks.push_back({head_block_of(name, s.in_channels, s.expanded, s.expand_activation, s.in)});
        }
        const bool first = std::ranges::find(kernels, kernels[i]) == kernels.begin() + std::ptrdiff_t(i);
        if (s.kind == StepKind::kUnit && first)
            blocks.push_back({chain_unit(name + "_" + static_cast<int>(i), s), count});
    }
    return blocks;
}

inline std::vector<CountedBlock> v2_blocks(const Name &name, const Network &n, Size input) {
    std::vector<CountedBlock> blocks = {{stem_block_of(name, n.stem_channels, true, Activation::kRelu, input)}};
    for (int number = 2; number < 2 + kStages; ++number) {
        const StageShape s = stage_shape(n, input, number);
        blocks.push_back({v2_down_unit(name, s)});
        blocks.push_back({v2_unit(2 * s.branch_channels, s.out), s.units - 1});
    }
    const Size last = head_size(n, input);
    blocks.push_back({head_block_of(name, n.stage_channels[kStages - 1], n.conv5_channels, Activation::kRelu, last)});
    return blocks;
}

}  // namespace detail

/// The blocks of a published network at the size that it is published for, with 1000 classes.
inline std::vector<CountedBlock> network_blocks(const AnyNetwork &network) {
    const Size input{network.crop(), network.crop()};
    const Name name = std::string(network.name()).c_str();
    std::vector<CountedBlock> blocks;
    int features = 0;
    if (const Comparison *comparison = network.comparison(); comparison != nullptr) {
        const Chain chain = comparison->chain(input);
        blocks = detail::chain_blocks(name, chain);
        features = chain.features();
    } else {
        blocks = detail::v2_blocks(name, *network.shufflenet_v2(), input);
        features = network.shufflenet_v2()->conv5_channels;
    }
    blocks.push_back({detail::classifier_block(name, features, kDefaultClasses)});
    return blocks;
}

}  // namespace shufflenet
