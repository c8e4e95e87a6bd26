"""ONNX files byte by byte: just enough protocol buffer to write graphs, right and wrong ones.

Field numbers are those of onnx.proto; see there for what they mean.
"""

import struct

import numpy as np

FLOAT, INT32, INT64, FLOAT16, DOUBLE = 1, 6, 7, 10, 11
TYPES = {"float32": FLOAT, "int32": INT32, "int64": INT64, "float16": FLOAT16, "float64": DOUBLE}


def varint(value):
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """An integer, a float, text, or a message."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, (int, np.integer)):
        return varint(number << 3) + varint(int(value))
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name, array, in_fields=False):
    """`in_fields`: values in float_data and its like instead of raw_data."""
    array = np.asarray(array)
    kind = TYPES[array.dtype.name]
    out = b"".join(field(1, n) for n in array.shape) + field(2, kind) + field(8, name)
    if not in_fields:
        return out + field(9, array.tobytes())
    if kind == FLOAT:
        return out + field(4, array.tobytes())
    if kind == FLOAT16:
        return out + field(5, b"".join(varint(int(bits)) for bits in array.ravel().view(np.uint16)))
    return out + field(7 if kind == INT64 else 5, b"".join(varint(int(v)) for v in array.ravel()))


def attribute(name, value):
    out = field(1, name)
    if isinstance(value, float):
        return out + field(2, value) + field(20, 1)
    if isinstance(value, int):
        return out + field(3, value) + field(20, 2)
    if isinstance(value, str):
        return out + field(4, value) + field(20, 3)
    if isinstance(value, np.ndarray):
        return out + field(5, tensor("", value)) + field(20, 4)
    return out + b"".join(field(8, n) for n in value) + field(20, 7)


class Node:
    def __init__(self, op, inputs, outputs, name="", domain="", **attributes):
        self.op, self.inputs, self.outputs = op, list(inputs), list(outputs)
        self.name, self.domain, self.attributes = name, domain, attributes

    def bytes(self):
        out = b"".join(field(1, name) for name in self.inputs) + b"".join(field(2, name) for name in self.outputs)
        out += field(3, self.name) + field(4, self.op) + field(7, self.domain)
        return out + b"".join(field(5, attribute(*item)) for item in self.attributes.items())


def value_info(name, kind, dims):
    """A tensor; dimensions are numbers or names."""
    shape = b"".join(field(1, field(2 if isinstance(dim, str) else 1, dim)) for dim in dims)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


class Graph:
    """Nodes, weights and the rest of a model; `weights`: name to array."""

    def __init__(self, opset, in_fields=False):
        self.opset, self.in_fields = opset, in_fields
        self.nodes, self.weights, self.inputs, self.outputs = [], {}, [], []
        self.raw_weights = []  # Tensors as bytes.

    def add(self, op, inputs, outputs=None, **attributes):
        """A node with one output, by default; returns the output's name."""
        outputs = outputs or [f"{op}_{len(self.nodes)}"]
        self.nodes.append(Node(op, inputs, outputs, name=f"{op.lower()}{len(self.nodes)}", **attributes))
        return outputs[0] if len(outputs) == 1 else outputs

    def weight(self, name, array):
        self.weights[name] = np.array(array)
        return name

    def node(self, output):
        """The node that makes this output."""
        (found,) = [node for node in self.nodes if output in node.outputs]
        return found

    def bytes(self):
        out = b"".join(field(1, node.bytes()) for node in self.nodes) + field(2, "graph")
        out += b"".join(field(5, tensor(*item, self.in_fields)) for item in self.weights.items())
        out += b"".join(field(5, raw) for raw in self.raw_weights)
        out += b"".join(field(11, value_info(*value)) for value in self.inputs)
        out += b"".join(field(12, value_info(*value)) for value in self.outputs)
        return field(1, 8) + field(2, "onnx_writer.py") + field(7, out) + field(8, field(2, self.opset))
