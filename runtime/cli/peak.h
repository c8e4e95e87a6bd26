// What a machine could do at most: the yardstick for a run's speed.
#pragma once

#include <string>

namespace shufflenet {

/// Multiply-add peak of `threads` threads at once, in GFLOP/s (two for a multiply-add), measured in about 20 ms.
/// `isa`: sse41 (a multiplication and an addition), avx2, avx512 or neon (fused); 0 where this CPU does not have it.
double fma_peak_gflops(const std::string &isa, int threads);

}  // namespace shufflenet
