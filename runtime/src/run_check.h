// What a run on any machine has in common: shapes, and the check of what run() is given.
#pragma once

#include <span>

#include "pack.h"
#include "shufflenet/model.h"

namespace shufflenet::inline SHUFFLENET_ABI {

FeatureShape feature_shape(const Network &network, const std::array<StageShape, kStages> &stages, Feature feature);

/// The model that runs; `weights` may be null.
struct RunShape {
    const char *name;
    const PackedWeights *weights;
    Size input;
    const std::array<StageShape, kStages> *stages;
    const Network *network;
};

/// `input`, `logits`: floats.
Status check_run(const RunShape &model, size_t input, int batch, size_t logits,
                 std::span<const FeatureRequest> features);

}  // namespace shufflenet
