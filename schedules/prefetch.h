// Prefetches that a schedule cannot ask for.
#pragma once

#include "generators/halide_compat.h"

namespace shufflenet::schedules {

/// A lowering pass. Where a tile's next weights are several runs in memory, Halide asks for all lines from the first to
/// the last in every step. This leaves one line a step, which moves on with each tile of pixels: if there are as many
/// tiles as runs, all are asked for, and never more at a time than memory can deliver.
class SpreadPrefetches : public Halide::Internal::IRMutator {
    using IRMutator::visit;
    Halide::Internal::Stmt visit(const Halide::Internal::For *loop) override;

    const Halide::Internal::For *tiles_ = nullptr;  ///< The loop over tiles of pixels that we are in.
};

}  // namespace shufflenet::schedules
