#include "scratch.h"

#include <algorithm>
#include <functional>
#include <map>
#include <stdexcept>

#include "networks/panels.h"

namespace shufflenet::schedules {

using namespace Halide::Internal;
using Halide::Expr;
using Halide::MemoryType;

namespace {

int64_t constant(const Expr &e, const std::map<std::string, Expr> &known, const std::string &name) {
    const Expr value = simplify(substitute(known, e));
    const int64_t *number = as_const_int(value);
    if (number == nullptr) throw std::runtime_error("no bound for the memory of " + name);
    return *number;
}

}  // namespace

int64_t ScratchBytes::greatest(const Expr &size, const std::string &name) const {
    // The loops that it depends on, or that the bounds of such a loop depend on: the innermost first.
    std::vector<Scope> loops;
    Expr open = simplify(size);
    for (size_t i = scopes_.size(); i-- > 0;) {
        const Scope &scope = scopes_[i];
        const auto with_value = [&](const Expr &e) { return simplify(substitute(scope.name, scope.value, e)); };
        const auto used = [&](const Scope &loop) {
            return expr_uses_var(loop.min, scope.name) || expr_uses_var(loop.extent, scope.name);
        };
        if (scope.value.defined()) {
            open = with_value(open);
            for (Scope &loop : loops) loop.min = with_value(loop.min), loop.extent = with_value(loop.extent);
        } else if (expr_uses_var(open, scope.name) || std::ranges::any_of(loops, used)) {
            loops.push_back(scope);
        }
    }
    std::map<std::string, Expr> known;
    const std::function<int64_t(size_t)> search = [&](size_t left) {
        if (left == 0) return constant(open, known, name);
        const Scope &loop = loops[left - 1];
        const int64_t first = constant(loop.min, known, name), count = constant(loop.extent, known, name);
        int64_t most = 0;
        for (int64_t i = first; i < first + count; ++i) {
            known[loop.name] = static_cast<int>(i);
            most = std::max(most, search(left - 1));
        }
        known.erase(loop.name);
        return most;
    };
    return search(loops.size());
}

Stmt ScratchBytes::visit(const Allocate *memory) {
    const bool heap = memory->memory_type == MemoryType::Auto || memory->memory_type == MemoryType::Heap;
    int64_t bytes = 0;
    if (heap && !is_const_zero(memory->condition)) {
        Expr size = memory->type.bytes();
        for (const Expr &extent : memory->extents) size *= extent;
        // As the runtime's allocator has it: a line for its own data, another one because a vector may be read beyond
        // the end, and a whole number of them. One more is what Halide may ask for beyond the extents.
        constexpr int64_t kLine = sizeof(float) * kLineFloats;
        bytes = (greatest(size, memory->name) + 4 * kLine - 1) / kLine * kLine;
    }
    live_ += bytes;
    most_ = std::max(most_, live_);
    Stmt result = IRMutator::visit(memory);
    live_ -= bytes;
    return result;
}

Stmt ScratchBytes::visit(const For *loop) {
    scopes_.push_back({loop->name, {}, loop->min, loop->extent});
    Stmt result = IRMutator::visit(loop);
    scopes_.pop_back();
    return result;
}

Stmt ScratchBytes::visit(const LetStmt *let) {
    scopes_.push_back({let->name, let->value, {}, {}});
    Stmt result = IRMutator::visit(let);
    scopes_.pop_back();
    return result;
}

}  // namespace shufflenet::schedules
