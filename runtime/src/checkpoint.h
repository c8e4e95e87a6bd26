// A network's weights out of a safetensors file with torchvision's state_dict names, batch normalisation folded.
#pragma once

#include <string>
#include <vector>

#include "networks/network.h"
#include "safetensors.h"
#include "shufflenet/status.h"

namespace shufflenet {

/// torch.nn.BatchNorm2d's default, which torchvision's ShuffleNetV2 keeps.
inline constexpr double kBatchNormEps = 1e-5;

struct FoldedLayer {
    std::vector<double> weights;  ///< (out, in / groups, ky, kx)
    std::vector<double> bias;     ///< (out)
};

struct Checkpoint {
    int classes = 0;
    std::vector<FoldedLayer> layers;  ///< One per row of network_layers(); empty where the row has no weights.
};

/// Names every tensor that `network` needs and the file lacks, has too many, or has in another shape or type.
/// `classes` receives the file's class count.
Status check_state_dict(const Safetensors &file, const std::string &file_name, const Network &network, int *classes);

/// Checks names, shapes and values, and folds. Every folded value is finite as a float. On error `out` is unchanged.
Status read_checkpoint(const Safetensors &file, const std::string &file_name, const Network &network, Checkpoint *out);

}  // namespace shufflenet
