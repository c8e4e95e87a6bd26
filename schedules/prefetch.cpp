#include "prefetch.h"

#include <utility>

namespace shufflenet::schedules {

using Halide::Expr;
using Halide::max;
using namespace Halide::Internal;

Stmt SpreadPrefetches::visit(const For *loop) {
    // The loops over tiles of pixels, as cpu.cpp names them, and over the lines of a prefetch, as Halide does.
    if (ends_with(loop->name, ".po")) {
        const For *const before = std::exchange(tiles_, loop);
        Stmt mutated = IRMutator::visit(loop);
        tiles_ = before;
        return mutated;
    }
    if (!starts_with(loop->name, "prefetch_split_")) return IRMutator::visit(loop);
    // Its arguments: buffer, index of the first element, lines, elements from line to line.
    const auto *ask = loop->body.as<Evaluate>();
    const auto *prefetch = ask == nullptr ? nullptr : ask->value.as<Call>();
    if (prefetch == nullptr || !prefetch->is_intrinsic(Call::prefetch)) return loop;
    std::vector<Expr> arguments = prefetch->args;
    Expr &index = arguments.at(1);
    index = substitute(loop->name, loop->min, index);
    // A single tile has no loop.
    if (tiles_ != nullptr) {
        const Expr tile = Variable::make(Halide::Int(32), tiles_->name) - tiles_->min;
        index += tile * loop->extent / max(tiles_->extent - 1, 1) * arguments.at(3);
    }
    return simplify(Evaluate::make(Call::make(prefetch->type, Call::prefetch, arguments, prefetch->call_type)));
}

}  // namespace shufflenet::schedules
