// From a network whose channels are in any order to torchvision's names and order.
//
// torchvision shuffles at the end of a unit, Megvii's repository at the start of the next, with another permutation:
// concat(x1, branch(x2)), of which the even channels are kept and the odd ones processed. Both are the same network up
// to the order in which branches number their outputs. What matters of an output is its residence time, the number of
// units until a branch reads it (networks/stage_plan.h): in either order equally many outputs of every branch wait one
// unit, two, three and so on. (In torchvision's an output at p of a branch of c waits k units or longer if
// 2^(k-1) (2p + 1) < c; in Megvii's, one at q, if 2^(k-1) divides (c + q) / 2, which lies in [c/2, c). Halving the
// multiples of 2^(k-1) in [c/2, c) until an odd factor is left pairs the two sets.) So outputs are renumbered: the i-th
// that waits k units is torchvision's i-th that waits k units. Weights move with them, and nothing is computed anew.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "array.h"
#include "networks/layers.h"

namespace shufflenet::imports {

/// The network's input, where a layer is asked for.
inline constexpr int kImage = -1;

/// Batch normalisation's parameters, one of each for every channel.
struct Norm {
    std::vector<float> gamma, beta, mean, variance;
    double epsilon = 0;
};

/// An output channel of a row of network_layers(); row kImage: of the network's input.
struct SourceChannel {
    int row, channel;
    bool relu;  ///< Whether a ReLU was applied to it.
    bool operator==(const SourceChannel &) const = default;
};

/// A row of network_layers() as a file has it. Pools have inputs only.
struct SourceLayer {
    std::string name;                            ///< For messages.
    std::vector<SourceChannel> inputs;           ///< What the weights' input channels are, in the file's order.
    std::shared_ptr<const Array<float>> weight;  ///< (out, in / groups, ky, kx) or (out, in)
    std::vector<float> bias;                     ///< Empty: none.
    std::optional<Norm> norm;
};

struct StateTensor {
    std::string name;
    Dims dims;
    std::vector<float> values;
};

/// canonical[row][channel]: torchvision's number of a channel of the file; -1: not in this tensor.
using Places = std::vector<std::vector<int>>;

struct Canonical {
    int classes = 0;
    std::vector<StateTensor> tensors;  ///< torchvision's state_dict.
    bool same_order = true;            ///< The file's channels are in torchvision's order already.
    std::vector<Places> features;      ///< Of the outputs of stages 2, 3, 4 and of conv5.
};

/// Checks that the layers are the network, whatever their channels' order, and puts them into torchvision's.
///
/// Where batch normalisation is folded into a convolution already, its tensors are gamma = 1, beta = the bias, mean = 0
/// and variance = 1 - epsilon as a float: folding them scales weights by 1 / sqrt(variance + epsilon), which is within
/// 7e-9 of 1, less than half a unit in the last place of a float, so that every weight comes out as the same float.
/// (Written as F16 the variance is rounded to 1 and weights come out 5e-6 smaller, a hundredth of F16's own rounding.)
/// An epsilon other than torchvision's goes into gamma, the bias of a convolution before its norm into the mean.
///
/// Throws a Refusal that names the layer.
Canonical canonical_form(const Network &network, std::span<const SourceLayer> layers);

/// A state_dict as the bytes of a safetensors file, F32.
std::vector<std::byte> to_safetensors(std::span<const StateTensor> state);

/// The layers' inputs in Megvii's order. One element per row of network_layers().
std::vector<std::vector<SourceChannel>> megvii_inputs(const Network &network);

}  // namespace shufflenet::imports
