// Nodes and tensors of an ONNX graph, with every access checked.
#pragma once

#include <string>
#include <vector>

#include "array.h"
#include "onnx.pb.h"

namespace shufflenet::imports {

/// One node of a graph. What it throws are Refusals that do not name the node.
class Node {
  public:
    Node(const onnx::NodeProto &proto, int index) : proto_(proto), index_(index) {}

    const std::string &op() const { return proto_.op_type(); }
    const std::string &domain() const { return proto_.domain(); }
    int inputs() const { return proto_.input_size(); }
    int outputs() const { return proto_.output_size(); }
    /// Optional inputs that are left out have no name.
    bool has_input(int i) const { return i < inputs() && !proto_.input(i).empty(); }
    const std::string &input(int i) const;
    const std::string &output(int i) const { return proto_.output(i); }

    /// "node 'Conv_3' (Conv)"; nameless nodes are called by their place and output.
    std::string text() const;

    bool has(const char *attribute) const { return find(attribute) != nullptr; }
    int64_t integer(const char *attribute, int64_t otherwise) const;
    double real(const char *attribute, double otherwise) const;
    std::string text(const char *attribute, const std::string &otherwise) const;
    Dims integers(const char *attribute, const Dims &otherwise) const;
    std::vector<float> reals(const char *attribute) const;
    const onnx::TensorProto &tensor(const char *attribute) const;

  private:
    const onnx::AttributeProto *find(const char *attribute) const;
    const onnx::AttributeProto *find(const char *attribute, onnx::AttributeProto::AttributeType type) const;

    const onnx::NodeProto &proto_;
    int index_;
};

/// "FLOAT16"; the number where it has no name.
std::string type_name(int data_type);

bool is_float(const onnx::TensorProto &tensor);

/// Values of a FLOAT or FLOAT16 tensor.
Array<float> read_floats(const onnx::TensorProto &tensor);

/// Values of an INT64, INT32, INT8, UINT8 or BOOL tensor.
Array<int64_t> read_integers(const onnx::TensorProto &tensor);

}  // namespace shufflenet::imports
