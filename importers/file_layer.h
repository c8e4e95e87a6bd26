// What a file says of one layer of a graph, beside what the graph says.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "array.h"

namespace shufflenet::imports {

/// Batch normalisation's parameters, one of each for every channel.
struct Norm {
    std::vector<float> gamma, beta, mean, variance;
    double epsilon = 0;
};

struct FileLayer {
    std::string name;                              ///< For messages.
    Dims pads{};                                   ///< Of a window: top, left, bottom, right.
    std::shared_ptr<const Array<float>> weight{};  ///< (out, in / groups, ky, kx) or (out, in); nullptr: none.
    std::vector<float> bias{};                     ///< Empty: none.
    std::optional<Norm> norm{};
};

}  // namespace shufflenet::imports
