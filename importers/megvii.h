// Megvii's own ShuffleNetV2 (github.com/megvii-model/ShuffleNet-Series, ShuffleNetV2/): its names of weights, its order
// of channels.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "networks/graph.h"
#include "runtime/src/safetensors.h"
#include "shufflenet/status.h"

namespace shufflenet {

/// Whether the tensors are named as Megvii's are, also behind a prefix as the "module." of torch.nn.DataParallel.
bool has_megvii_names(const Safetensors &file);

/// Puts them into torchvision's names and channel order, as a safetensors file in single precision. Of the published
/// ones its x0.5 only; the others split the channels of stage 2 otherwise and are refused with that reason. `network`:
/// the one it must be of; nullptr: the published one that its last convolution fits. On an error `out` is unchanged.
Status read_megvii(const Safetensors &file, const std::string &file_name, const networks::Graph *network,
                   std::vector<std::byte> *out);

/// The ShuffleNetV2 as Megvii's code orders its channels: a unit puts what it keeps before what it makes and shuffles
/// nothing, the next one keeps the even channels and processes the odd ones.
networks::Graph in_megvii_order(networks::Graph network);

}  // namespace shufflenet
