#include "shape_arithmetic.h"

#include <cmath>
#include <map>

namespace shufflenet::imports {

namespace {

[[noreturn]] void refuse_overflow() { throw Refusal("computes a number that is too large"); }

int64_t add(int64_t a, int64_t b) {
    int64_t result = 0;
    if (__builtin_add_overflow(a, b, &result)) refuse_overflow();
    return result;
}
int64_t subtract(int64_t a, int64_t b) {
    int64_t result = 0;
    if (__builtin_sub_overflow(a, b, &result)) refuse_overflow();
    return result;
}
int64_t multiply(int64_t a, int64_t b) {
    int64_t result = 0;
    if (__builtin_mul_overflow(a, b, &result)) refuse_overflow();
    return result;
}
int64_t divide(int64_t a, int64_t b) {
    if (b == 0) throw Refusal("divides by 0");
    return b == -1 ? subtract(0, a) : a / b;
}

/// What an operator does to two integers, and to two floats.
struct Arithmetic {
    int64_t (*integers)(int64_t, int64_t);
    float (*floats)(float, float);
};

const std::map<std::string, Arithmetic> &arithmetic() {
    static const std::map<std::string, Arithmetic> table = {
        {"Add", {add, [](float a, float b) { return a + b; }}},
        {"Sub", {subtract, [](float a, float b) { return a - b; }}},
        {"Mul", {multiply, [](float a, float b) { return a * b; }}},
        {"Div", {divide, [](float a, float b) { return a / b; }}},
    };
    return table;
}

/// Element by element, or each element with the only one of the other side.
template <typename T>
Value combined(const Array<T> &a, const Array<T> &b, T (*combine)(T, T)) {
    const bool one_a = a.data.size() == 1, one_b = b.data.size() == 1;
    if (a.dims != b.dims && !one_a && !one_b) {
        throw Refusal("combines shapes " + message::shape_text(a.dims) + " and " + message::shape_text(b.dims));
    }
    const bool like_a = one_a && one_b ? a.dims.size() >= b.dims.size() : one_b;
    const Array<T> &shape = like_a || a.dims == b.dims ? a : b;
    Array<T> out{shape.dims, {}};
    for (size_t i = 0; i < shape.data.size(); ++i) {
        out.data.push_back(combine(a.data[one_a ? 0 : i], b.data[one_b ? 0 : i]));
    }
    return out;
}

Value combine(const Node &node, const Inputs &inputs) {
    const Arithmetic &how = arithmetic().at(node.op());
    if (std::holds_alternative<Array<float>>(input_value(inputs, 0))) {
        return combined(floats_of(inputs, 0), floats_of(inputs, 1), how.floats);
    }
    return combined(integers_of(inputs, 0), integers_of(inputs, 1), how.integers);
}

Value to_integers(const Array<float> &in) {
    Array<int64_t> out{in.dims, {}};
    for (const float value : in.data) {
        if (!(std::fabs(value) < 0x1p62F)) refuse_overflow();
        out.data.push_back(static_cast<int64_t>(value));
    }
    return out;
}

Value to_floats(const Array<int64_t> &in) {
    Array<float> out{in.dims, {}};
    for (const int64_t value : in.data) out.data.push_back(static_cast<float>(value));
    return out;
}

Value cast(const Node &node, const Inputs &inputs) {
    const Value &value = input_value(inputs, 0);
    const auto type = static_cast<int>(node.integer("to", onnx::TensorProto::UNDEFINED));
    const auto *floats = std::get_if<Array<float>>(&value);
    switch (type) {
    case onnx::TensorProto::INT64:
    case onnx::TensorProto::INT32:
        return floats != nullptr ? to_integers(*floats) : value;
    case onnx::TensorProto::FLOAT:
        return floats != nullptr ? value : to_floats(std::get<Array<int64_t>>(value));
    default:
        throw Refusal("casts a constant to " + type_name(type) + ", expected FLOAT, INT32 or INT64");
    }
}

Value floor_of(const Inputs &inputs) {
    Array<float> out = floats_of(inputs, 0);
    for (float &value : out.data) value = std::floor(value);
    return out;
}

}  // namespace

bool is_shape_arithmetic(const std::string &op) { return op == "Cast" || op == "Floor" || arithmetic().contains(op); }

Value run_shape_arithmetic(const Node &node, const Inputs &inputs) {
    if (node.op() == "Cast") return cast(node, inputs);
    if (node.op() == "Floor") return floor_of(inputs);
    return combine(node, inputs);
}

}  // namespace shufflenet::imports
