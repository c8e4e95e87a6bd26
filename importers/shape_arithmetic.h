// The arithmetic with which exported graphs compute the shapes of their Reshapes and the bounds of their Slices.
#pragma once

#include "moves.h"

namespace shufflenet::imports {

bool is_shape_arithmetic(const std::string &op);

/// Runs such a node on constants. Throws Refusal, also where integers would overflow.
Value run_shape_arithmetic(const Node &node, const Inputs &inputs);

}  // namespace shufflenet::imports
