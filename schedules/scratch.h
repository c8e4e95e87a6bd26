// The memory that a kernel asks the runtime for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "generators/halide_compat.h"

namespace shufflenet::schedules {

/// A lowering pass, last of all, that finds how much memory one thread has allocated at most at a time: in the deepest
/// nest of allocations, because a parallel loop's body may run on the thread that started it. What Halide puts on the
/// stack counts as well.
class ScratchBytes : public Halide::Internal::IRMutator {
  public:
    int64_t bytes() const { return most_; }

  private:
    using IRMutator::visit;
    Halide::Internal::Stmt visit(const Halide::Internal::Allocate *memory) override;
    Halide::Internal::Stmt visit(const Halide::Internal::For *loop) override;
    Halide::Internal::Stmt visit(const Halide::Internal::LetStmt *let) override;

    /// What surrounds a statement: a loop, or the value of a variable.
    struct Scope {
        std::string name;
        Halide::Expr value;        ///< Undefined: it is a loop,
        Halide::Expr min, extent;  ///< from here.
    };
    /// The greatest value of `size` in all iterations of the loops around it.
    /// Throws std::runtime_error where it depends on anything else.
    int64_t greatest(const Halide::Expr &size, const std::string &name) const;

    std::vector<Scope> scopes_;
    int64_t live_ = 0, most_ = 0;
};

}  // namespace shufflenet::schedules
