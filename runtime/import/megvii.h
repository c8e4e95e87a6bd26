// Weights with the names of Megvii's own ShuffleNetV2 (github.com/megvii-model/ShuffleNet-Series, ShuffleNetV2/).
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "networks/network.h"
#include "runtime/src/safetensors.h"
#include "shufflenet/status.h"

namespace shufflenet {

/// Whether the tensors are named as Megvii's are, also behind a prefix as the "module." of torch.nn.DataParallel.
bool has_megvii_names(const Safetensors &file);

/// Puts them into torchvision's names and channel order, as a safetensors file in single precision. Its x0.5 only; the
/// others split the channels of stage 2 otherwise and are refused with that reason. `network`: the one it must be of;
/// nullptr: found by its last convolution. On an error `out` is unchanged.
Status read_megvii(const Safetensors &file, const std::string &file_name, const Network *network,
                   std::vector<std::byte> *out);

}  // namespace shufflenet
