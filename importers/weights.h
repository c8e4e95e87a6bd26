// Weights of a file as torchvision's state_dict of the network: its names, its channels' order.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "channel_map.h"

namespace shufflenet::imports {

struct StateTensor {
    std::string name;
    Dims dims;
    std::vector<float> values;
};

/// Throws a Refusal that names the first layer whose weights have another shape than the network's.
void check_shapes(std::span<const FileLayer> files, const networks::Graph &network);

/// What check_shapes() has checked, renumbered.
///
/// Where batch normalisation is folded into a convolution already, its tensors are gamma = 1, beta = the bias, mean = 0
/// and variance = 1 - epsilon as a float: folding them scales weights by 1 / sqrt(variance + epsilon), which is within
/// 7e-9 of 1, less than half a unit in the last place of a float, so that every weight comes out as the same float.
/// (Written as F16 the variance is rounded to 1 and weights come out 5e-6 smaller, a hundredth of F16's own rounding.)
/// An epsilon other than torchvision's goes into gamma, the bias of a convolution before its norm into the mean.
std::vector<StateTensor> state_dict(std::span<const FileLayer> files, const ChannelMap &map,
                                    const networks::Graph &network);

/// The same as the bytes of a safetensors file, F32.
std::vector<std::byte> to_safetensors(std::span<const StateTensor> state);

}  // namespace shufflenet::imports
