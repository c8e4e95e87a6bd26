#include "scratch.h"

#include <algorithm>
#include <stdexcept>

#include "networks/panels.h"

namespace shufflenet::schedules {

using namespace Halide::Internal;
using Halide::Expr;
using Halide::MemoryType;

int64_t ScratchBytes::bound(const Expr &size, const std::string &name) const {
    const Expr most = find_constant_bound(size, Direction::Upper, scope_);
    const int64_t *value = most.defined() ? as_const_int(most) : nullptr;
    if (value == nullptr) throw std::runtime_error("no bound for the memory of " + name);
    return *value;
}

Stmt ScratchBytes::visit(const Allocate *memory) {
    const bool heap = memory->memory_type == MemoryType::Auto || memory->memory_type == MemoryType::Heap;
    int64_t bytes = 0;
    if (heap && !is_const_zero(memory->condition)) {
        bytes = memory->type.bytes();
        for (const Expr &extent : memory->extents) bytes *= std::max<int64_t>(0, bound(extent, memory->name));
        // As the runtime's allocator has it: a line for its own data, another one because a vector may be read beyond
        // the end, and a whole number of them. One more is what Halide may ask for beyond the extents.
        constexpr int64_t kLine = sizeof(float) * kLineFloats;
        bytes = (bytes + 4 * kLine - 1) / kLine * kLine;
    }
    live_ += bytes;
    most_ = std::max(most_, live_);
    Stmt result = IRMutator::visit(memory);
    live_ -= bytes;
    return result;
}

Stmt ScratchBytes::visit(const For *loop) {
    const Interval min = bounds_of_expr_in_scope(loop->min, scope_);
    const Interval max = bounds_of_expr_in_scope(loop->min + loop->extent - 1, scope_);
    const ScopedBinding<Interval> bind(scope_, loop->name, {min.min, max.max});
    return IRMutator::visit(loop);
}

Stmt ScratchBytes::visit(const LetStmt *let) {
    const ScopedBinding<Interval> bind(scope_, let->name, bounds_of_expr_in_scope(let->value, scope_));
    return IRMutator::visit(let);
}

}  // namespace shufflenet::schedules
