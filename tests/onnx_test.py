#!/usr/bin/env python3
"""ONNX files in: the same network as exporters and simplifiers write it, Megvii's network, graphs that are none.

    python3 tests/onnx_test.py --shufflenet build/x86/bin/shufflenet [unittest arguments]

Needs NumPy; for the comparison with ONNX Runtime also that ('./dev peers' installs it).
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import shlex
import struct
import subprocess
import sys
import tempfile
import unittest

import numpy as np
from onnx_writer import FLOAT, FLOAT16, Graph, field, tensor

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/golden"))
from random_weights import Stream, random_input, random_state_dict  # noqa: E402

ARGUMENTS = argparse.Namespace(shufflenet="", emulator="")

# The compiled model that is small, and the golden case with its size and classes.
MODEL, SIZE, CLASSES = "cifar10_x0_5", 64, 10
GOLDEN = "shufflenet_v2_x0_5_64x64_10"
UNITS = (4, 8, 4)
EPSILON = 1e-5


def golden_case():
    golden = json.loads((ROOT / "tests/golden/golden.json").read_text())
    (case,) = [case for case in golden["cases"] if case["name"] == GOLDEN]
    (shapes,) = [dict(d["tensors"]) for d in golden["state_dicts"] if d["network"] == case["network"]]
    shapes.update({"fc.weight": (CLASSES, 1024), "fc.bias": (CLASSES,)})
    state = random_state_dict({name: tuple(shape) for name, shape in shapes.items()}, case["seed"])
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    return state, random_input(case["seed"], SIZE, SIZE), np.array(case["logits"])


STATE, INPUT, LOGITS = golden_case()


# Graphs


@dataclasses.dataclass
class Style:
    """How a graph is written. Names say which program writes so, where it is not obvious."""

    opset: int = 13
    folded: bool = False  # Batch normalisation, into the convolutions.
    split: str = "split"  # slice, computed (torch.chunk since opset 11), gather
    shuffle: str = "reshape"  # computed (dynamic batch), gather (folded to one node), flat (pixels as one axis)
    pool: str = "mean"  # mean_flatten, global_flatten, global_reshape, average_squeeze
    linear: str = "gemm"  # gemm_plain (weights not transposed), matmul (and Add), matmul_transpose
    constants: str = "initializer"  # node
    in_fields: bool = False  # float_data instead of raw_data
    dtype: str = "float32"
    cast: bool = False  # Float input and output around halves.
    bias_add: bool = False  # The bias of a folded convolution as a node of its own.
    relu_after_pool: bool = False
    batch: object = 1
    size: object = (SIZE, SIZE)
    epsilon: float = EPSILON


class Writer(Graph):
    """Writes ShuffleNetV2 as torchvision has it, in a style."""

    def __init__(self, state, style, channels=(24, 48, 96, 192, 1024)):
        super().__init__(style.opset, style.in_fields)
        self.state, self.style, self.channels = state, style, channels
        self.count = 0
        # What a shape is known to be while the graph is written.
        self.size, self.n = (SIZE, SIZE), style.batch if isinstance(style.batch, int) else 1

    def constant(self, values):
        self.count += 1
        values = np.array(values, np.int64)
        name = f"constant_{self.count}"
        if self.style.constants == "initializer":
            return self.weight(name, values)
        return self.add("Constant", [], [name], value=values)

    def floats(self, name, values):
        return self.weight(name, np.asarray(values).astype(self.style.dtype))

    def pixels(self, shrink=1):
        self.size = tuple((n - 1) // shrink + 1 for n in self.size)

    def conv(self, x, name, norm, stride=1, relu=True):
        weight = self.state[name + ".weight"]
        gamma, beta, mean, variance = (self.state[f"{norm}.{key}"]
                                       for key in ("weight", "bias", "running_mean", "running_var"))
        out, inputs, kernel, _ = weight.shape
        groups = out if inputs == 1 and kernel == 3 else 1
        pad = kernel // 2
        attributes = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups,
                          dilations=[1, 1])
        if self.style.folded:
            weight, bias = folded(weight, gamma, beta, mean, variance)
            inputs = [x, self.floats(name + ".weight", weight), self.floats(name + ".bias", bias)]
            if self.style.bias_add:
                x = self.add("Conv", inputs[:2], **attributes)
                x = self.add("Add", [self.floats(name + ".bias", bias.reshape(1, -1, 1, 1)), x])
            else:
                x = self.add("Conv", inputs, [name], **attributes)
        else:
            x = self.add("Conv", [x, self.floats(name + ".weight", weight)], [name], **attributes)
            values = [self.floats(f"{norm}.{i}", v) for i, v in enumerate((gamma, beta, mean, variance))]
            x = self.add("BatchNormalization", [x, *values], [norm], epsilon=self.style.epsilon)
        return self.add("Relu", [x], [name + ".relu"]) if relu else x

    def reshape(self, x, shape):
        return self.add("Reshape", [x, self.constant(shape)])

    def computed(self, x, *dims):
        """A shape of which every number is read from x, divided or given: (axis, divisor) or number."""
        parts = []
        for dim in dims:
            if isinstance(dim, tuple):
                part = self.add("Gather", [self.add("Shape", [x]), self.constant(dim[0])], axis=0)
                part = self.add("Div", [part, self.constant(dim[1])])
                parts.append(self.unsqueeze(part, 0))
            else:
                parts.append(self.constant([dim]))
        return self.add("Concat", parts, axis=0)

    def unsqueeze(self, x, axis):
        if self.opset < 13:
            return self.add("Unsqueeze", [x], axes=[axis])
        return self.add("Unsqueeze", [x, self.constant([axis])])

    def slice(self, x, start, end, axis):
        if self.opset < 10:
            return self.add("Slice", [x], starts=[start], ends=[end], axes=[axis])
        return self.add("Slice", [x, *(self.constant([v]) for v in (start, end, axis, 1))])

    def halves(self, x, c):
        how = self.style.split
        if how == "split":
            outputs = [f"half{len(self.nodes)}", f"other{len(self.nodes)}"]
            if self.opset >= 18:
                return self.add("Split", [x], outputs, axis=1, num_outputs=2)
            if self.opset >= 13:
                return self.add("Split", [x, self.constant([c, c])], outputs, axis=1)
            return self.add("Split", [x], outputs, axis=1, split=[c, c])
        if how == "slice":
            return self.slice(x, 0, c, 1), self.slice(x, -c, 2**63 - 1, 1)
        if how == "gather":
            return (self.add("Gather", [x, self.constant(list(range(c)))], axis=1),
                    self.add("Gather", [x, self.constant([i - c for i in range(c)])], axis=1))
        count = self.add("Gather", [self.add("Shape", [x]), self.constant([1])], axis=0)
        half = self.add("Div", [self.add("Add", [count, self.constant([1])]), self.constant([2])])
        zero, one = self.constant([0]), self.constant([1])
        end = self.add("Mul", [half, self.constant([2])])
        return (self.add("Slice", [x, zero, self.add("Mul", [half, one]), one]),
                self.add("Slice", [x, half, end, one]))

    def shuffle(self, x, c):
        how, (height, width) = self.style.shuffle, self.size
        if how == "gather":
            order = [i // 2 + c * (i % 2) for i in range(2 * c)]
            return self.add("Gather", [x, self.constant(order)], axis=1)
        if how == "flat":
            x = self.reshape(x, [0, 2, c, height * width])
            x = self.add("Transpose", [x], perm=[0, 2, 1, 3])
            return self.reshape(x, [self.n, -1, height, width])
        if how == "computed":
            y = self.add("Reshape", [x, self.computed(x, (0, 1), 2, (1, 2), (2, 1), (3, 1))])
            y = self.add("Transpose", [y], perm=[0, 2, 1, 3, 4])
            return self.add("Reshape", [y, self.computed(x, (0, 1), -1, (2, 1), (3, 1))])
        x = self.reshape(x, [self.n, 2, c, height, width])
        x = self.add("Transpose", [x], perm=[0, 2, 1, 3, 4])
        return self.reshape(x, [self.n, 2 * c, height, width])

    def branch2(self, x, path, stride):
        x = self.conv(x, path + ".branch2.0", path + ".branch2.1")
        x = self.conv(x, path + ".branch2.3", path + ".branch2.4", stride, relu=False)
        return self.conv(x, path + ".branch2.5", path + ".branch2.6")

    def unit(self, x, path, c, down):
        if down:
            kept = self.conv(x, path + ".branch1.0", path + ".branch1.1", 2, relu=False)
            kept = self.conv(kept, path + ".branch1.2", path + ".branch1.3")
            made = self.branch2(x, path, 2)
            self.pixels(2)
        else:
            kept, x = self.halves(x, c)
            made = self.branch2(x, path, 1)
        return self.shuffle(self.add("Concat", [kept, made], [path + ".concat"], axis=1), c)

    def stem(self, x):
        after = self.style.relu_after_pool
        x = self.conv(x, "conv1.0", "conv1.1", 2, relu=not after)
        x = self.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        self.pixels(4)
        return self.add("Relu", [x]) if after else x

    def global_pool(self, x):
        how = self.style.pool
        if how in ("mean", "mean_flatten"):
            keep = int(how != "mean")
            if self.opset >= 18:
                x = self.add("ReduceMean", [x, self.constant([-1, 2])], keepdims=keep)
            else:
                x = self.add("ReduceMean", [x], axes=[2, 3], keepdims=keep)
            return self.add("Flatten", [x], axis=1) if keep else x
        if how == "average_squeeze":
            nothing = [0] * 8
            x = (self.add("Pad", [x], pads=nothing) if self.opset < 11
                 else self.add("Pad", [x, self.constant(nothing)]))
            x = self.add("AveragePool", [x], kernel_shape=list(self.size))
            if self.opset < 13:
                return self.add("Squeeze", [x], axes=[2, 3])
            return self.add("Squeeze", [x, self.constant([2, 3])])
        x = self.add("GlobalAveragePool", [x])
        return self.add("Flatten", [x]) if how == "global_flatten" else self.reshape(x, [-1, self.channels[-1]])

    def fully_connected(self, x):
        weight, bias = self.state["fc.weight"], self.state.get("fc.bias")
        how = self.style.linear
        if how == "gemm":
            return self.add("Gemm", [x, self.floats("fc.weight", weight), self.floats("fc.bias", bias)], ["logits"],
                            transB=1, alpha=1.0, beta=1.0)
        if how == "gemm_plain":
            return self.add("Gemm", [x, self.floats("fc.weight", weight.T), self.floats("fc.bias", bias)], ["logits"])
        if how == "matmul_transpose":
            second = self.add("Transpose", [self.floats("fc.weight", weight)], perm=[1, 0])
        else:
            second = self.floats("fc.weight", weight.T)
        if bias is None:
            return self.add("MatMul", [x, second], ["logits"])
        x = self.add("MatMul", [x, second])
        return self.add("Add", [x, self.floats("fc.bias", bias)], ["logits"])

    def finish(self):
        kind = FLOAT16 if self.style.dtype == "float16" and not self.style.cast else FLOAT
        self.inputs = [("input", kind, [self.style.batch, 3, *self.style.size])]
        x = self.add("Cast", ["input"], to=FLOAT16) if self.style.cast else "input"
        x = self.stem(x)
        for stage, units in enumerate(UNITS):
            for unit in range(units):
                x = self.unit(x, f"stage{stage + 2}.{unit}", self.channels[stage + 1] // 2, unit == 0)
        x = self.conv(x, "conv5.0", "conv5.1")
        x = self.fully_connected(self.global_pool(x))
        if self.style.cast:
            x = self.add("Cast", [x], to=FLOAT)
        self.outputs = [(x, kind, [self.style.batch, len(self.state["fc.weight"])])]
        return self


class MegviiWriter(Writer):
    """Megvii's repository: units split even and odd channels at their start, and do not shuffle at their end."""

    def unit(self, x, path, c, down):
        if down:
            kept = self.conv(x, path + ".branch1.0", path + ".branch1.1", 2, relu=False)
            kept = self.conv(kept, path + ".branch1.2", path + ".branch1.3")
            made = self.branch2(x, path, 2)
            self.pixels(2)
        else:
            height, width = self.size
            x = self.reshape(x, [self.n * c, 2, height * width])
            x = self.add("Transpose", [x], perm=[1, 0, 2])
            x = self.reshape(x, [2, -1, c, height, width])
            kept = self.add("Gather", [x, self.constant(0)], axis=0)
            made = self.branch2(self.add("Gather", [x, self.constant(1)], axis=0), path, 1)
        return self.add("Concat", [kept, made], axis=1)


