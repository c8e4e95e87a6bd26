#include "prefetch.h"

namespace shufflenet::schedules {

using Halide::Expr;
using Halide::max;
using namespace Halide::Internal;

Stmt SpreadPrefetches::visit(const For *loop) {
    // The loops over tiles of pixels, as cpu.cpp names them, and over the lines of a prefetch, as Halide does.
    if (ends_with(loop->name, ".po")) {
        const Expr before = tile_, tiles_before = tiles_;
        tile_ = Variable::make(Halide::Int(32), loop->name) - loop->min;
        tiles_ = loop->extent;
        Stmt mutated = IRMutator::visit(loop);
        tile_ = before;
        tiles_ = tiles_before;
        return mutated;
    }
    if (tile_.defined() && starts_with(loop->name, "prefetch_split_")) {
        // Its arguments: buffer, index of the first element, lines, elements from line to line.
        const auto *ask = loop->body.as<Evaluate>();
        const auto *prefetch = ask == nullptr ? nullptr : ask->value.as<Call>();
        if (prefetch == nullptr || !prefetch->is_intrinsic(Call::prefetch)) return loop;
        std::vector<Expr> arguments = prefetch->args;
        arguments.at(1) = substitute(loop->name, loop->min, arguments.at(1)) +
                          tile_ * loop->extent / max(tiles_ - 1, 1) * arguments.at(3);
        return simplify(Evaluate::make(Call::make(prefetch->type, Call::prefetch, arguments, prefetch->call_type)));
    }
    return IRMutator::visit(loop);
}

}  // namespace shufflenet::schedules
