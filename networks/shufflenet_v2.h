// ShuffleNetV2 of any width and depth. Ma, Zhang, Zheng, Sun: "ShuffleNet V2: Practical Guidelines for Efficient CNN
// Architecture Design", ECCV 2018, Table 5 and figure 3; names of weights as in torchvision.models.ShuffleNetV2.
#pragma once

#include <string>
#include <vector>

#include "graph.h"

namespace shufflenet::networks {

struct ShuffleNetV2 {
    /// Units of each stage, the downsampling unit included. Stages are numbered from 2, as in the paper.
    std::vector<int> units;
    /// Output channels of the stem, then of each stage; those are even, each branch has half of them.
    std::vector<int> channels;
    /// Output channels of conv5; 0: there is no conv5.
    int conv5 = 0;
    /// Outputs of the fully connected layer; 0: there is none.
    int classes = 0;
    /// Of all convolutions but the depthwise ones.
    Activation activation = kRelu;
    /// Of the stem's max-pool.
    Size pool_stride{2, 2};
    /// What a run returns: "stage2", "stage3", …, "conv5", "logits"; none: the last that there is.
    std::vector<std::string> outputs{};
};

/// Throws std::invalid_argument, naming the member, what was expected and what was found.
Graph shufflenet_v2(const ShuffleNetV2 &network, Size input);

/// Multiply-adds as the paper counts them. The authors' own downsampling unit in stage 2 keeps the stem's channels in
/// branch 1 and gives branch 2 the other C - stem; torchvision (and this project) gives each C/2, which is
/// (C/2 - stem)^2 multiply-adds a pixel less. Later stages are the same in both.
int64_t paper_flops(const Graph &graph);

}  // namespace shufflenet::networks
