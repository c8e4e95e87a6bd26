// Weight files in the form that this project writes: the weights alone, in one precision.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "safetensors.h"
#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

enum class Precision { kAsItIs, kHalf, kSingle };

struct CanonicalWeights {
    std::vector<Tensor> tensors;              ///< Views of a file in memory, or of `made`.
    std::deque<std::vector<std::byte>> made;  ///< A deque, so that growing moves nothing.
};

/// The tensors of a state_dict that are weights (PyTorch also counts what training did), without the prefix of their
/// names (see StateDict). F32 and F16 stay, or become the other, rounded to nearest even; the other types become one of
/// them, F32 if any will do. Error: a value that is too large. On error `out` is unchanged.
Status canonical_weights(const Safetensors &file, const std::string &file_name, const std::string &prefix,
                         Precision precision, CanonicalWeights *out);

}  // namespace shufflenet::inline SHUFFLENET_ABI