def folded(weight, gamma, beta, mean, variance):
    """As exporters do it, in single precision."""
    scale = gamma / np.sqrt(variance + np.float32(EPSILON))
    return weight * scale[:, None, None, None], beta - mean * scale


# Megvii's network in double precision


def forward(weights, x):
    """Logits of Megvii's network; `weights` with torchvision's names of the corresponding modules."""

    def conv(x, name, norm, stride=1, relu=True):
        weight = weights[name + ".weight"].astype(np.float64)
        gamma, beta, mean, variance = (weights[f"{norm}.{key}"].astype(np.float64)
                                       for key in ("weight", "bias", "running_mean", "running_var"))
        out, inputs, kernel, _ = weight.shape
        if kernel == 1:
            y = np.einsum("oi,ihw->ohw", weight[:, :, 0, 0], x)
        else:
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
            height, width = ((n - 1) // stride + 1 for n in x.shape[1:])
            taps = [(ky, kx, padded[:, ky : ky + stride * height : stride, kx : kx + stride * width : stride]
                     [:, :height, :width]) for ky in range(3) for kx in range(3)]
            if inputs == 1:
                y = sum(weight[:, 0, ky, kx][:, None, None] * tap for ky, kx, tap in taps)
            else:
                y = sum(np.einsum("oi,ihw->ohw", weight[:, :, ky, kx], tap) for ky, kx, tap in taps)
        scale = gamma / np.sqrt(variance + EPSILON)
        y = y * scale[:, None, None] + (beta - mean * scale)[:, None, None]
        return np.maximum(y, 0) if relu else y

    x = conv(x.astype(np.float64), "conv1.0", "conv1.1", 2)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    half = x.shape[1] // 2
    x = np.max([padded[:, ky : ky + 2 * half : 2, kx : kx + 2 * half : 2] for ky in range(3) for kx in range(3)], axis=0)
    for stage, units in enumerate(UNITS):
        for unit in range(units):
            path = f"stage{stage + 2}.{unit}"
            kept, branch = (x, x) if unit == 0 else (x[0::2], x[1::2])
            if unit == 0:
                kept = conv(x, path + ".branch1.0", path + ".branch1.1", 2, relu=False)
                kept = conv(kept, path + ".branch1.2", path + ".branch1.3")
            y = conv(branch, path + ".branch2.0", path + ".branch2.1")
            y = conv(y, path + ".branch2.3", path + ".branch2.4", 2 if unit == 0 else 1, relu=False)
            x = np.concatenate([kept, conv(y, path + ".branch2.5", path + ".branch2.6")])
    x = conv(x, "conv5.0", "conv5.1").mean(axis=(1, 2))
    return weights["fc.weight"].astype(np.float64) @ x


def megvii_names(state):
    """The state_dict as Megvii's repository names it."""
    renamed = {}
    for name, value in state.items():
        path = name.split(".")
        if path[0] in ("conv1", "conv5"):
            path[0] = {"conv1": "first_conv", "conv5": "conv_last"}[path[0]]
        elif path[0] == "fc":
            path[0] = "classifier.0"
        else:
            unit = sum(UNITS[: int(path[0][5]) - 2]) + int(path[1])
            path = ["features", str(unit), {"1": "branch_proj", "2": "branch_main"}[path[2][-1]], *path[3:]]
        renamed[".".join(path)] = value
    return renamed


# Files


def safetensors(tensors):
    header, data = {}, b""
    for name, value in tensors.items():
        kind = {"float32": "F32", "float16": "F16", "float64": "F64", "int32": "I32"}[value.dtype.name]
        header[name] = {"dtype": kind, "shape": value.shape, "data_offsets": [len(data), len(data) + value.nbytes]}
        data += value.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def read_safetensors(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    data = content[8 + length :]
    return {name: np.frombuffer(data[slice(*entry["data_offsets"])], {"F32": "<f4", "F16": "<f2"}[entry["dtype"]])
            .reshape(entry["shape"]) for name, entry in json.loads(content[8 : 8 + length]).items()}


class OnnxTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="shufflenet-onnx-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path

    def cli(self, *arguments):
        return subprocess.run([*shlex.split(ARGUMENTS.emulator), ARGUMENTS.shufflenet, *map(str, arguments)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=600)

    def succeeds(self, *arguments):
        result = self.cli(*arguments)
        self.assertEqual((result.returncode, result.stderr.decode()), (0, ""), arguments)
        return result.stdout.decode()

    def fails(self, arguments, *words, stdout=""):
        result = self.cli(*arguments)
        line = result.stderr.decode(errors="replace")
        self.assertRegex(line, r"\Ashufflenet: error: [^\n]+\n\Z", arguments)
        self.assertEqual(result.returncode, 1, line)
        for word in words:
            self.assertIn(word, line)
        found = result.stdout.decode()
        self.assertTrue(stdout in found if stdout else not found, found)

    def convert(self, content, *flags, name="in.onnx"):
        output = self.folder / "out.safetensors"
        text = self.succeeds("convert", *flags, self.write(name, content), output)
        return read_safetensors(output), text

    def logits(self, image=INPUT):
        """Of the converted weights."""
        source = self.folder / "x.npy"
        np.save(source, image)
        self.succeeds("run", "--model", MODEL, "--weights", self.folder / "out.safetensors", "--input", source,
                      "--output", self.folder / "y.npy")
        return np.load(self.folder / "y.npy")[0]

    def assert_close(self, expected, found, tolerance=1e-5):
        """Single precision's tolerance of the other tests."""
        self.assertLessEqual(np.abs(expected - found).max() / np.ptp(expected), tolerance)

    def assert_same(self, expected, found):
        self.assertEqual(set(expected), set(found))
        for name, value in expected.items():
            self.assertTrue(np.array_equal(value.astype(np.float32), found[name]), name)


def folded_state(dtype="float32"):
    """What comes out of a graph with folded batch normalisation."""
    state = {}
    for name, value in STATE.items():
        if name.startswith("fc."):
            state[name] = value.astype(dtype)
        elif name.endswith(".running_var"):
            norm = name.removesuffix(".running_var")
            path, index = norm.rsplit(".", 1)
            conv = f"{path}.{int(index) - 1}"
            weight, bias = folded(STATE[conv + ".weight"], *(STATE[f"{norm}.{key}"] for key in (
                "weight", "bias", "running_mean", "running_var")))
            state[conv + ".weight"] = weight.astype(dtype)
            state[norm + ".bias"] = bias.astype(dtype)
            state[norm + ".weight"] = np.ones_like(value)
            state[norm + ".running_mean"] = np.zeros_like(value)
            state[norm + ".running_var"] = np.full_like(value, 1 - EPSILON)
    return state


class ConvertTest(OnnxTest):
    STYLES = {
        "opset 9": Style(opset=9),
        "opset 9 folded": Style(opset=9, folded=True, split="slice"),
        "opset 11": Style(opset=11, split="computed", shuffle="computed", constants="node"),
        "opset 13 folded": Style(folded=True, split="computed", shuffle="computed", constants="node"),
        "opset 17": Style(opset=17, split="slice"),
        "opset 17 folded": Style(opset=17, folded=True, pool="mean_flatten"),
        "opset 18": Style(opset=18, pool="mean_flatten"),
        "opset 22 folded": Style(opset=22, folded=True),
        "shuffle by index": Style(shuffle="gather", split="gather", folded=True),
        "shuffle of flat pixels": Style(shuffle="flat"),
        "pool and flatten": Style(pool="global_flatten", linear="gemm_plain"),
        "pool and reshape": Style(pool="global_reshape", linear="matmul", folded=True),
        "average pool": Style(pool="average_squeeze", linear="matmul_transpose"),
        "average pool, opset 9": Style(opset=9, pool="average_squeeze"),
        "float_data": Style(in_fields=True),
        "float_data folded": Style(in_fields=True, folded=True),
        "biases apart": Style(folded=True, bias_add=True),
        "relu after the pool": Style(relu_after_pool=True),
        "batch of 3": Style(batch=3),
        "batch of 3, flat": Style(batch=3, shuffle="flat", split="gather"),
        "any batch": Style(batch="n", shuffle="computed", split="computed"),
    }

    def test_styles(self):
        for name, style in self.STYLES.items():
            with self.subTest(name):
                found, text = self.convert(Writer(STATE, style).finish().bytes())
                self.assertIn(f"shufflenet_v2_x0_5, {CLASSES} classes, {len(STATE)} tensors, input 64x64", text)
                self.assertEqual("folded" in text, style.folded)
                self.assertNotIn("reordered", text)
                self.assert_same(folded_state() if style.folded else STATE, found)
                self.assert_close(LOGITS, self.logits())

    def test_folding_again_gives_the_same_floats(self):
        """What importers/weights.h says of 1 - epsilon: the weights that a reader computes are those of the graph."""
        found, _ = self.convert(Writer(STATE, Style(folded=True)).finish().bytes())
        scale = np.float64(found["conv5.1.weight"]) / np.sqrt(np.float64(found["conv5.1.running_var"]) + EPSILON)
        again = (found["conv5.0.weight"] * scale[:, None, None, None]).astype(np.float32)
        self.assertTrue(np.array_equal(again, folded_state()["conv5.0.weight"]))

    def test_halves(self):
        for style in (Style(dtype="float16"), Style(dtype="float16", in_fields=True, cast=True),
                      Style(dtype="float16", folded=True)):
            found, _ = self.convert(Writer(STATE, style).finish().bytes())
            expected = folded_state("float16") if style.folded else {k: v.astype("float16") for k, v in STATE.items()}
            self.assert_same(expected, found)
        small, _ = self.convert(Writer(STATE, Style(dtype="float16")).finish().bytes(), "--f16")
        self.assertEqual({value.dtype.name for value in small.values()}, {"float16"})

    def test_another_epsilon_goes_into_gamma(self):
        found, _ = self.convert(Writer(STATE, Style(epsilon=1e-3)).finish().bytes())
        norm = "stage3.2.branch2.4"
        variance = STATE[norm + ".running_var"].astype(np.float64)
        expected = STATE[norm + ".weight"] / np.sqrt(variance + np.float32(1e-3))
        np.testing.assert_allclose(found[norm + ".weight"] / np.sqrt(variance + EPSILON), expected, rtol=2.0**-23)
        self.assertTrue(np.array_equal(found[norm + ".running_var"], STATE[norm + ".running_var"]))

    def test_a_bias_before_a_norm_goes_into_the_mean(self):
        graph = Writer(STATE, Style()).finish()
        bias = np.linspace(-1, 1, 1024, dtype=np.float32)
        graph.node("conv5.0").inputs.append(graph.floats("bias", bias))
        found, _ = self.convert(graph.bytes())
        np.testing.assert_array_equal(found["conv5.1.running_mean"], STATE["conv5.1.running_mean"] - bias)

    def test_input_of_any_size(self):
        style = Style(batch="n", size=("h", "w"), split="computed", shuffle="computed")
        found, text = self.convert(Writer(STATE, style).finish().bytes())
        self.assertIn("input of any size", text)
        self.assert_same(STATE, found)

    def test_by_content(self):
        self.assert_same(STATE, self.convert(Writer(STATE, Style()).finish().bytes(), name="model")[0])

    def test_what_is_not_needed(self):
        """Nodes that no output depends on; identities, dropout of nothing, weights listed as inputs."""
        graph = Writer(STATE, Style()).finish()
        graph.add("Sigmoid", ["conv5.0.relu"])
        first = graph.node("stage2.0.branch2.0")
        graph.nodes.insert(0, graph.nodes.pop())
        graph.nodes.insert(0, type(first)("Identity", ["conv1.0.weight"], ["same"]))
        graph.node("conv1.0").inputs[1] = "same"
        gemm = graph.node("logits")
        graph.nodes.insert(graph.nodes.index(gemm), type(first)("Dropout", [gemm.inputs[0]], ["kept"]))
        gemm.inputs[0] = "kept"
        graph.inputs.insert(0, ("fc.weight", FLOAT, [CLASSES, 1024]))
        self.assert_same(STATE, self.convert(graph.bytes())[0])

    def test_features_as_outputs(self):
        graph = Writer(STATE, Style()).finish()
        graph.outputs.insert(0, ("stage3.7.concat", FLOAT, [1, 96, 4, 4]))
        self.assert_same(STATE, self.convert(graph.bytes())[0])

    def test_a_network_that_nobody_published(self):
        widths = (40, 72, 108)
        state = {**some_weights(widths, 200), "fc.bias": np.zeros(CLASSES, np.float32)}
        for writer in (Writer, MegviiWriter):
            found, text = self.convert(writer(state, Style(), (24, *widths, 200)).finish().bytes())
            self.assertIn(f"shufflenet_v2, {CLASSES} classes", text)
            self.assert_same(state, found)
        found, text = self.convert(safetensors(state), name="in.safetensors")
        self.assertIn(f"shufflenet_v2, {CLASSES} classes", text)
        self.assert_same(state, found)

    def test_other_channel_orders(self):
        """A branch whose outputs are numbered backwards, and what reads them accordingly."""
        state = dict(STATE)
        order = np.arange(24)[::-1]
        for name in ("stage2.0.branch2.3.weight", *(f"stage2.0.branch2.{norm}.{key}" for norm in (1, 4) for key in
                     ("weight", "bias", "running_mean", "running_var"))):
            state[name] = state[name][order]
        state["stage2.0.branch2.0.weight"] = state["stage2.0.branch2.0.weight"][order]
        state["stage2.0.branch2.5.weight"] = state["stage2.0.branch2.5.weight"][:, order]
        self.convert(Writer(state, Style()).finish().bytes())
        self.assert_close(LOGITS, self.logits())

        # The same by nodes: channels reversed on the way into a layer, which is then known by its new order.
        graph = Writer(STATE, Style()).finish()
        head = graph.node("conv5.0")
        back = list(range(192))[::-1]
        graph.nodes.insert(graph.nodes.index(head), type(head)("Gather", [head.inputs[0], "back"], ["turned"], axis=1))
        graph.weight("back", np.array(back))
        head.inputs[0] = "turned"
        graph.weights["conv5.0.weight"] = graph.weights["conv5.0.weight"][:, back]
        found, text = self.convert(graph.bytes())
        self.assertIn("channels reordered", text)
        self.assert_same(STATE, found)


class MegviiTest(OnnxTest):
    WEIGHTS = {name: value for name, value in STATE.items() if name != "fc.bias"}
    STYLE = Style(linear="matmul", pool="average_squeeze")

    def test_graph(self):
        expected = forward(self.WEIGHTS, INPUT[0])
        for style in (self.STYLE, dataclasses.replace(self.STYLE, opset=9, folded=True),
                      dataclasses.replace(self.STYLE, batch=2)):
            with self.subTest(style=style):
                found, text = self.convert(MegviiWriter(self.WEIGHTS, style).finish().bytes())
                self.assertIn("channels reordered from Megvii's", text)
                self.assertFalse(np.array_equal(found["stage2.0.branch2.5.weight"],
                                                STATE["stage2.0.branch2.5.weight"]))
                self.assertFalse(found["fc.bias"].any())
                self.assert_close(expected, self.logits())

    def test_its_order_matters(self):
        self.assertGreater(np.abs(forward(self.WEIGHTS, INPUT[0]) - (LOGITS - STATE["fc.bias"])).max(), 0.1)

    def test_names(self):
        from_graph, _ = self.convert(MegviiWriter(self.WEIGHTS, self.STYLE).finish().bytes())
        named = megvii_names(self.WEIGHTS)
        counts = {f"features.{unit}.branch_main.1.num_batches_tracked": np.zeros((), np.float32) for unit in range(2)}
        for tensors in (named, {"module." + k: v for k, v in named.items()}, named | counts):
            found, text = self.convert(safetensors(tensors), name="in.safetensors")
            self.assertIn("channels reordered from Megvii's", text)
            self.assert_same(from_graph, found)
        halves = {name: value.astype(np.float16) for name, value in named.items()}
        found, _ = self.convert(safetensors(halves), name="in.safetensors")
        self.assertTrue(np.array_equal(found["fc.weight"], halves["classifier.0.weight"].astype(np.float32)))

    def test_bad_names(self):
        good = megvii_names(self.WEIGHTS)
        main = "features.5.branch_main.0.weight"
        table = {
            "missing": ({main: None}, "missing " + main),
            "extra": ({"features.5.branch_proj.0.weight": good[main]}, "unexpected features.5.branch_proj.0.weight"),
            "shape": ({main: good[main][:, :1]}, main, "[48, 1, 1, 1]", "stage3_unit1_branch2_pw1"),
            "rank": ({main: good[main].reshape(48, 48)}, main, "[48, 48]"),
            "norm": ({"conv_last.1.bias": good["conv_last.1.bias"][1:]}, "conv_last.1.bias", "[1023]"),
            "dtype": ({main: good[main].astype(np.int32)}, main, "I32"),
            "nan": ({"conv_last.1.bias": good["conv_last.1.bias"] * np.nan}, "conv5.1.bias", "nan"),
        }
        for name, (changes, *words) in table.items():
            with self.subTest(name):
                tensors = {k: v for k, v in {**good, **changes}.items() if v is not None}
                source = self.write("bad.safetensors", safetensors(tensors))
                self.fails(["convert", source, self.folder / "out"], str(source), *words)
                self.assertFalse((self.folder / "out").exists())

    def test_wider_networks_are_refused(self):
        """Their stage 2 begins with 24 + 92 channels, not 58 + 58."""
        wide = some_weights((116, 232, 464), 1024, megvii=True)
        words = ("Megvii's own network", "24 + 92", "58 + 58", "x0.5")
        graph = MegviiWriter(wide, self.STYLE, (24, 116, 232, 464, 1024)).finish().bytes()
        self.fails(["convert", self.write("in.onnx", graph), self.folder / "out"], *words)
        source = self.write("in.safetensors", safetensors(megvii_names(wide)))
        self.fails(["convert", source, self.folder / "out"], "features.0.branch_proj.2.weight", *words)


def some_weights(widths, features, megvii=False):
    """Of a network of these widths, which Megvii's own splits otherwise in units that halve the image."""
    weights, before = {}, 24

    def conv(name, index, out, inputs, kernel):
        weights[f"{name}.{index}.weight"] = np.ones((out, inputs, kernel, kernel), np.float32)
        for key in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{name}.{index + 1}.{key}"] = np.ones(out, np.float32)

    conv("conv1", 0, 24, 3, 3)
    for stage, total in enumerate(widths):
        for unit in range(UNITS[stage]):
            path, inputs = f"stage{stage + 2}.{unit}", before if unit == 0 else total // 2
            if unit == 0:
                conv(path + ".branch1", 0, inputs, 1, 3)
                conv(path + ".branch1", 2, inputs if megvii else total // 2, inputs, 1)
            conv(path + ".branch2", 0, total // 2, inputs, 1)
            conv(path + ".branch2", 3, total // 2, 1, 3)
            conv(path + ".branch2", 5, total - inputs if megvii else total // 2, total // 2, 1)
        before = total
    conv("conv5", 0, features, before, 1)
    weights["fc.weight"] = np.ones((CLASSES, features), np.float32)
    return weights


# Graphs that are none: changes of a good one, and what the error says.


def set_attribute(output, **attributes):
    return lambda graph: graph.node(output).attributes.update(attributes)


def insert_after(output, op, weights=(), **attributes):
    """A node behind this output, whose readers read the new node instead."""

    def change(graph):
        for node in graph.nodes:
            node.inputs = ["inserted" if name == output else name for name in node.inputs]
        at = graph.nodes.index(graph.node(output)) + 1
        graph.nodes.insert(at, type(graph.nodes[0])(op, [output, *weights], ["inserted"], "extra", **attributes))

    return change


def drop(output):
    """Readers of this output read its node's first input instead."""

    def change(graph):
        gone = graph.node(output)
        graph.nodes.remove(gone)
        for node in graph.nodes:
            node.inputs = [gone.inputs[0] if name == output else name for name in node.inputs]

    return change


def set_weight(name, array):
    return lambda graph: graph.weight(name, array)


def raw_weight(name, content):
    def change(graph):
        del graph.weights[name]
        graph.raw_weights.append(content)

    return change


def both(*changes):
    def change(graph):
        for one in changes:
            one(graph)

    return change


def cycle(graph):
    graph.node("stage2.0.branch2.0").inputs[0] = "stage3.0.concat"


def to_training(graph):
    graph.node("conv5.1").outputs += ["mean", "var"]


DEPTHWISE = "stage2.1.branch2.3"
CONV5 = "conv5.0"
HUGE = 1 << 40

BROKEN = {
    "kernel": (both(set_weight(DEPTHWISE + ".weight", np.zeros((24, 1, 5, 5), np.float32)),
                    set_attribute(DEPTHWISE, kernel_shape=[5, 5], pads=[2] * 4)),
               "(Conv)", "kernel 5x5, expected 3x3", "stage2_unit1_branch2_dw"),
    "stride": (set_attribute("stage3.0.branch1.0", strides=[1, 1]), "stride 1x1, expected 2x2",
               "stage3_unit0_branch1_dw"),
    "pads": (set_attribute(DEPTHWISE, pads=[0, 0, 2, 2]), "pads [0, 0, 2, 2], expected [1, 1, 1, 1]"),
    "dilations": (set_attribute(DEPTHWISE, dilations=[2, 2], pads=[2] * 4), "[2, 2, 2, 2]"),
    "auto_pad": (set_attribute(DEPTHWISE, auto_pad="SAME_UPPER"), "auto_pad SAME_UPPER"),
    "groups": (both(set_attribute(CONV5, group=2),
                    set_weight("conv5.0.weight", np.zeros((1024, 96, 1, 1), np.float32))),
               "has 2 groups, expected 1", "(conv5)"),
    "groups of no size": (set_attribute(CONV5, group=0), "in 0 groups"),
    "outputs": (set_weight("conv5.0.weight", np.zeros((1000, 192, 1, 1), np.float32)), "node 'batchnormalization"),
    "inputs": (set_weight("conv5.0.weight", np.zeros((1024, 96, 1, 1), np.float32)), "for 192 channels"),
    "bias": (lambda graph: graph.node(CONV5).inputs.append(graph.weight("b", np.zeros(3, np.float32))),
             "bias of 3 values"),
    "max-pool": (set_attribute("MaxPool_3", kernel_shape=[2, 2]), "(MaxPool)", "kernel 2x2, expected 3x3"),
    "ceil_mode": (set_attribute("MaxPool_3", ceil_mode=1), "ceil_mode"),
    "sigmoid": (insert_after("conv5.0.relu", "Sigmoid"), "node 'extra' (Sigmoid)", "is an activation"),
    "softmax": (both(insert_after("logits", "Softmax"),
                     lambda graph: graph.outputs.__setitem__(0, ("inserted", FLOAT, [1, CLASSES]))), "(Softmax)"),
    "surplus relu": (insert_after("stage2.0.branch1.1", "Relu"), "with a ReLU", "stage2_unit0_branch1_pw"),
    "missing relu": (drop("stage4.2.branch2.0.relu"), "without its ReLU", "stage4_unit2_branch2_dw"),
    "surplus convolution": (both(set_weight("more", np.zeros((1024, 1024, 1, 1), np.float32)),
                                 insert_after("conv5.0.relu", "Conv", ["more"])), "node 'extra' (Conv)"),
    "surplus batch normalisation": (insert_after("conv5.1", "BatchNormalization", [f"conv5.1.{i}" for i in range(4)]),
                                    "node 'extra' (BatchNormalization)", "has that already"),
    "residual sum": (insert_after("stage2.1.branch2.5.relu", "Add", ["stage2.1.branch2.0.relu"]), "'extra' (Add)"),
    "no convolution left": (lambda graph: graph.nodes.__delitem__(slice(0, None)), "no graph"),
    "no fc": (lambda graph: graph.outputs.__setitem__(0, ("conv5.0.relu", FLOAT, [1])), "no node left for pool"),
    "an output in the middle": (lambda graph: graph.outputs.__setitem__(0, ("absent", FLOAT, [1])), "'absent'"),
    "cycle": (cycle, "a cycle, or a part is missing", "stage3.0.concat"),
    "input that is not there": (lambda graph: graph.node(CONV5).inputs.__setitem__(1, "absent"), "reads 'absent'"),
    "two makers": (lambda graph: graph.add("Relu", [CONV5], ["conv5.0.relu"]), "'conv5.0.relu', which is there already"),
    "training": (to_training, "training mode", "evaluation mode"),
    "domain": (lambda graph: setattr(graph.node(CONV5), "domain", "com.microsoft"), "com.microsoft"),
    "opset 6": (lambda graph: setattr(graph, "opset", 6), "operator set 6, expected 7 to"),
    "opset 1000": (lambda graph: setattr(graph, "opset", 1000), "operator set 1000"),
    "two inputs": (lambda graph: graph.inputs.append(("more", FLOAT, [1])), "'input' and 'more'"),
    "no input": (lambda graph: graph.inputs.clear(), "no input"),
    "no output": (lambda graph: graph.outputs.clear(), "no output"),
    "grey input": (lambda graph: graph.inputs.__setitem__(0, ("input", FLOAT, [1, 1, 64, 64])), "[1, 1, 64, 64]"),
    "input of another type": (lambda graph: graph.inputs.__setitem__(0, ("input", 2, [1, 3, 64, 64])), "UINT8"),
    "huge input": (lambda graph: graph.inputs.__setitem__(0, ("input", FLOAT, [HUGE, 3, HUGE, HUGE])), str(HUGE)),
    "huge batch": (lambda graph: graph.inputs.__setitem__(0, ("input", FLOAT, [65536, 3, 64, 64])), "node '"),
    "another input size": (lambda graph: graph.inputs.__setitem__(0, ("input", FLOAT, [1, 3, 96, 64])), "(Reshape)",
                           "does not keep every channel's pixels together"),
    "double": (set_weight("fc.weight", STATE["fc.weight"].astype(np.float64)), "'fc.weight'", "DOUBLE"),
    "huge weight": (raw_weight("fc.weight", field(1, HUGE) * 3 + field(2, FLOAT) + field(8, "fc.weight")),
                    "'fc.weight'", "too large"),
    "negative weight": (raw_weight("fc.weight", field(1, -1) + field(2, FLOAT) + field(8, "fc.weight")), "negative"),
    "short weight": (raw_weight("fc.weight", field(1, 10) + field(1, 1024) + field(2, FLOAT) + field(8, "fc.weight") +
                                field(9, bytes(100))), "'fc.weight'", "expected 40960 bytes, found 100"),
    "weight without values": (raw_weight("fc.weight", field(1, 10) + field(1, 1024) + field(2, FLOAT) +
                                         field(8, "fc.weight")), "expected 10240 values, found 0"),
    "external data": (raw_weight("fc.weight", field(1, 10) + field(1, 1024) + field(2, FLOAT) + field(8, "fc.weight") +
                                 field(13, field(1, "location") + field(2, "weights.bin")) + field(14, 1)),
                      "'fc.weight'", "weights.bin", "external data is not read"),
    "nan": (set_weight("fc.bias", np.full(CLASSES, np.nan, np.float32)), "fc.bias has the value nan"),
    "negative variance": (set_weight("conv5.1.3", np.full(1024, -1, np.float32)), "conv5.1.running_var", "-1"),
    "nhwc": (insert_after("conv5.0.relu", "Transpose", perm=[0, 2, 3, 1]), "mean of axes [2, 3]"),
    "slice of pixels": (both(set_weight("one", np.array([1])), set_weight("two", np.array([2])),
                             insert_after("conv5.0.relu", "Slice", ["one", "two", "two"])), "takes pixels apart"),
    "mean of channels": (lambda graph: graph.nodes[-2].attributes.update(axes=[1, 2]), "mean of axes [1, 2]"),
    "alpha": (set_attribute("logits", alpha=2.0), "alpha"),
    "division by zero": (both(set_weight("zero", np.array(0)), lambda graph: graph.nodes.insert(
        0, type(graph.nodes[0])("Div", ["zero", "zero"], ["shape"])),
        lambda graph: graph.node("logits").inputs.__setitem__(2, "shape")), "divides by 0"),
    "attribute of another type": (set_attribute(CONV5, group=1.0), "attribute group has type FLOAT, expected INT"),
}


# Indices of the Gather that is a unit's shuffle.
BROKEN_SHUFFLES = {
    "none": (lambda c: range(2 * c), "reads 0 channels of stage2_unit0_branch1_pw, expected 6", "channel shuffle",
             "stage2_unit2_branch2_pw1"),
    "four groups": (lambda c: np.arange(2 * c).reshape(4, -1).T.ravel(), "channel shuffle"),
    "channel twice": (lambda c: [*(i // 2 + c * (i % 2) for i in range(2 * c - 2)), 2 * c - 2, 2 * c - 2],
                      "channel 22 of stage2_unit1_branch2_pw2, which a branch has read already"),
    "out of range": (lambda c: [2 * c] * (2 * c), "index 48 of an axis of 48"),
}


class BrokenTest(OnnxTest):
    def refused(self, content, *words):
        source, output = self.write("bad.onnx", content), self.folder / "out.safetensors"
        output.unlink(missing_ok=True)
        self.fails(["convert", source, output], str(source), *words)
        self.assertFalse(output.exists())

    def test_graphs(self):
        for name, (change, *words) in BROKEN.items():
            with self.subTest(name):
                graph = Writer(STATE, Style()).finish()
                change(graph)
                self.refused(graph.bytes(), *words)

    def test_shuffles(self):
        for name, (order, *words) in BROKEN_SHUFFLES.items():
            with self.subTest(name):
                graph = Writer(STATE, Style(shuffle="gather")).finish()
                (shuffle,) = [node for node in graph.nodes if node.inputs[:1] == ["stage2.1.concat"]]
                shuffle.inputs[1] = graph.weight("order", np.array(order(24)))
                self.refused(graph.bytes(), *words)

    def test_another_network(self):
        source = self.write("good.onnx", Writer(STATE, Style()).finish().bytes())
        self.fails(["convert", "--network", "shufflenet_v2_x1_0", source, self.folder / "out"], str(source),
                   "not shufflenet_v2_x1_0", "has 24 groups, expected 58", "stage2_unit0_branch2_dw")

    def test_no_network(self):
        graph = Graph(13)
        graph.inputs, graph.outputs = [("input", FLOAT, [1, 3, 8, 8])], [("y", FLOAT, [1, 3])]
        graph.add("GlobalAveragePool", ["input"], ["y"])
        self.refused(graph.bytes(), "no convolution of any ShuffleNetV2")

    def test_not_onnx(self):
        content = Writer(STATE, Style()).finish().bytes()
        table = {
            "empty": b"",
            "version only": b"\x08\x07",
            "text": b"this is not a graph",
            "truncated": content[:-1],
            "half": content[: len(content) // 2],
            "safetensors": safetensors(STATE),
        }
        for name, wrong in table.items():
            with self.subTest(name):
                self.refused(wrong, "ONNX file")
        self.fails(["convert", self.folder / "absent.onnx", self.folder / "out"], "absent.onnx")
        self.fails(["convert", self.folder, self.folder / "out"], str(self.folder))

    def test_pytorch_files(self):
        for content in (b"PK\x03\x04" + bytes(100), b"\x80\x02" + bytes(100)):
            source = self.write("model.pth", content)
            self.fails(["convert", source, self.folder / "out"], str(source), "PyTorch", "not executed",
                       "examples/pth_to_safetensors.py")

    def test_any_damage_gives_one_line(self):
        """Bytes changed anywhere but in the weights' values: converted all the same, or refused."""
        style = Style(split="computed", shuffle="computed", constants="node")
        content = Writer(STATE, style).finish().bytes()
        end = content.index(STATE["conv1.0.weight"].tobytes())
        generator = random.Random(1)
        for _ in range(150):
            damaged = bytearray(content)
            for _ in range(generator.choice((1, 1, 3))):
                damaged[generator.randrange(end)] = generator.randrange(256)
            result = self.cli("convert", self.write("damaged.onnx", bytes(damaged)), self.folder / "out.safetensors")
            self.assertIn(result.returncode, (0, 1), result.stderr)
            if result.returncode == 1:
                self.assertRegex(result.stderr.decode(errors="replace"), r"\Ashufflenet: error: [^\n]+\n\Z")


class VerifyTest(OnnxTest):
    def setUp(self):
        super().setUp()
        self.onnx = self.write("m.onnx", Writer(STATE, Style(folded=True)).finish().bytes())
        self.weights = self.write("w.safetensors", safetensors(STATE))
        self.verify = ["verify", MODEL, "--weights", self.weights, "--onnx", self.onnx]

    OUTPUTS = {"logits": [10], "stage2": [48, 8, 8], "stage3": [96, 4, 4], "stage4": [192, 2, 2], "conv5": [1024, 2, 2]}

    def check(self, report):
        self.assertEqual({o["output"]: o["shape"] for o in report["outputs"]}, self.OUTPUTS)
        self.assertTrue(report["passed"])
        for output in report["outputs"]:
            self.assertTrue(0 < output["relative"] <= report["tolerance"], output)
            self.assertTrue(0 < output["absolute"] and 0 < output["ulp"], output)
            self.assertIn(output["worst_input"], report["inputs"])

    def test_reference(self):
        report = json.loads(self.succeeds(*self.verify, "--reference", "--json"))
        self.assertEqual((report["model"], report["against"]["name"]), (MODEL, "reference"))
        self.assertEqual(report["against"]["weights"], str(self.onnx))
        self.assertEqual(report["inputs"], ["random 1", "random 2", "random 3"])
        self.check(report)
        text = self.succeeds(*self.verify, "--reference")
        for word in ("reference with the weights of", *self.OUTPUTS, "48x8x8", "within the tolerance"):
            self.assertIn(word, text)

    def test_inputs(self):
        np.save(self.folder / "x.npy", np.concatenate([INPUT, -INPUT]))
        image = self.write("image.ppm", b"P6\n90 70\n255\n" + bytes(i * 7 % 256 for i in range(3 * 90 * 70)))
        report = json.loads(self.succeeds(*self.verify, "--reference", "--json", "--input", self.folder / "x.npy", image))
        self.assertEqual(report["inputs"][3:], [f"{self.folder}/x.npy[0]", f"{self.folder}/x.npy[1]", str(image)])
        self.check(report)
        spoilt = INPUT.copy()
        spoilt[0, 1, 2, 3] = np.inf
        np.save(self.folder / "x.npy", spoilt)
        self.fails([*self.verify, "--reference", "--input", self.folder / "x.npy"],
                   "x.npy: expected finite values, found infinity at image 0, channel 1, row 2, column 3")

    def test_differences_are_found(self):
        """One weight of the last stage, an ULP too large: nothing; a thousandth: an error in what comes after it."""
        name = "stage4.3.branch2.5.weight"
        for factor, passes in ((1 + 2.0**-22, True), (1.3, False)):
            state = {**STATE, name: STATE[name].copy()}
            state[name][0] *= np.float32(factor)
            self.weights.write_bytes(safetensors(state))
            result = self.cli(*self.verify, "--reference", "--json")
            report = json.loads(result.stdout)
            self.assertEqual((result.returncode, report["passed"]), (0, True) if passes else (1, False))
            relative = {o["output"]: o["relative"] for o in report["outputs"]}
            self.assertLess(relative["stage3"], report["tolerance"])
            self.assertEqual(relative["stage4"] > report["tolerance"], not passes)
        self.fails([*self.verify, "--reference"], str(self.onnx), "differs by", "of its range", "expected at most",
                   stdout="stage4")
        self.succeeds(*self.verify, "--reference", "--tolerance", "1")

    def test_tolerance(self):
        self.fails([*self.verify, "--reference", "--tolerance", "0"], "expected at most 0.00e+00", stdout="logits")
        strict = json.loads(self.succeeds(*self.verify, "--reference", "--json"))["tolerance"]
        self.weights.write_bytes(safetensors({k: v.astype(np.float16) for k, v in STATE.items()}))
        report = json.loads(self.succeeds(*self.verify, "--reference", "--json"))
        self.assertGreater(report["tolerance"], 100 * strict)
        self.assertGreater(max(o["relative"] for o in report["outputs"]), strict)

    def test_megvii(self):
        self.onnx.write_bytes(MegviiWriter(MegviiTest.WEIGHTS, MegviiTest.STYLE).finish().bytes())
        self.succeeds("convert", self.onnx, self.weights)
        self.check(json.loads(self.succeeds(*self.verify, "--reference", "--json")))

    def test_bad_arguments(self):
        run = ["verify", MODEL, "--weights", self.weights]
        other = self.write("other.onnx", Writer(STATE, Style(size=(64, 64), batch="n")).finish().bytes())
        fewer = {**STATE, "fc.weight": STATE["fc.weight"][:7], "fc.bias": STATE["fc.bias"][:7]}
        seven = self.write("seven.onnx", Writer(fewer, Style()).finish().bytes())
        self.succeeds(*run, "--onnx", other, "--reference")
        self.fails([*run, "--onnx", seven], str(seven), "10 classes", "found 7")
        self.fails([*run, "--onnx", self.folder / "absent.onnx"], "absent.onnx")
        self.fails([*run, "--onnx", self.weights], str(self.weights), "expected an ONNX file")
        self.fails(["verify", "nope", "--onnx", self.onnx], "nope")
        for library in (self.folder / "absent.so", "libm.so.6"):
            self.fails([*run, "--onnx", self.onnx, "--onnxruntime", library], str(library))
        self.assertEqual(self.cli(*run).returncode, 2)
        self.assertEqual(self.cli(*run, "--onnx", self.onnx, "--tolerance", "-1").returncode, 2)

    def test_another_size(self):
        graph = Writer(STATE, Style(size=(96, 64), batch="n", split="computed", shuffle="computed")).finish()
        self.onnx.write_bytes(graph.bytes())
        self.fails(self.verify, str(self.onnx), "expected input 64x64", "found 96x64")

    def test_onnxruntime(self):
        libraries = sorted(ROOT.glob("build/peers-venv/lib/*/site-packages/onnxruntime/capi/libonnxruntime.so.*"))
        if not libraries or ARGUMENTS.emulator:
            self.skipTest("no ONNX Runtime in build/peers-venv, or none that an emulated program could load")
        styles = ConvertTest.STYLES | {"half": Style(dtype="float16"), "half cast": Style(dtype="float16", cast=True)}
        for name, style in styles.items():
            with self.subTest(name):
                self.onnx.write_bytes(Writer(STATE, style).finish().bytes())
                report = json.loads(self.succeeds(*self.verify, "--onnxruntime", libraries[0], "--json"))
                self.assertEqual(report["against"]["name"], "ONNX Runtime")
                self.check(report)
        self.onnx.write_bytes(MegviiWriter(MegviiTest.WEIGHTS, MegviiTest.STYLE).finish().bytes())
        self.succeeds("convert", self.onnx, self.weights)
        self.check(json.loads(self.succeeds(*self.verify, "--onnxruntime", libraries[0], "--json")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shufflenet", required=True, help="the program")
    parser.add_argument("--emulator", default="", help="command that runs the program, e.g. 'qemu-aarch64 -L DIR'")
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    ARGUMENTS.shufflenet = os.path.abspath(ARGUMENTS.shufflenet)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
