// ONNX operators that move elements and compute nothing: Reshape, Transpose, Slice, Concat and their like.
#pragma once

#include <vector>

#include "trace.h"

namespace shufflenet::imports {

/// Inputs of a node; nullptr where an optional one is left out.
using Inputs = std::vector<ValuePtr>;

/// Whether this room knows the operator as one that moves.
bool is_move(const std::string &op);

/// Runs such a node; its outputs. `opset` decides whether axes and sizes are attributes or inputs. Throws Refusal.
std::vector<Value> run_move(const Node &node, int64_t opset, const Inputs &inputs);

/// Input `i` of a node. Throws Refusal if it is left out, or not what it should be.
const Value &input_value(const Inputs &inputs, size_t i);
const Array<int64_t> &integers_of(const Inputs &inputs, size_t i);
const Array<float> &floats_of(const Inputs &inputs, size_t i);

Dims dims_of(const Value &value);

}  // namespace shufflenet::imports
