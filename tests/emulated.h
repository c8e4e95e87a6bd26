// What tests leave out where an emulator runs them, about a hundred times slower.
#pragma once

#include "model_graph.h"

namespace shufflenet {

#ifdef SHUFFLENET_EMULATED
inline constexpr bool kEmulated = true;
#else
inline constexpr bool kEmulated = false;
#endif

/// Whether a model takes too long here to be run more than once; smaller ones go through every test.
inline bool runs_once(const shufflenet_descriptor &d) {
    constexpr int64_t kMultiplyAdds = 20'000'000;
    return kEmulated && total_cost(graph_of(d)).flops > kMultiplyAdds;
}

}  // namespace shufflenet
