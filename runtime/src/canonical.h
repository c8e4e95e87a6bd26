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
    std::vector<Tensor> tensors;                   ///< Views of the file, or of `converted`.
    std::deque<std::vector<std::byte>> converted;  ///< A deque, so that growing moves nothing.
};

/// The tensors of a state_dict that are weights (PyTorch also counts training batches), converted from F32 to F16,
/// rounded to nearest even, or back. Error: a value that is too large for F16. On error `out` is unchanged.
Status canonical_weights(const Safetensors &file, const std::string &file_name, Precision precision,
                         CanonicalWeights *out);

}  // namespace shufflenet
