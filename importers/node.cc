#include "node.h"

#include <bit>
#include <cstring>

#include "runtime/src/half.h"

namespace shufflenet::imports {

namespace {

static_assert(std::endian::native == std::endian::little, "ONNX's raw_data is little-endian");

std::string quoted(const std::string &name) { return "'" + message::shortened(name) + "'"; }

/// Where the weights are, for a tensor that is not in the file.
std::string location(const onnx::TensorProto &tensor) {
    for (const auto &entry : tensor.external_data()) {
        if (entry.key() == "location") return " in " + quoted(entry.value());
    }
    return {};
}

[[noreturn]] void refuse(const onnx::TensorProto &tensor, const std::string &problem) {
    throw Refusal("tensor " + quoted(tensor.name()) + " " + problem);
}

/// Elements of the tensor, whose values are there: as many as its shape says.
size_t checked_count(const onnx::TensorProto &tensor, size_t element_bytes, int values) {
    const Dims dims(tensor.dims().begin(), tensor.dims().end());
    const std::optional<int64_t> bytes = tensor_bytes(dims, static_cast<int64_t>(element_bytes));
    if (!bytes) refuse(tensor, "has shape " + message::shape_text(dims) + ", which is negative or too large");
    const auto count = static_cast<size_t>(*bytes) / element_bytes;
    const size_t found = tensor.has_raw_data() ? tensor.raw_data().size() : static_cast<size_t>(values);
    const size_t expected = tensor.has_raw_data() ? static_cast<size_t>(*bytes) : count;
    if (found != expected) {
        refuse(tensor, "has shape " + message::shape_text(dims) + ": expected " + std::to_string(expected) +
                           (tensor.has_raw_data() ? " bytes" : " values") + ", found " + std::to_string(found));
    }
    return count;
}

void check_inside(const onnx::TensorProto &tensor) {
    if (tensor.data_location() == onnx::TensorProto::EXTERNAL || tensor.external_data_size() > 0) {
        refuse(tensor, "is stored outside of the file" + location(tensor) +
                           ": external data is not read, save the model with its weights inside");
    }
    if (tensor.has_segment()) refuse(tensor, "is stored in segments, which are not supported");
}

/// All values, from raw_data as `Raw`, or else from a field of the message.
template <typename Raw, typename T, typename Field, typename Decode>
Array<T> read_values(const onnx::TensorProto &tensor, const Field &field, Decode decode) {
    check_inside(tensor);
    const size_t count = checked_count(tensor, sizeof(Raw), field.size());
    Array<T> out{{tensor.dims().begin(), tensor.dims().end()}, {}};
    out.data.resize(count);
    for (size_t i = 0; i < count; ++i) {
        Raw value{};
        if (tensor.has_raw_data()) {
            std::memcpy(&value, tensor.raw_data().data() + i * sizeof(Raw), sizeof(Raw));
        } else {
            value = static_cast<Raw>(field.Get(static_cast<int>(i)));
        }
        out.data[i] = decode(value);
    }
    return out;
}

}  // namespace

const std::string &Node::input(int i) const {
    if (!has_input(i)) throw Refusal("lacks input " + std::to_string(i));
    return proto_.input(i);
}

std::string Node::text() const {
    const std::string kind = " (" + message::shortened(op()) + ")";
    if (!proto_.name().empty()) return "node " + quoted(proto_.name()) + kind;
    const std::string output = outputs() > 0 ? ", which makes " + quoted(proto_.output(0)) : "";
    return "node " + std::to_string(index_) + kind + output;
}

const onnx::AttributeProto *Node::find(const char *attribute) const {
    for (const onnx::AttributeProto &candidate : proto_.attribute()) {
        if (candidate.name() == attribute) return &candidate;
    }
    return nullptr;
}

const onnx::AttributeProto *Node::find(const char *attribute, onnx::AttributeProto::AttributeType type) const {
    const onnx::AttributeProto *found = find(attribute);
    if (found != nullptr && found->type() != type) {
        throw Refusal(std::string("attribute ") + attribute + " has type " +
                      onnx::AttributeProto::AttributeType_Name(found->type()) + ", expected " +
                      onnx::AttributeProto::AttributeType_Name(type));
    }
    return found;
}

int64_t Node::integer(const char *attribute, int64_t otherwise) const {
    const onnx::AttributeProto *found = find(attribute, onnx::AttributeProto::INT);
    return found != nullptr ? found->i() : otherwise;
}

double Node::real(const char *attribute, double otherwise) const {
    const onnx::AttributeProto *found = find(attribute, onnx::AttributeProto::FLOAT);
    return found != nullptr ? found->f() : otherwise;
}

std::string Node::text(const char *attribute, const std::string &otherwise) const {
    const onnx::AttributeProto *found = find(attribute, onnx::AttributeProto::STRING);
    return found != nullptr ? found->s() : otherwise;
}

Dims Node::integers(const char *attribute, const Dims &otherwise) const {
    const onnx::AttributeProto *found = find(attribute, onnx::AttributeProto::INTS);
    return found != nullptr ? Dims(found->ints().begin(), found->ints().end()) : otherwise;
}

std::vector<float> Node::reals(const char *attribute) const {
    const onnx::AttributeProto *found = find(attribute, onnx::AttributeProto::FLOATS);
    if (found == nullptr) throw Refusal(std::string("lacks attribute ") + attribute);
    return {found->floats().begin(), found->floats().end()};
}

const onnx::TensorProto &Node::tensor(const char *attribute) const {
    const onnx::AttributeProto *found = find(attribute, onnx::AttributeProto::TENSOR);
    if (found == nullptr || !found->has_t()) throw Refusal(std::string("lacks attribute ") + attribute);
    return found->t();
}

std::string type_name(int data_type) {
    return onnx::TensorProto::DataType_IsValid(data_type)
               ? onnx::TensorProto::DataType_Name(static_cast<onnx::TensorProto::DataType>(data_type))
               : std::to_string(data_type);
}

bool is_float(const onnx::TensorProto &tensor) {
    return tensor.data_type() == onnx::TensorProto::FLOAT || tensor.data_type() == onnx::TensorProto::FLOAT16;
}

Array<float> read_floats(const onnx::TensorProto &tensor) {
    if (tensor.data_type() == onnx::TensorProto::FLOAT16) {
        return read_values<uint16_t, float>(tensor, tensor.int32_data(),
                                            [](uint16_t bits) { return half_to_float(bits); });
    }
    return read_values<float, float>(tensor, tensor.float_data(), [](float value) { return value; });
}

Array<int64_t> read_integers(const onnx::TensorProto &tensor) {
    const auto same = [](auto value) { return static_cast<int64_t>(value); };
    switch (tensor.data_type()) {
    case onnx::TensorProto::INT64:
        return read_values<int64_t, int64_t>(tensor, tensor.int64_data(), same);
    case onnx::TensorProto::INT32:
        return read_values<int32_t, int64_t>(tensor, tensor.int32_data(), same);
    case onnx::TensorProto::UINT8:
        return read_values<uint8_t, int64_t>(tensor, tensor.int32_data(), same);
    case onnx::TensorProto::INT8:
    case onnx::TensorProto::BOOL:
        return read_values<int8_t, int64_t>(tensor, tensor.int32_data(), same);
    default:
        refuse(tensor, "has type " + type_name(tensor.data_type()) +
                           ", expected FLOAT or FLOAT16, or integers: INT64, INT32, INT8, UINT8 or BOOL");
    }
}

}  // namespace shufflenet::imports
