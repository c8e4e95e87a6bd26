// Which channel of a file's layer is which channel of the network's.
//
// torchvision shuffles at the end of a unit, Megvii's repository at the start of the next, with another permutation:
// concat(x1, branch(x2)), of which the even channels are kept and the odd ones processed. Both are the same network up
// to the order in which layers number their outputs. What matters of an output is who reads it: two outputs of a layer
// that the same layers read can change places, if those layers' weights follow. A layer that treats its input channel
// by channel hands the question on: its own output is read, at the same place.
//
// So channels are paired by their readers, the i-th of the file's with the i-th of the network's that has the same. For
// torchvision's and Megvii's units this always works out: in either order equally many outputs of every branch wait one
// unit, two, three and so on until a branch reads them. (In torchvision's an output at p of a branch of c waits k units
// or longer if 2^(k-1) (2p + 1) < c; in Megvii's, one at q, if 2^(k-1) divides (c + q) / 2, which lies in [c/2, c).
// Halving the multiples of 2^(k-1) in [c/2, c) until an odd factor is left pairs the two sets.)
#pragma once

#include <span>
#include <vector>

#include "file_layer.h"
#include "networks/graph.h"

namespace shufflenet::imports {

/// The network's numbers of a file's channels.
struct ChannelMap {
    std::vector<std::vector<int>> outputs;  ///< [layer][channel]
    std::vector<std::vector<int>> inputs;   ///< [layer][place in its first input]: the place there in the network's.
};

/// `found`: the network's layers as a file has them, in the network's order; `files`: one for each. Throws a Refusal
/// that names the layer that reads other channels than the network's.
ChannelMap map_channels(const networks::Graph &found, std::span<const FileLayer> files, const networks::Graph &network);

}  // namespace shufflenet::imports
