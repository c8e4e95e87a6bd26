// The memory that a kernel asks the runtime for.
#pragma once

#include <cstdint>

#include "generators/halide_compat.h"

namespace shufflenet::schedules {

/// A lowering pass, last of all, that finds how much memory one thread has allocated at most at a time, by a bound that
/// is a constant: in the deepest nest of allocations, because a parallel loop's body may run on the thread that started
/// it. What Halide puts on the stack counts as well.
class ScratchBytes : public Halide::Internal::IRMutator {
  public:
    int64_t bytes() const { return most_; }

  private:
    using IRMutator::visit;
    Halide::Internal::Stmt visit(const Halide::Internal::Allocate *memory) override;
    Halide::Internal::Stmt visit(const Halide::Internal::For *loop) override;
    Halide::Internal::Stmt visit(const Halide::Internal::LetStmt *let) override;
    /// The greatest value of a size. Throws std::runtime_error where there is none.
    int64_t bound(const Halide::Expr &size, const std::string &name) const;

    Halide::Internal::Scope<Halide::Internal::Interval> scope_;  ///< What is known of variables.
    int64_t live_ = 0, most_ = 0;
};

}  // namespace shufflenet::schedules
