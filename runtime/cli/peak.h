// What a machine could do at most: the yardstick for a run's speed.
#pragma once

#include <string>

namespace shufflenet {

/// Multiply-add peak of `threads` threads at once, in GFLOP/s (two for a multiply-add), or of as many as the process
/// has CPUs; takes about 20 ms of each one's time. `isa`: sse41 (a multiplication and an addition), or one of the
/// others (fused). Throws std::runtime_error where this CPU does not have it, or threads cannot be started.
double fma_peak_gflops(const std::string &isa, int threads);

}  // namespace shufflenet
