// Runs one image through the kernels of a model: which kernel, with which weights, on which part of the arena.
#pragma once

#include <optional>

#include "kernel_context.h"
#include "pack.h"
#include "shufflenet/descriptor.h"
#include "shufflenet/model.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// The channels of a kernel's two outputs; the second may be empty.
using TwoParts = std::array<ChannelPart, 2>;

struct UnitParts {
    TwoParts down_branch1, down_branch2, basic;
};

/// A comparison network: its steps, where they write, and which kernel computes each.
struct ChainPlan {
    Chain chain;
    ChainArena arena;
    std::vector<int> kernels;
};

/// What is fixed when a model is opened: shapes and kernels of one instruction set.
struct Backbone {
    const shufflenet_descriptor *descriptor = nullptr;
    const shufflenet_kernels *kernels = nullptr;
    const Network *network = nullptr;
    Size input{};
    ArenaLayout arena{};
    BlockLayout stem{};
    std::array<StageShape, kStages> stages{};
    std::array<BlockLayout, kStages> blocks{};
    TwoParts stem_parts{};
    std::array<UnitParts, kStages> unit_parts{};
    int conv5_lanes = 0;
    /// Of a comparison network, which has none of network and what follows from it.
    std::optional<ChainPlan> chain;
    /// Of both, in floats: the arena, and where pooled features lie in it, how far apart and how many.
    int arena_size = 0, pooled = 0, pooled_stride = 0, pooled_channels = 0;

    /// Empty for a comparison network.
    FeatureShape feature_shape(Feature feature) const;
};

Backbone make_backbone(const shufflenet_descriptor &descriptor, const shufflenet_kernels &kernels,
                       const Network &network);
Backbone make_backbone(const shufflenet_descriptor &descriptor, const shufflenet_kernels &kernels,
                       const Comparison &comparison);

/// The passage of one image (or of a group, for the fully connected layer). Steps return false on an error of a
/// kernel, whose id failed() then names.
class ImageRun {
  public:
    ImageRun(const Backbone &backbone, const PackedWeights &weights, float *arena, KernelContext &context)
        : b_(backbone), w_(weights), arena_(arena), context_(context) {}

    /// `image`: 3 * height * width floats, CHW.
    bool stem(const float *image);
    /// `number` is 2, 3 or 4.
    bool stage(int number);
    bool unit(int number, int unit);
    /// The conv5 tensor, which pool() does not need.
    bool conv5();
    /// conv5 and global average pool, to `pooled`: conv5_lanes floats.
    bool pool(float *pooled);
    /// A step of a comparison network; `image` and `pooled` as of stem() and pool().
    bool step(int number, const float *image, float *pooled);
    /// `pooled`: `images` rows, pooled_stride apart; `logits`: `images` rows of classes.
    bool fully_connected(const float *pooled, int images, float *logits);

    const Name &failed() const { return failed_; }

  private:
    bool check(int result, const Name &id);

    const Backbone &b_;
    const PackedWeights &w_;
    float *arena_;
    KernelContext &context_;
    Name failed_;
};

/// A feature's first element in an arena.
const float *feature_data(const Backbone &backbone, const float *arena, Feature feature);
int feature_pixel_stride(const Backbone &backbone, Feature feature);

/// Copies a feature from an arena, in canonical channel order.
void copy_feature(const Backbone &backbone, const PackedWeights &weights, const float *arena, Feature feature,
                  Layout layout, float *out);

}  // namespace shufflenet
