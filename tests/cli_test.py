#!/usr/bin/env python3
"""The command line from outside: exit status, the line on stderr, what is printed and which files appear.

    python3 tests/cli_test.py --shufflenet build/x86/bin/shufflenet [--shared ../shared/data] [unittest arguments]

Needs Python's standard library only.
"""

import argparse
import array
import csv
import fcntl
import functools
import io
import json
import math
import os
import pathlib
import pty
import random
import re
import resource
import select
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest
import zlib

ARGUMENTS = argparse.Namespace(shufflenet="", shared="", emulator="")

DEFAULT = "cifar10_x0_5"
DEFAULT_SIZE, DEFAULT_CLASSES = 64, 10
LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
UNITS = (4, 8, 4)
# Channels of stages 2, 3, 4 and of conv5; multiply-adds and parameters at 224x224 with 1000 classes.
NETWORKS = {
    "shufflenet_v2_x0_5": ((48, 96, 192, 1024), 41, 1_366_792),
    "shufflenet_v2_x1_0": ((116, 232, 464, 1024), 146, 2_278_604),
    "shufflenet_v2_x1_5": ((176, 352, 704, 1024), 299, 3_503_624),
    "shufflenet_v2_x2_0": ((244, 488, 976, 2048), 591, 7_393_996),
}
COMMANDS = ("list", "run", "classify", "info", "convert", "verify", "completion", "manual")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5625608\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


# Files, made by hand


def npy(shape, data=None, descr="<f4", fortran=False, version=1, header=None):
    """A .npy file; `data`: bytes, by default as many zeros as the shape says."""
    if header is None:
        header = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" % (descr, fortran, tuple(shape))
    text = header.encode() + b"\n"
    if data is None:
        data = bytes(4 * math.prod(shape))
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text + data


def random_input(shape, seed=1):
    generator = random.Random(seed)
    return npy(shape, array.array("f", [generator.gauss(0, 1) for _ in range(math.prod(shape))]).tobytes())


def read_npy(path):
    with open(path, "rb") as file:
        content = file.read()
    assert content[:8] == b"\x93NUMPY\x01\x00", content[:8]
    (length,) = struct.unpack("<H", content[8:10])
    header = eval(content[10 : 10 + length])  # A dict literal; the file is our own.
    assert header["descr"] == "<f4" and header["fortran_order"] is False, header
    values = array.array("f", content[10 + length :])
    assert len(values) == math.prod(header["shape"])
    return header["shape"], values


def safetensors(tensors):
    """`tensors`: name to (dtype, shape, bytes)."""
    header, data = {}, b"".join(content for _, _, content in tensors.values())
    at = 0
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(content)]}
        at += len(content)
    return raw_safetensors(json.dumps(header), data)


def raw_safetensors(header, data=b"", length=None):
    text = header.encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def read_safetensors(path):
    with open(path, "rb") as file:
        content = file.read()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    data = content[8 + length :]
    return {k: (v["dtype"], tuple(v["shape"]), data[slice(*v["data_offsets"])]) for k, v in header.items()}


def f32(values):
    return array.array("f", values).tobytes()


def state_dict(network, classes, seed=1):
    """Random weights with torchvision's names, as a dict for safetensors()."""
    generator = random.Random(seed)
    pattern = array.array("f", [generator.uniform(-1, 1) for _ in range(4099)])
    tensors = {}

    def weight(name, out, inputs, kernel):
        count = out * inputs * kernel * kernel
        bound = math.sqrt(6 / (inputs * kernel * kernel))
        scaled = array.array("f", [bound * v for v in pattern])
        values = (scaled * (count // len(scaled) + 1))[:count]
        tensors[name + ".weight"] = ("F32", (out, inputs, kernel, kernel), values.tobytes())

    def norm(name, channels):
        for key, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            tensors[f"{name}.{key}"] = ("F32", (channels,), f32([value] * channels))
        tensors[name + ".num_batches_tracked"] = ("I64", (), struct.pack("<q", 7))

    def conv(name, index, out, inputs, kernel):
        weight(f"{name}.{index}", out, inputs, kernel)
        norm(f"{name}.{index + 1}", out)

    channels = NETWORKS[network][0]
    conv("conv1", 0, 24, 3, 3)
    before = 24
    for stage, (units, total) in enumerate(zip(UNITS, channels), start=2):
        half = total // 2
        for unit in range(units):
            name = f"stage{stage}.{unit}"
            inputs = before if unit == 0 else half
            if unit == 0:
                conv(name + ".branch1", 0, inputs, 1, 3)
                conv(name + ".branch1", 2, half, inputs, 1)
            conv(name + ".branch2", 0, half, inputs, 1)
            conv(name + ".branch2", 3, half, 1, 3)
            conv(name + ".branch2", 5, half, half, 1)
        before = total
    conv("conv5", 0, channels[3], before, 1)
    weight("fc", classes, channels[3], 1)
    dtype, shape, data = tensors["fc.weight"]
    tensors["fc.weight"] = (dtype, shape[:2], data)
    tensors["fc.bias"] = ("F32", (classes,), f32([0] * classes))
    return tensors


def ppm(width, height, seed=1):
    """A random image as PPM file, and its pixels."""
    pixels = random.Random(seed).randbytes(3 * width * height)
    return b"P6\n%d %d\n255\n" % (width, height) + pixels, pixels


def png(width, height, pixels, orientation):
    """RGB, with EXIF data."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + pixels[3 * width * y : 3 * width * (y + 1)] for y in range(height))
    exif = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"eXIf", exif) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def normalised(pixels):
    """Interleaved RGB bytes to planes of floats, as the default model wants them."""
    return [(pixels[i] / 255 - MEAN[c]) / STD[c] for c in range(3) for i in range(c, len(pixels), 3)]


def softmax(logits):
    largest = max(logits)
    powers = [math.exp(value - largest) for value in logits]
    return [power / sum(powers) for power in powers]


# The program


class CliTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="shufflenet-cli-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return self.path(name)

    def cli(self, *arguments, isa=None, log=None, more_environment=None, through=(), **options):
        environment = {k: v for k, v in os.environ.items() if k not in ("SHUFFLENET_ISA", "SHUFFLENET_LOG")}
        environment.update(more_environment or {})
        if isa is not None:
            environment["SHUFFLENET_ISA"] = isa
        if log is not None:
            environment["SHUFFLENET_LOG"] = log
        options.setdefault("stdout", subprocess.PIPE)
        command = [*through, *shlex.split(ARGUMENTS.emulator), ARGUMENTS.shufflenet, *map(str, arguments)]
        return subprocess.run(command, stderr=subprocess.PIPE, env=environment, timeout=600, **options)

    def succeeds(self, *arguments, **options):
        result = self.cli(*arguments, **options)
        self.assertEqual((result.returncode, result.stderr.decode()), (0, ""), arguments)
        return result.stdout.decode() if result.stdout is not None else ""

    def fails(self, status, arguments, *words, **options):
        """One line on stderr that has all the words, nothing on stdout."""
        result = self.cli(*arguments, **options)
        line = result.stderr.decode(errors="replace")
        self.assertEqual(result.returncode, status, (arguments, line))
        self.assertRegex(line, r"\Ashufflenet: error: [^\n]+\n\Z", arguments)
        for word in words:
            self.assertIn(word, line, arguments)
        self.assertFalse(result.stdout, arguments)

    def assert_close(self, expected, found, tolerance):
        self.assertEqual(len(expected), len(found))
        spread = max(expected) - min(expected)
        self.assertLessEqual(max(abs(a - b) for a, b in zip(expected, found)), tolerance * spread)

    def models(self, **options):
        return json.loads(self.succeeds("list", "--json", **options))

    def usable_isas(self):
        return [isa for isa in self.models()[0]["targets"] if self.models(isa=isa)[0]["isa"] == isa]

    def require(self, model):
        if model not in [m["name"] for m in self.models()]:
            self.skipTest(f"{model} is not compiled in")


class UsageTest(CliTest):
    def test_help(self):
        overview = self.succeeds("--help")
        self.assertEqual(overview, self.succeeds("-h"))
        for command in COMMANDS:
            self.assertIn(command, overview)
            text = self.succeeds(command, "--help")
            self.assertIn(f"Usage: shufflenet {command}", text)
            self.assertRegex(text, rf"Examples?:\n(.*\n)*  .*shufflenet {command}")

    def test_version(self):
        model = next(m for m in self.models() if m["default"])
        lines = self.succeeds("--version").splitlines()
        with open(os.path.join(os.path.dirname(__file__), "..", "CMakeLists.txt")) as file:
            version = re.search(r"project\(ShuffleNet VERSION (\S+)", file.read())[1]
        self.assertEqual(lines[0], f"shufflenet {version}")
        self.assertRegex(lines[1], r"\Akernels: Halide \d+\.\d+\.\d+, LLVM \d[\d.]*\Z")
        self.assertEqual(lines[2:], ["targets: " + ",".join(model["targets"]), "runs on: " + model["isa"]])
        plainest = self.models()[0]["targets"][0]
        self.assertIn(f"runs on: {plainest}", self.succeeds("--version", isa=plainest))
        self.assertIn("SHUFFLENET_ISA=mmx", self.succeeds("--version", isa="mmx"))

    def test_bad_usage(self):
        run = ("run", "--model", DEFAULT, "--input", "x.npy", "--output", "y.npy")
        table = [
            ((), "command"),
            (("frobnicate",), "frobnicate"),
            (("--frobnicate",), "--frobnicate"),
            (("list", "--frobnicate"), "--frobnicate"),
            (("list", "surplus"), "surplus"),
            (("run",), "--model"),
            (run[:3] + run[5:], "--input"),
            (run[:5], "--output"),
            (run + ("--model", DEFAULT), "--model"),
            (run + ("--threads", "257"), "--threads"),
            (run + ("--threads", "-1"), "--threads"),
            (run + ("--threads", "two"), "--threads"),
            (run + ("--threads",), "--threads"),
            (run + ("--features", "stage2"), "stage2"),
            (run + ("--features", "stage2="), "stage2="),
            (run + ("--features", "=f.npy"), "=f.npy"),
            (run + ("--features", "stage2=y.npy"), "y.npy"),
            (run + ("--features", "stage2=./y.npy"), "y.npy"),
            (run + ("--features", "stage2=f.npy", "--features", "conv5=" + os.path.abspath("f.npy")), "f.npy"),
            (("classify",), "images"),
            (("classify", "-", "-"), "standard input"),
            (("classify", "-", "--files-from", "-"), "standard input"),
            (("classify", "--json", "--csv", "a.jpg"), "--csv"),
            (("classify", "--peak", "--csv", "a.jpg"), "--csv"),
            (("classify", "--top", "0", "a.jpg"), "--top"),
            (("classify", "--top", "-3", "a.jpg"), "--top"),
            (("classify", "--top", "many", "a.jpg"), "--top"),
            (("classify", "--threads", "300", "a.jpg"), "--threads"),
            (("classify", "--json", "--peak", "a.jpg"), "--peak"),
            (("info",), "model"),
            (("convert", "in.safetensors"), "output"),
            (("verify", DEFAULT), "--onnx"),
            (("verify", "--onnx", "m.onnx"), "model"),
            (("verify", DEFAULT, "--onnx", "m.onnx", "--tolerance", "small"), "--tolerance"),
            (("verify", DEFAULT, "--onnx", "m.onnx", "--reference", "--onnxruntime", "lib.so"), "--reference"),
            (("convert", "--f16", "--f32", "in.safetensors", "out.safetensors"), "--f16"),
            (("completion",), "shell"),
            (("completion", "csh"), "csh"),
            (("manual", "surplus"), "surplus"),
        ]
        for arguments, word in table:
            with self.subTest(arguments=arguments):
                self.fails(2, arguments, word, "--help")

    def test_names_that_do_not_exist(self):
        table = [
            (("run", "--model", "nope", "--input", "x.npy", "--output", "y.npy"), DEFAULT),
            (("classify", "--model", "nope", "a.jpg"), DEFAULT),
            (("info", "nope"), DEFAULT),
            (("info", "test_prime"), DEFAULT),
            (("convert", "--network", "nope", "in.safetensors", "out.safetensors"), "shufflenet_v2_x0_5"),
        ]
        for arguments, known in table:
            with self.subTest(arguments=arguments):
                self.fails(1, arguments, "nope" if "nope" in arguments else "test_prime", known)

    def test_empty_paths(self):
        image = self.write("image.ppm", ppm(64, 64)[0])
        source = self.write("x.npy", npy((1, 3, 64, 64)))
        weights = self.write("w.safetensors", safetensors(state_dict("shufflenet_v2_x0_5", 3)))
        run = ("run", "--model", DEFAULT)
        for arguments in (("classify", ""), ("classify", "--weights", "", image), ("classify", "--labels", "", image),
                          ("classify", "--metadata", "", image), ("classify", "--files-from", ""),
                          run + ("--input", "", "--output", "y.npy"), run + ("--input", source, "--output", ""),
                          ("convert", "", "out"), ("convert", weights, "")):
            with self.subTest(arguments=arguments):
                self.fails(1, arguments, 'error: "": cannot be ', cwd=self.folder)
        self.assertEqual(sorted(os.listdir(self.folder)), ["image.ppm", "w.safetensors", "x.npy"])

    def test_stdout_that_cannot_be_written(self):
        image = self.write("image.ppm", ppm(64, 64)[0])
        for arguments in (["list"], ["list", "--json"], ["--help"], ["--version"], ["run", "--help"], ["info", DEFAULT],
                          ["classify", image], ["classify", "--json", image], ["classify", "--csv", image], ["manual"],
                          ["completion", "bash"]):
            with self.subTest(arguments=arguments), open("/dev/full", "wb") as full:
                self.fails(1, arguments, "standard output", stdout=full)
        with open(self.path("limited"), "wb") as limited:
            self.fails(1, ["list", "--json"], "standard output", stdout=limited,
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)))


class ListTest(CliTest):
    def test_json(self):
        models = self.models()
        default = [m for m in models if m["default"]]
        self.assertEqual([m["name"] for m in default], [DEFAULT])
        for key, value in {"network": "shufflenet_v2_x0_5", "input": [64, 64], "classes": 10,
                           "embedded_weights": True}.items():
            self.assertEqual(default[0][key], value)
        self.assertIn(default[0]["targets"], [["sse41", "avx2", "avx512", "avx512x2"], ["neon"]])
        for model in models:
            if model["name"] in NETWORKS:
                self.assertEqual((model["network"], model["input"], model["classes"], model["embedded_weights"]),
                                 (model["name"], [224, 224], 1000, False))

    def test_table(self):
        rows = self.succeeds("list").splitlines()
        self.assertEqual(len(rows), 1 + len(self.models()))
        self.assertTrue(any(r.startswith(DEFAULT) and "64x64" in r and "embedded" in r for r in rows), rows)

    def test_forced_instruction_set(self):
        self.assertIn(self.models()[0]["targets"][0], self.usable_isas())
        for isa in self.models()[0]["targets"]:
            model = self.models(isa=isa)[0]
            if model["isa"] is None:
                self.assertIn(isa, model["isa_error"])
                self.assertIn(model["isa_error"], self.succeeds("list", isa=isa))
                self.fails(1, ["classify", self.write("i.ppm", ppm(64, 64)[0])], isa, isa=isa)
            else:
                self.assertEqual(model["isa"], isa)
                self.assertNotIn("isa_error", model)
        for command in (["list"], ["list", "--json"], ["classify", self.write("i.ppm", ppm(64, 64)[0])]):
            self.fails(1, command, "SHUFFLENET_ISA", "mmx", isa="mmx")


class RunTest(CliTest):
    def run_model(self, *more, model=DEFAULT, source=None, **options):
        source = source or self.write("x.npy", random_input((1, 3, DEFAULT_SIZE, DEFAULT_SIZE)))
        arguments = ["run", "--model", model, "--input", source, "--output", self.path("y.npy"), *more]
        self.assertEqual(self.succeeds(*arguments, **options), "")
        return read_npy(self.path("y.npy"))

    def test_batches_and_threads(self):
        planes = [random_input((1, 3, 64, 64), seed)[-4 * 3 * 64 * 64 :] for seed in range(3)]
        source = self.write("batch.npy", npy((3, 3, 64, 64), b"".join(planes)))
        shape, together = self.run_model(source=source)
        self.assertEqual(shape, (3, DEFAULT_CLASSES))
        for threads in ("0", "2", "3", "64"):
            self.assertEqual(self.run_model("--threads", threads, source=source)[1], together)
        for i, plane in enumerate(planes):
            _, alone = self.run_model(source=self.write("one.npy", npy((1, 3, 64, 64), plane)))
            self.assertEqual(alone, together[10 * i : 10 * i + 10])

    def test_instruction_sets_agree(self):
        results = [self.run_model(isa=isa)[1] for isa in self.usable_isas()]
        for result in results:
            self.assert_close(results[0], result, 1e-5)

    def test_values_that_are_not_finite(self):
        """They are in the outputs of their image, and noted; a program that reads the file finds them."""
        good = array.array("f", random_input((3, 3, 64, 64))[-4 * 9 * 64 * 64 :])
        for value, name in ((math.nan, "NaN"), (-math.inf, "-infinity")):
            values = good[:]
            values[(1 * 3 + 2) * 64 * 64 + 5 * 64 + 63] = value
            source = self.write("x.npy", npy((3, 3, 64, 64), values.tobytes()))
            result = self.cli("run", "--model", DEFAULT, "--input", source, "--output", self.path("y.npy"))
            self.assertEqual(result.returncode, 0)
            self.assertEqual(result.stderr.decode(), f"shufflenet: note: {source}: {name} at image 1, channel 2, row 5, "
                             "column 63: outputs that depend on it are not finite\n")
            _, logits = read_npy(self.path("y.npy"))
            finite = [math.isfinite(logit) for logit in logits]
            self.assertEqual(finite, [True] * 10 + [False] * 10 + [True] * 10)

    def test_weights_that_overflow(self):
        large = state_dict("shufflenet_v2_x0_5", 5)
        large["fc.bias"] = ("F32", (5,), f32([3e38] * 5))
        dtype, shape, _ = large["fc.weight"]
        large["fc.weight"] = (dtype, shape, f32([3e38] * math.prod(shape)))
        source = self.write("x.npy", random_input((1, 3, 64, 64)))
        result = self.cli("run", "--model", DEFAULT, "--input", source, "--output", self.path("y.npy"), "--weights",
                          self.write("w.safetensors", safetensors(large)))
        self.assertEqual((result.returncode, result.stderr.decode()), (
            0, f"shufflenet: note: {self.path('y.npy')}: the network's output is not finite: its weights overflow\n"))

    def test_features(self):
        shapes = {"stage2": (1, 48, 8, 8), "stage3": (1, 96, 4, 4), "stage4": (1, 192, 2, 2), "conv5": (1, 1024, 2, 2)}
        more = [word for name in shapes for word in ("--features", f"{name}={self.path(name + '.npy')}")]
        _, plain = self.run_model()
        _, logits = self.run_model(*more)
        self.assert_close(plain, logits, 1e-5)
        for name, shape in shapes.items():
            found, values = read_npy(self.path(name + ".npy"))
            self.assertEqual(found, shape)
            self.assertTrue(all(map(math.isfinite, values)) and len(set(values)) > 1, name)
        pooled = [sum(values[4 * c : 4 * c + 4]) / 4 for c in range(1024)]
        embedded = read_safetensors(self.converted_default())
        weight = array.array("f", embedded["fc.weight"][2])
        bias = array.array("f", embedded["fc.bias"][2])
        expected = [bias[k] + sum(weight[1024 * k + c] * pooled[c] for c in range(1024)) for k in range(10)]
        self.assert_close(expected, logits, 1e-5)

    def converted_default(self):
        source = os.path.join(os.path.dirname(__file__), "..", "models", DEFAULT + ".safetensors")
        self.succeeds("convert", source, self.path("default.safetensors"))
        return self.path("default.safetensors")

    def test_weight_file_replaces_embedded_weights(self):
        _, embedded = self.run_model()
        _, same = self.run_model("--weights", self.converted_default())
        self.assertEqual(embedded, same)

    def test_class_count_is_the_weight_files(self):
        weights = self.write("w.safetensors", safetensors(state_dict("shufflenet_v2_x0_5", 7)))
        shape, logits = self.run_model("--weights", weights)
        self.assertEqual(shape, (1, 7))
        self.assertGreater(len(set(logits)), 1)

    def test_full_size_networks(self):
        source = self.write("x.npy", random_input((1, 3, 224, 224)))
        for network in NETWORKS:
            self.require(network)
            with self.subTest(network=network):
                self.fails(1, ["run", "--model", network, "--input", source, "--output", self.path("z.npy")], network,
                           "--weights")
                weights = self.write("w.safetensors", safetensors(state_dict(network, 5)))
                shape, logits = self.run_model("--weights", weights, model=network, source=source)
                self.assertEqual(shape, (1, 5))
                self.assertTrue(all(map(math.isfinite, logits)) and len(set(logits)) == 5)
        self.assertFalse(os.path.exists(self.path("z.npy")))

    def test_bad_input(self):
        good = npy((1, 3, 64, 64))
        dict_of = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"
        table = {
            "float64": (npy((1, 3, 64, 64), bytes(8 * 3 * 64 * 64), descr="<f8"), "<f8"),
            "half": (npy((1, 3, 64, 64), bytes(2 * 3 * 64 * 64), descr="<f2"), "<f2"),
            "integers": (npy((1, 3, 64, 64), descr="<i4"), "<i4"),
            "big-endian": (npy((1, 3, 64, 64), descr=">f4"), ">f4"),
            "fortran": (npy((1, 3, 64, 64), fortran=True), "fortran_order"),
            "rank 3": (npy((3, 64, 64)), "[3, 64, 64]"),
            "rank 5": (npy((1, 1, 3, 64, 64)), "[1, 1, 3, 64, 64]"),
            "scalar": (npy(()), "[]"),
            "no images": (npy((0, 3, 64, 64)), "[0, 3, 64, 64]"),
            "grey": (npy((1, 1, 64, 64)), "[1, 1, 64, 64]"),
            "nhwc": (npy((1, 64, 64, 3)), "[1, 64, 64, 3]"),
            "height": (npy((1, 3, 63, 64)), "[1, 3, 63, 64]"),
            "width": (npy((1, 3, 64, 65)), "[1, 3, 64, 65]"),
            "truncated": (good[:-4], "truncated"),
            "trailing": (good + b"\0", "trailing"),
            "no data": (good[: -4 * 3 * 64 * 64], "truncated"),
            "empty": (b"", "empty"),
            "magic": (b"PK\x03\x04" + good, ".npy", "zip"),
            "image": (b"\xff\xd8\xff\xe0" + good, ".npy", "a JPEG image"),
            "pointer": (LFS_POINTER, ".npy", "git lfs pull"),
            "half a header": (good[:40], "header"),
            "version": (npy((1, 3, 64, 64), version=9), "version"),
            "not a dict": (npy((), header="[1, 2, 3]"), "header"),
            "two shapes": (npy((), header="{'shape': (1,), 'shape': (1,)}"), "shape"),
            "overflow": (npy((), header=dict_of % "(4611686018427387904, 3, 64, 64)"), "too large"),
            "negative": (npy((), header=dict_of % "(-1, 3, 64, 64)"), "negative"),
        }
        run = ["run", "--model", DEFAULT, "--output", self.path("y.npy")]
        for name, (content, *words) in table.items():
            with self.subTest(name):
                source = self.write("bad.npy", content)
                self.fails(1, [*run, "--input", source], source, *words)
        for source in (self.path("absent.npy"), self.folder):
            self.fails(1, [*run, "--input", source], source)
        self.assertEqual(os.listdir(self.folder), ["bad.npy"])


class OutputTest(CliTest):
    """Files appear as a whole or not at all."""

    def commands(self):
        source = self.write("x.npy", npy((1, 3, 64, 64)))
        weights = self.write("w.safetensors", safetensors(state_dict("shufflenet_v2_x0_5", 3)))
        return [
            lambda output: ["run", "--model", DEFAULT, "--input", source, "--output", output],
            lambda output: ["convert", weights, output],
        ]

    def test_places_that_cannot_be_written(self):
        for command in self.commands():
            before = sorted(os.listdir(self.folder))
            for output in (self.path("missing/y"), self.folder, "/dev/full", self.path("x.npy") + "/y"):
                with self.subTest(command=command(output)):
                    self.fails(1, command(output), output)
            self.assertEqual(sorted(os.listdir(self.folder)), before)

    def test_features_on_a_full_disk(self):
        run = self.commands()[0]
        self.fails(1, [*run(self.path("y.npy")), "--features", "stage2=/dev/full"], "/dev/full")
        self.assertFalse(os.path.exists(self.path("y.npy")))

    def test_all_or_none(self):
        """An output that cannot be written leaves the others as they were, whichever comes first."""
        run = self.commands()[0]
        old = [self.write(name, b"precious") for name in ("y.npy", "s2.npy", "s3.npy")]
        before = sorted(os.listdir(self.folder))
        features = [f"stage{i + 1}={path}" for i, path in enumerate(old) if i > 0]
        for bad in (self.path("missing/f"), self.folder, "/dev/full"):
            for arguments in ([*run(old[0]), "--features", features[0], "--features", f"conv5={bad}"],
                              [*run(old[0]), "--features", f"conv5={bad}", "--features", features[1]],
                              [*run(bad), "--features", features[0], "--features", features[1]]):
                with self.subTest(arguments=arguments):
                    self.fails(1, arguments, bad)
                    self.assertEqual(sorted(os.listdir(self.folder)), before)
                    for path in old:
                        with open(path, "rb") as file:
                            self.assertEqual(file.read(), b"precious")
        self.succeeds(*run("/dev/null"), "--features", "stage2=/dev/null")
        self.succeeds(*run(old[0]), "--features", features[0], "--features", features[1])
        self.assertEqual([read_npy(path)[0][1] for path in old], [DEFAULT_CLASSES, 48, 96])

    def test_outputs_by_links(self):
        os.symlink("y.npy", self.path("link.npy"))
        run = self.commands()[0](self.path("y.npy"))
        self.fails(2, [*run, "--features", "stage2=" + self.path("link.npy")], "link.npy")
        self.write("y.npy", b"precious")
        os.link(self.path("y.npy"), self.path("hard.npy"))
        for other in ("link.npy", "hard.npy"):
            self.fails(2, [*run, "--features", "stage2=" + self.path(other)], other)

    def in_mounts(self, mounts, then='exec "$@"'):
        """Words before a command that run it in a namespace of its own, in which the first script mounts."""
        words = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
        try:
            probe = [*words, "mount", "-t", "tmpfs", "none", self.folder]
            possible = subprocess.run(probe, stderr=subprocess.DEVNULL).returncode == 0
        except FileNotFoundError:
            possible = False
        if not possible:
            self.skipTest("this user or container may not mount")
        return [*words, "sh", "-c", f"{mounts} && {then}", "sh"]

    def written_in_place(self, command, old, reason, **options):
        """What stands in the file before, and what it is, stays; its content is new, and one line says how."""
        status = os.stat(old)
        result = self.cli(*command, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        note = rf"\Ashufflenet: note: {re.escape(command[-1])}: written in place: [^\n]*{reason}[^\n]*\n\Z"
        self.assertRegex(result.stderr.decode(), note)
        after = os.stat(old)
        for key in ("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid"):
            self.assertEqual(getattr(status, key), getattr(after, key), key)
        self.assertGreater(after.st_size, 100)

    def test_a_file_that_is_mounted(self):
        for command in self.commands():
            old, mounted = self.write("old", b"precious"), self.write("mounted", b"")
            before = sorted(os.listdir(self.folder))
            self.written_in_place(command(mounted), old, "busy",
                                  through=self.in_mounts(f"mount --bind '{old}' '{mounted}'"))
            self.assertEqual(os.stat(mounted).st_size, 0)
            self.assertEqual(sorted(os.listdir(self.folder)), before)

    def test_a_folder_that_is_read_only(self):
        for command in self.commands():
            old = self.write("old", b"precious")
            os.makedirs(self.path("folder"), exist_ok=True)
            mounted = self.write("folder/mounted", b"")
            script = f"mount -t tmpfs none '{self.path('folder')}' && touch '{mounted}' && " \
                     f"mount --bind '{old}' '{mounted}' && mount -o remount,ro,bind '{self.path('folder')}'"
            self.written_in_place(command(mounted), old, "Read-only file system", through=self.in_mounts(script))

    def test_a_folder_of_somebody_else(self):
        nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        os.chmod(self.folder, 0o755)
        try:
            self.succeeds("--version", **nobody)
        except (PermissionError, AssertionError) as error:
            self.skipTest(f"user 65534 cannot run it: {error}")
        os.mkdir(self.path("folder"))
        for command in self.commands():
            old = self.write("folder/old", b"precious")
            os.chmod(old, 0o666)
            os.chmod(self.path("folder"), 0o555)
            self.addCleanup(os.chmod, self.path("folder"), 0o755)
            self.written_in_place(command(old), old, "Permission denied", **nobody)
            self.fails(1, command(self.path("folder/new")), "folder/new", "Permission denied", **nobody)
            self.assertEqual(os.listdir(self.path("folder")), ["old"])
            os.chmod(self.path("folder"), 0o755)

    def test_a_disk_that_is_full(self):
        """Beside the old file or in place, it is as it was."""
        disk, convert = self.path("disk"), self.commands()[1]
        os.mkdir(disk)
        for names in ("file", "file\nother"):
            mounts = f"mount -t tmpfs -o size=4k none '{disk}' && cd '{disk}' && printf precious > file" + \
                     (" && ln file other" if "other" in names else "")
            report = '"$@"; status=$?; ls -A; cat file; exit $status'
            result = self.cli(*convert(disk + "/file"), through=self.in_mounts(mounts, report))
            self.assertEqual((result.returncode, result.stdout.decode()), (1, names + "\nprecious"))
            self.assertRegex(result.stderr.decode(), r"\Ashufflenet: error: [^\n]*/file: [^\n]*No space left[^\n]*\n\Z")

    def test_disk_that_fills_up(self):
        """A limit on the size of files, where a write stops half-way as on a full disk."""
        for command in self.commands():
            old = self.write("old", b"precious")
            before = sorted(os.listdir(self.folder))
            # A coverage build's counts are files, too.
            no_counts = {"GCOV_PREFIX": self.path("counts/"), "GCOV_ERROR_FILE": "/dev/null"}
            # As a shell starts it, where SIGXFSZ ends a process that does not mind it, and as Python does.
            for restored in (True, False):
                self.fails(1, command(old), old, "File too large", restore_signals=restored, more_environment=no_counts,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)))
            shutil.rmtree(self.path("counts"), ignore_errors=True)
            self.assertEqual(sorted(os.listdir(self.folder)), before)
            with open(old, "rb") as file:
                self.assertEqual(file.read(), b"precious")

    def test_standard_output(self):
        """It is written to from where it stands; nothing else goes there."""
        run, convert = self.commands()
        for command in (run, convert):
            alone = self.path("alone")
            self.succeeds(*command(alone))
            for output in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
                path = self.write("log", b"before")
                with self.subTest(command=command(output)), open(path, "ab") as log:
                    result = self.cli(*command(output), stdout=log)
                    self.assertEqual(result.returncode, 0, result.stderr)
                    with open(path, "rb") as both, open(alone, "rb") as content:
                        self.assertEqual(both.read(), b"before" + content.read())

    def test_a_reader_that_has_gone(self):
        run = [*self.commands()[0](self.path("y.npy")), "--features", "stage2=/dev/stdout"]
        before = sorted(os.listdir(self.folder))
        reader, writer = os.pipe()
        os.close(reader)
        self.fails(1, run, "/dev/stdout", "Broken pipe", stdout=writer)
        os.close(writer)
        self.assertEqual(sorted(os.listdir(self.folder)), before)


class ClassifyTest(CliTest):
    def classify(self, *arguments, **options):
        lines = self.succeeds("classify", "--json", *arguments, **options).splitlines()
        return [json.loads(line) for line in lines]

    def labels_of(self, *arguments):
        (result,) = self.classify("--top", "100", *arguments, self.write("image.ppm", ppm(64, 64)[0]))
        return [guess["label"] for guess in sorted(result["top"], key=lambda guess: guess["class"])]

    def test_json_agrees_with_run(self):
        content, pixels = ppm(64, 64)
        image = self.write("image.ppm", content)
        source = self.write("x.npy", npy((1, 3, 64, 64), f32(normalised(pixels))))
        self.succeeds("run", "--model", DEFAULT, "--input", source, "--output", self.path("y.npy"))
        expected = softmax(read_npy(self.path("y.npy"))[1])
        (result,) = self.classify("--top", "10", image)
        self.assertEqual(list(result), ["file", "top"])
        self.assertEqual(result["file"], image)
        self.assertEqual(sorted(guess["class"] for guess in result["top"]), list(range(10)))
        probabilities = [guess["probability"] for guess in result["top"]]
        self.assertEqual(probabilities, sorted(probabilities, reverse=True))
        self.assertAlmostEqual(sum(probabilities), 1, delta=1e-12)
        for guess in result["top"]:
            self.assertEqual(list(guess), ["class", "label", "probability"])
            self.assertEqual(guess["label"], LABELS[guess["class"]])
            self.assertAlmostEqual(guess["probability"], expected[guess["class"]], delta=1e-5)

    def test_top(self):
        image = self.write("image.ppm", ppm(80, 70)[0])
        (everything,) = self.classify("--top", "1000000", image)
        self.assertEqual(len(everything["top"]), DEFAULT_CLASSES)
        for arguments, count in (([], 5), (["--top", "1"], 1), (["--top", "10"], 10)):
            (result,) = self.classify(*arguments, image)
            self.assertEqual(result["top"], everything["top"][:count])
        self.assertEqual(self.classify("--threads", "2", "--top", "10", image), [everything])

    def test_orientation(self):
        """Photographs are turned by default; the pixels of an upright one make the same result."""
        width, height = 70, 90
        stored, pixels = ppm(width, height)
        at = lambda x, y: pixels[3 * (width * y + x) : 3 * (width * y + x + 1)]
        right, bottom = width - 1, height - 1
        places = {  # Where the file has the pixel that is seen at x, y.
            1: lambda x, y: (x, y), 2: lambda x, y: (right - x, y), 3: lambda x, y: (right - x, bottom - y),
            4: lambda x, y: (x, bottom - y), 5: lambda x, y: (y, x), 6: lambda x, y: (y, bottom - x),
            7: lambda x, y: (right - y, bottom - x), 8: lambda x, y: (right - y, x),
        }
        (lying,) = self.classify("--top", "10", self.write("stored.ppm", stored))
        for orientation, place in places.items():
            with self.subTest(orientation):
                image = self.write("image.png", png(width, height, pixels, orientation))
                w, h = (width, height) if orientation < 5 else (height, width)
                seen = b"".join(at(*place(x, y)) for y in range(h) for x in range(w))
                upright = self.write("upright.ppm", b"P6\n%d %d\n255\n" % (w, h) + seen)
                (expected,) = self.classify("--top", "10", upright)
                (found,) = self.classify("--top", "10", image)
                self.assertEqual(found["top"], expected["top"])
                with open(image, "rb") as file:
                    (found,) = self.classify("--top", "10", "-", stdin=file)
                self.assertEqual(found["top"], expected["top"])
                (found,) = self.classify("--top", "10", "--no-orient", image)
                self.assertEqual(found["top"], lying["top"])
                self.assertEqual(expected["top"] == lying["top"], orientation == 1)

    def test_an_object_for_each_image(self):
        images = [self.write(f"{i}.ppm", ppm(50 + 10 * i, 90, seed=i)[0]) for i in range(3)]
        results = self.classify(*images)
        self.assertEqual([result["file"] for result in results], images)
        self.assertEqual(results, [self.classify(image)[0] for image in images])

    def test_table(self):
        image = self.write("image.ppm", ppm(64, 64)[0])
        rows = self.succeeds("classify", "--top", "2", image, image).splitlines()
        self.assertEqual(rows[0].split(), ["file", "label", "probability", "ms"])
        self.assertEqual(len(rows), 5)
        self.assertRegex(rows[1], rf"^{image}  \w+ +\d+\.\d %  +\d+\.\d\d$")
        peak = self.succeeds("classify", "--peak", image).splitlines()[-1]
        self.assertRegex(peak, r"\d+\.\d\d ms, .* GFLOP/s, \d+ % of the multiply-add peak .*1 thread\)$")

    def test_peak_beside_another_program(self):
        # Which has the CPU nearly for itself: this one waits longer for each of its turns than a measurement takes.
        cpu = min(os.sched_getaffinity(0))
        pin = functools.partial(os.sched_setaffinity, 0, {cpu})
        image = self.write("image.ppm", ppm(64, 64)[0])
        with subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=pin) as other:
            self.addCleanup(other.kill)
            peak = self.succeeds("classify", "--peak", image, preexec_fn=lambda: (pin(), os.nice(15))).splitlines()[-1]
            other.kill()
        share, gflops = re.search(r" (\d+) % of the multiply-add peak measured here \((\d+\.\d) GFLOP/s", peak).groups()
        self.assertGreater(float(gflops), 0)
        self.assertLess(int(share), 120)

    def test_bad_images_do_not_stop_the_others(self):
        good = self.write("good.ppm", ppm(64, 64)[0])
        table = {
            "absent.jpg": None,
            "empty.jpg": b"",
            "text.jpg": b"not an image at all\n",
            "cut.ppm": ppm(64, 64)[0][:-1],
            "garbage.jpg": b"\xff\xd8\xff\xe0" + bytes(range(256)),
            "garbage.png": b"\x89PNG\r\n\x1a\n" + bytes(100),
            "garbage.bmp": b"BM" + bytes(100),
            "huge.ppm": b"P6\n2000000000 2000000000\n255\n",
            "phone.heic": b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(100),
            "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        }
        bad = [self.path(name) if content is None else self.write(name, content) for name, content in table.items()]
        for image in bad:
            with self.subTest(image):
                self.fails(1, ["classify", image], image)
                self.fails(1, ["classify", "--json", image], image)
        for flags in ([], ["--json"], ["--csv"]):
            result = self.cli("classify", "--top", "1", *flags, bad[0], good, *bad[1:], good)
            self.assertEqual(result.returncode, 1)
            self.assertEqual(result.stdout.decode().count(good), 2)
            errors = result.stderr.decode().splitlines()
            self.assertEqual(len(errors), len(bad))
            for image, error in zip(bad, errors):
                self.assertTrue(error.startswith("shufflenet: error: "), error)
                self.assertIn(image, error)

    def test_folder(self):
        os.makedirs(self.path("photos/below/empty"))
        os.makedirs(self.path("photos/.hidden"))
        good = ["photos/a.ppm", "photos/b.PPM", "photos/below/c.pgm", "photos/z.ppm"]
        for name in [*good, "photos/.hidden/h.ppm", "photos/.h.ppm", "elsewhere.ppm"]:
            self.write(name, b"P5\n64 64\n255\n" + bytes(4096) if name.endswith("pgm") else ppm(64, 64, name)[0])
        os.mkfifo(self.path("photos/pipe.jpg"))
        self.write("photos/notes.txt", "not an image")
        arguments = ["classify", "--json", "--top", "1"]
        result = self.cli(*arguments, "photos", "elsewhere.ppm", cwd=self.folder)
        self.assertEqual(result.returncode, 0)
        self.assertEqual([json.loads(line)["file"] for line in result.stdout.splitlines()], [*good, "elsewhere.ppm"])
        self.assertRegex(result.stderr.decode(), r"\Ashufflenet: note: photos: 2 other files skipped \([^;\n]+\)\n\Z")

        self.write("photos/below/broken.jpg", b"not an image")
        result = self.cli(*arguments, "photos", cwd=self.folder)
        self.assertEqual(result.returncode, 1)
        self.assertEqual([json.loads(line)["file"] for line in result.stdout.splitlines()], good)
        self.assertRegex(result.stderr.decode(), r"(?m)^shufflenet: error: photos/below/broken\.jpg: expected a JPEG")

        self.fails(1, [*arguments, "photos/below/empty"], "photos/below/empty", "*.jpg", "found none", cwd=self.folder)
        self.write("photos/below/empty/README", "")
        self.fails(1, [*arguments, "photos/below/empty"], "only 1 other file", cwd=self.folder)
        self.assertEqual(self.succeeds(*arguments, "elsewhere.ppm", cwd=self.folder).count("\n"), 1)

    def test_names_of_images(self):
        content = ppm(64, 64)[0]
        names = [f"photos/{letter}.{suffix}" for letter, suffix in
                 zip("abcdefghijkl", "bmp JFIF jfif JPE jpe jpeg JPG jpg pgm png pnm PPM".split())]
        os.mkdir(self.path("photos"))
        for name in [*names, "photos/jpg", "photos/m.jpg2", "photos/n.jpg~"]:
            self.write(name, content)
        result = self.cli("classify", "--json", "--top", "1", "photos", cwd=self.folder)
        self.assertEqual([json.loads(line)["file"] for line in result.stdout.splitlines()], names)
        self.assertIn("3 other files skipped", result.stderr.decode())
        for name in names:
            self.assertIn("*" + os.path.splitext(name)[1].lower(), result.stderr.decode())

    def test_links_in_folders(self):
        for folder in ("photos/below", "elsewhere/deep", "empty"):
            os.makedirs(self.path(folder))
        for name in ("photos/a.ppm", "photos/below/b.ppm", "elsewhere/c.ppm", "elsewhere/deep/d.ppm"):
            self.write(name, ppm(64, 64, name)[0])
        self.write("elsewhere/notes.txt", "not an image")
        plain = ["photos/a.ppm", "photos/below/b.ppm"]
        followed = ["photos/more/c.ppm", "photos/more/deep/d.ppm"]
        table = {
            "folder": ({"more": "../elsewhere"}, plain + followed, "1 other file skipped"),
            "folder behind two links": ({"more": "way", "way": "../elsewhere"}, plain + followed,
                                        "1 other file and 1 link skipped"),
            "its own folder": ({"more": "."}, plain, "1 link skipped"),
            "folder above": ({"below/up": ".."}, plain, "1 link skipped"),
            "folder beside": ({"again": "below"}, plain, "1 link skipped"),
            "loop of two folders": ({"more": "../elsewhere", "../elsewhere/back": "../photos"}, plain + followed,
                                    "1 other file and 1 link skipped"),
            "all of it": ({"more": "../elsewhere", "below/more": "../../elsewhere/deep"},
                          ["photos/a.ppm", "photos/below/b.ppm", "photos/below/more/d.ppm", "photos/more/c.ppm"],
                          "1 other file skipped"),
            "image": ({"more.ppm": "../elsewhere/c.ppm"}, [*plain, "photos/more.ppm"], None),
            "another name": ({"more": "../elsewhere/c.ppm"}, plain, "1 link skipped"),
            "other file": ({"more.txt": "../elsewhere/notes.txt"}, plain, "1 link skipped"),
            "nowhere": ({"more.ppm": "absent.ppm", "more": "absent"}, plain, "2 links skipped"),
            "itself": ({"more": "more", "more.ppm": "more.ppm"}, plain, "2 links skipped"),
            "hidden": ({".more": "../elsewhere"}, plain, None),
        }
        for name, (links, images, note) in table.items():
            with self.subTest(name):
                for link, to in links.items():
                    os.symlink(to, self.path("photos/" + link))
                result = self.cli("classify", "--json", "--top", "1", "photos", cwd=self.folder)
                for link in links:
                    os.unlink(self.path("photos/" + link))
                self.assertEqual(result.returncode, 0)
                self.assertEqual([json.loads(line)["file"] for line in result.stdout.splitlines()], images)
                expected = "" if note is None else rf"shufflenet: note: photos: {note} \([^\n]+\)\n"
                self.assertRegex(result.stderr.decode(), rf"\A{expected}\Z")
        os.symlink("absent", self.path("empty/link.ppm"))
        self.fails(1, ["classify", "empty"], "empty: expected images", "found only 1 link", cwd=self.folder)
        # The argument itself may be a link.
        os.symlink("photos", self.path("link"))
        found = self.classify("--top", "1", "link", cwd=self.folder)
        self.assertEqual([result["file"] for result in found], ["link/a.ppm", "link/below/b.ppm"])

    def test_folder_that_cannot_be_read(self):
        os.makedirs(self.path("photos/closed"))
        image = self.write("photos/a.ppm", ppm(64, 64)[0])
        os.chmod(self.folder, 0o755)
        os.chmod(self.path("photos/closed"), 0)
        self.addCleanup(os.chmod, self.path("photos/closed"), 0o700)
        # Root reads everything.
        user = {"user": "nobody"} if os.geteuid() == 0 else {}
        try:
            reached = self.cli("--version", **user).returncode == 0
        except PermissionError:
            reached = False
        if not reached:
            self.skipTest("the program lies where only root comes")
        result = self.cli("classify", "--json", self.path("photos"), **user)
        self.assertEqual((result.returncode, json.loads(result.stdout)["file"]), (1, image))
        self.assertIn("photos/closed: cannot be read", result.stderr.decode())

    def test_standard_input(self):
        content, _ = ppm(70, 90)
        image = self.write("image.ppm", content)
        (expected,) = self.classify(image)
        (found,) = self.classify("-", input=content)
        self.assertEqual(found, {**expected, "file": "-"})
        with open(image, "rb") as file:  # A file, from where it stands.
            self.assertEqual(self.classify("-", stdin=file), [found])
        self.write("-", ppm(64, 64, seed=9)[0])
        (dash,) = self.classify("./-", cwd=self.folder)
        self.assertNotEqual(dash["top"], found["top"])
        self.fails(1, ["classify", "-"], "standard input", "empty", input=b"")
        self.fails(1, ["classify", "-"], "standard input", "truncated", input=content[:-1])

    def test_files_from(self):
        images = [self.write(f"{i}.ppm", ppm(64, 64, seed=i)[0]) for i in range(3)]
        os.mkdir(self.path("folder"))
        inside = self.write("folder/in.ppm", ppm(64, 64)[0])
        self.write("-", ppm(64, 64)[0])
        expected = [images[2], images[0], images[1], inside, "./-"]
        lines = "\n".join([images[0], "", images[1] + "\r", self.path("folder"), "-"]).encode()
        for source, options in ((self.write("list", lines), {}), ("-", {"input": lines + b"\n"})):
            found = self.classify("--files-from", source, images[2], cwd=self.folder, **options)
            self.assertEqual([result["file"] for result in found], expected)
        marked = BYTE_ORDER_MARK + (images[0] + "\r\n" + images[1] + "\r\n").encode()
        for source, options in ((self.write("list", marked), {}), ("-", {"input": marked})):
            found = self.classify("--files-from", source, cwd=self.folder, **options)
            self.assertEqual([result["file"] for result in found], images[:2])
        table = {
            "nothing": (b"\n\n", "found none"),
            "NUL": (b"a.ppm\nb\0c.ppm\n", "line 2"),
            "UTF-16": ("a.ppm\n".encode("utf-16"), "UTF-16"),
            "UTF-16 without a mark": ("a.ppm\n".encode("utf-16-le"), "UTF-16"),
            "pointer": (LFS_POINTER, "git lfs pull"),
            "image": (b"\xff\xd8\xff\xe0\0", "a JPEG image"),
        }
        for name, (content, words) in table.items():
            with self.subTest(name):
                self.fails(1, ["classify", "--files-from", self.write("list", content)], self.path("list"), words)
                self.fails(1, ["classify", "--files-from", "-"], "standard input", words, input=content)
        self.fails(1, ["classify", "--files-from", self.path("absent")], self.path("absent"))

    def test_csv(self):
        names = ["plain.ppm", "a,b.ppm", 'quote".ppm', "new\nline.ppm", "return\r.ppm", " blank .ppm"]
        for name in names:
            self.write(name, ppm(64, 64, seed=name)[0])
        labels = [f'class "{i}", or not' for i in range(DEFAULT_CLASSES)]
        arguments = ["--top", "3", "--labels", self.write("labels.txt", "\n".join(labels)), "--", *names]
        text = self.succeeds("classify", "--csv", *arguments, cwd=self.folder)
        rows = list(csv.reader(io.StringIO(text, newline="")))
        self.assertEqual(rows[0], ["file", "rank", "class", "label", "probability"])
        expected = [[result["file"], str(rank), str(guess["class"]), guess["label"], guess["probability"]]
                    for result in self.classify(*arguments, cwd=self.folder)
                    for rank, guess in enumerate(result["top"], start=1)]
        self.assertEqual([[*row[:4], float(row[4])] for row in rows[1:]], expected)
        self.assertEqual(len(expected), 3 * len(names))
        self.assertIn("\nplain.ppm,1,", text)
        self.assertIn('\n"quote"".ppm",1,', text)

    def test_odd_file_names(self):
        content, _ = ppm(64, 64)
        for name in ("run", "two words.ppm", "new\nline.ppm", "-dash.ppm", "ünï.ppm"):
            self.write(name, content)
            (result,) = self.classify("--", name, cwd=self.folder)
            self.assertEqual(result["file"], name)
            self.assertEqual(len(self.succeeds("classify", "--top", "1", "--", name, cwd=self.folder).splitlines()), 2)
        self.fails(1, ["classify", "absent\nfile.jpg"], "absent")
        with open(os.path.join(os.fsencode(self.folder), b"latin\xfc.ppm"), "wb") as file:
            file.write(content)
        result = self.cli("classify", "--json", b"latin\xfc.ppm".decode(errors="surrogateescape"), cwd=self.folder)
        self.assertEqual(json.loads(result.stdout)["file"], "latin\ufffd.ppm")

    def test_labels(self):
        names = [f"kind {i}" for i in range(10)]
        self.assertEqual(self.labels_of("--labels", self.write("l.txt", "\n".join(names))), names)
        self.assertEqual(self.labels_of("--labels", self.write("l.txt", "\r\n".join(names) + "\r\n")), names)
        image = self.write("image.ppm", ppm(64, 64)[0])
        for content, word in (("\n".join(names[:9]), "found 9"), ("\n".join(names + ["more"]), "found 11"),
                              ("", "found none"), (b"\xff\xfe\n" * 10, "UTF-8"), (LFS_POINTER, "git lfs pull"),
                              ('{"0": "cat"}', "found JSON"), ("<html>", "a web page"), (b"a\n\xfc\n", "not UTF-8")):
            path = self.write("l.txt", content)
            self.fails(1, ["classify", "--labels", path, image], path, word)
        for path in (self.path("absent.txt"), self.folder):
            self.fails(1, ["classify", "--labels", path, image], path)

    def metadata(self, **changes):
        content = {"network": "shufflenet_v2_x0_5", "input": [64, 64], "resize": 64, "mean": MEAN, "std": STD}
        content.update(changes)
        return json.dumps({key: value for key, value in content.items() if value is not None})

    def test_metadata(self):
        image = self.write("image.ppm", ppm(64, 64)[0])
        plain = self.classify(image)
        path = self.write("m.json", self.metadata(labels=LABELS))
        self.assertEqual(self.classify("--metadata", path, image), plain)
        self.write("m.json", self.metadata(mean=[0, 0, 0], labels=LABELS))
        self.assertNotEqual(self.classify("--metadata", path, image), plain)
        self.write("m.json", self.metadata())
        self.assertEqual(self.labels_of("--metadata", path), [f"class {i}" for i in range(10)])
        with open(self.write("m.json", ""), "wb") as file:
            file.write(BYTE_ORDER_MARK + self.metadata(labels=LABELS).replace(", ", ",\r\n").encode())
        self.assertEqual(self.classify("--metadata", path, image), plain)
        # Written for twice the size: the resize is halved.
        self.write("m.json", self.metadata(input=[128, 128], resize=128, labels=LABELS))
        self.assertEqual(self.classify("--metadata", path, image), plain)
        table = {
            "network": (self.metadata(network="shufflenet_v2_x1_0"), "shufflenet_v2_x1_0"),
            "labels": (self.metadata(labels=["one"]), "found 1"),
            "std": (self.metadata(std=[0, 1, 1]), "std"),
            "bytes": (self.metadata(mean=[123.675, 116.28, 103.53]), "mean", "0 to 1", "0.485 0.456 0.406"),
            "deviation of bytes": (self.metadata(std=[58.395, 57.12, 57.375]), "std", "0.229 0.224 0.225"),
            "pointer": (LFS_POINTER, "git lfs pull"),
            "UTF-16": (self.metadata().encode("utf-16"), "UTF-16"),
            "resize": (self.metadata(resize=None), "resize"),
            "json": ("{", "JSON"),
            "empty": ("", "JSON"),
        }
        for name, (content, *words) in table.items():
            with self.subTest(name):
                path = self.write("m.json", content)
                self.fails(1, ["classify", "--metadata", path, image], path, *words)
        self.fails(1, ["classify", "--metadata", self.path("absent.json"), image], "absent.json")

    def test_metadata_belong_to_weights(self):
        same = self.write("ten.safetensors", safetensors(state_dict("shufflenet_v2_x0_5", 10)))
        other = self.write("seven.safetensors", safetensors(state_dict("shufflenet_v2_x0_5", 7)))
        self.assertEqual(self.labels_of("--weights", same), LABELS)
        self.assertEqual(self.labels_of("--weights", other), [f"class {i}" for i in range(7)])
        names = [f"day {i}" for i in range(7)]
        self.write("seven.json", self.metadata(labels=names))
        self.assertEqual(self.labels_of("--weights", other), names)
        explicit = self.write("m.json", self.metadata())
        self.assertEqual(self.labels_of("--weights", other, "--metadata", explicit), [f"class {i}" for i in range(7)])
        lines = self.write("l.txt", "\n".join(names[::-1]))
        self.assertEqual(self.labels_of("--weights", other, "--labels", lines), names[::-1])
        self.write("seven.json", self.metadata(labels=LABELS))
        image = self.write("image.ppm", ppm(64, 64)[0])
        self.fails(1, ["classify", "--weights", other, image], "seven.json", "found 10")

    def test_another_file_beside_the_weights(self):
        weights = self.write("pets.safetensors", safetensors(state_dict("shufflenet_v2_x0_5", 10)))
        image = self.write("image.ppm", ppm(64, 64)[0])
        table = {
            "annotations": (json.dumps({"images": [], "annotations": []}), "not metadata", "found annotations, images"),
            "package": (json.dumps({"name": "pets", "version": "1.0.0"}), "not metadata", "found name, version"),
            "list": ("[1, 2]", "not a JSON object", "network, input, resize, mean, std", "found an array"),
        }
        for name, (content, *words) in table.items():
            with self.subTest(name):
                beside = self.write("pets.json", content)
                self.fails(1, ["classify", "--weights", weights, image], beside, *words, "beside the weights", "--metadata")
        self.classify("--weights", weights, "--metadata", self.write("m.json", self.metadata()), image)

    def test_weights_of_another_input_size(self):
        self.require("shufflenet_v2_x0_5")
        weights = os.path.join(os.path.dirname(__file__), "..", "models", DEFAULT + ".safetensors")
        self.assertEqual(self.labels_of("--model", "shufflenet_v2_x0_5", "--weights", weights), LABELS)

    def test_model_without_weights(self):
        self.require("shufflenet_v2_x1_0")
        image = self.write("image.ppm", ppm(64, 64)[0])
        self.fails(1, ["classify", "--model", "shufflenet_v2_x1_0", image], "shufflenet_v2_x1_0", "--weights")

    def test_output_that_overflows(self):
        tensors = state_dict("shufflenet_v2_x0_5", 10)
        tensors["fc.weight"] = ("F32", (10, 1024), f32([3e38] * 10240))
        weights = self.write("w.safetensors", safetensors(tensors))
        image = self.write("image.ppm", ppm(64, 64)[0])
        self.fails(1, ["classify", "--json", "--weights", weights, image], image, "not finite")

    def test_photograph_of_the_demo(self):
        cat = os.path.join(os.path.dirname(__file__), "..", "examples", "cat.jpg")
        (result,) = self.classify("--top", "1", cat)
        self.assertEqual(result["top"][0]["label"], "cat")

    def test_photographs(self):
        folder = os.path.join(ARGUMENTS.shared, "photos")
        if not ARGUMENTS.shared or not os.path.isdir(folder):
            self.skipTest("no shared photographs")
        photos = sorted(os.path.join(folder, name) for name in os.listdir(folder))
        results = self.classify("--top", "1", *photos)
        self.assertEqual([result["file"] for result in results], photos)
        self.assertIn("bird", [r["top"][0]["label"] for r in results if "robin" in r["file"]])
        with open(photos[0], "rb") as file:
            cut = self.write("cut.jpg", file.read(300))
        self.fails(1, ["classify", cut], cut)


class InfoTest(CliTest):
    def test_networks(self):
        for network, (channels, mflops, parameters) in NETWORKS.items():
            with self.subTest(network):
                info = json.loads(self.succeeds("info", "--json", network))
                self.assertEqual((info["network"], info["input"], info["classes"]), (network, [224, 224], 1000))
                total = info["total"]
                self.assertEqual(total["parameters"], parameters)
                self.assertEqual(math.ceil(total["paper_flops"] / 1e6), mflops)
                for key in ("flops", "mac", "parameters"):
                    self.assertEqual(total[key], sum(layer[key] for layer in info["layers"]))
                layers = {layer["id"]: layer for layer in info["layers"]}
                self.assertEqual(layers["stem_conv"]["in"], [3, 224, 224])
                self.assertEqual(layers["stage3_unit7_branch2_pw2"]["out"], [channels[1] // 2, 14, 14])
                self.assertEqual(layers["fc"]["out"], [1000, 1, 1])

    def test_comparison_networks(self):
        # Table 8's input size, rounded complexity, and torchvision's parameters.
        published = (
            ("mobilenet_v2_x1_0", 224, 301, 3_504_872),
            ("mobilenet_v2_x0_4", 160, 43, None),
            ("shufflenet_v1_x1_0", 224, 140, None),
        )
        for network, size, mflops, parameters in published:
            with self.subTest(network):
                info = json.loads(self.succeeds("info", "--json", network))
                self.assertEqual((info["network"], info["input"], info["classes"]), (network, [size, size], 1000))
                total = info["total"]
                self.assertEqual(total["paper_flops"], mflops * 1_000_000)
                self.assertAlmostEqual(total["flops"] / total["paper_flops"], 1, delta=0.02)
                self.assertEqual(total["parameters"], parameters or total["parameters"])
                for key in ("flops", "mac", "parameters"):
                    self.assertEqual(total[key], sum(layer[key] for layer in info["layers"]))
                self.assertIn("Table 8", self.succeeds("info", network))

    def test_pointwise_against_the_bound(self):
        info = json.loads(self.succeeds("info", "--json", "shufflenet_v2_x1_0"))
        for layer in info["layers"]:
            if layer["kind"] != "pointwise":
                self.assertNotIn("mac_ratio", layer)
                continue
            (inputs, height, width), outputs = layer["in"], layer["out"][0]
            pixels = height * width
            flops = pixels * inputs * outputs
            self.assertEqual((layer["flops"], layer["mac"]), (flops, pixels * (inputs + outputs) + inputs * outputs))
            bound = 2 * math.sqrt(pixels * flops) + flops / pixels
            self.assertAlmostEqual(layer["mac_ratio"], layer["mac"] / bound, delta=1e-9)
            self.assertGreaterEqual(layer["mac_ratio"], 1 - 1e-9)

    def test_compiled_model(self):
        info = json.loads(self.succeeds("info", "--json", DEFAULT))
        self.assertEqual((info["model"], info["input"], info["classes"]), (DEFAULT, [64, 64], 10))
        self.assertGreater(info["total"]["arena_bytes"], 1 << 16)
        self.assertNotIn("paper_flops", info["total"])

    def test_table(self):
        text = self.succeeds("info", DEFAULT)
        for word in ("10 classes", "stage4_unit3_branch2_dw", "pointwise", "352,042", "arena"):
            self.assertIn(word, text)


class ConvertTest(CliTest):
    def convert(self, tensors, *flags):
        source = self.write("in.safetensors", safetensors(tensors))
        output = self.path("out.safetensors")
        text = self.succeeds("convert", *flags, source, output)
        return read_safetensors(output), text

    def test_recognises_each_network(self):
        for network in NETWORKS:
            with self.subTest(network):
                tensors = state_dict(network, 3)
                found, text = self.convert(tensors)
                self.assertIn(f"{network}, 3 classes", text)
                expected = {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
                self.assertEqual(found, expected)
                self.assertEqual(list(found), sorted(found))
                self.assertEqual(self.convert(tensors, "--network", network)[0], expected)

    def test_recognises_comparison_networks(self):
        # PyTorch's own lists of tensors; ShuffleNetV1's look like Megvii's ShuffleNetV2.
        golden = pathlib.Path(__file__).parent / "golden" / "comparison.json"
        for case in json.loads(golden.read_text(encoding="utf-8"))["cases"]:
            with self.subTest(case["network"]):
                tensors = {
                    name: ("F32", shape, f32([0.5] * math.prod(shape)))
                    for name, shape in case["tensors"]
                    if not name.endswith("num_batches_tracked")
                }
                found, text = self.convert(tensors)
                self.assertIn(f"{case['network']}, 10 classes", text)
                expected = {name: (kind, tuple(shape), data) for name, (kind, shape, data) in tensors.items()}
                self.assertEqual(found, expected)
                self.assertEqual(self.convert(tensors, "--network", case["network"])[0], expected)

    def test_same_bytes_whatever_the_order(self):
        tensors = state_dict("shufflenet_v2_x0_5", 3)
        self.convert(tensors)
        with open(self.path("out.safetensors"), "rb") as file:
            first = file.read()
        self.convert(dict(reversed(tensors.items())))
        with open(self.path("out.safetensors"), "rb") as file:
            self.assertEqual(file.read(), first)
        self.succeeds("convert", self.path("out.safetensors"), self.path("out.safetensors"))
        with open(self.path("out.safetensors"), "rb") as file:
            self.assertEqual(file.read(), first)

    def test_every_half(self):
        halves = [bits for bits in range(1 << 16) if bits >> 10 & 31 != 31]
        classes = len(halves) // 1024
        tensors = state_dict("shufflenet_v2_x0_5", classes)
        data = array.array("H", halves).tobytes()
        tensors["fc.weight"] = ("F16", (classes, 1024), data)
        self.assertEqual(self.convert(tensors)[0]["fc.weight"], tensors["fc.weight"])
        wide, _ = self.convert(tensors, "--f32")
        expected = f32(struct.unpack(f"<{len(halves)}e", data))
        self.assertEqual(wide["fc.weight"], ("F32", (classes, 1024), expected))
        self.assertEqual({dtype for dtype, _, _ in wide.values()}, {"F32"})
        narrow, _ = self.convert(wide, "--f16")
        self.assertEqual(narrow["fc.weight"], tensors["fc.weight"])
        self.assertEqual({dtype for dtype, _, _ in narrow.values()}, {"F16"})

    def test_rounds_to_nearest_even(self):
        generator = random.Random(3)
        values = [65519.0, -65519.0, 2.0**-24, 2.0**-25, 1.5 * 2.0**-24, 2.0**-26, 1e-45, -0.0]
        values += [1 + 2.0**-11, 1 + 3 * 2.0**-11]
        while len(values) < 1024:
            half = struct.unpack("<e", struct.pack("<H", generator.randrange(0x7BFF)))[0]
            step = 2.0 ** max(math.frexp(half)[1] - 12, -25) if half else 2.0**-25
            values.append(generator.choice((half + step, half + generator.uniform(0, 2) * step, -half - step)))
        values = array.array("f", values)
        tensors = state_dict("shufflenet_v2_x0_5", 1)
        tensors["fc.weight"] = ("F32", (1, 1024), values.tobytes())
        found, _ = self.convert(tensors, "--f16")
        self.assertEqual(found["fc.weight"][2], struct.pack("<1024e", *values))

    def test_other_types_become_single(self):
        values = [math.pi * (i - 500) for i in range(1024)]
        single = array.array("f", values)
        brain = [struct.unpack("<I", struct.pack("<f", value))[0] >> 16 for value in values]
        for dtype, data, expected in (
            ("F64", array.array("d", values).tobytes(), single.tobytes()),
            ("BF16", array.array("H", brain).tobytes(), array.array("I", [b << 16 for b in brain]).tobytes()),
        ):
            with self.subTest(dtype):
                tensors = state_dict("shufflenet_v2_x0_5", 1)
                tensors["fc.weight"] = (dtype, (1, 1024), data)
                self.assertEqual(self.convert(tensors)[0]["fc.weight"], ("F32", (1, 1024), expected))
                floats = array.array("f", expected)
                halves = struct.pack("<1024e", *(values if dtype == "F64" else floats))
                self.assertEqual(self.convert(tensors, "--f16")[0]["fc.weight"], ("F16", (1, 1024), halves))
                source = self.write("x.npy", random_input((1, 3, 64, 64)))
                outputs = []
                for weights in ("in.safetensors", "out.safetensors"):
                    self.convert(tensors)
                    self.succeeds("run", "--model", DEFAULT, "--weights", self.path(weights), "--input", source,
                                  "--output", self.path("y.npy"))
                    outputs.append(read_npy(self.path("y.npy")))
                self.assertEqual(outputs[0], outputs[1])

    def test_prefix(self):
        tensors = state_dict("shufflenet_v2_x0_5", 3)
        plain, _ = self.convert(tensors)
        for prefix in ("module.", "_orig_mod.", "model.net."):
            with self.subTest(prefix):
                renamed = {prefix + name: tensor for name, tensor in tensors.items()}
                found, text = self.convert(renamed)
                self.assertEqual(found, plain)
                self.assertIn(f"without {prefix} before names", text)
        pair = {**renamed, **{"ema." + name: tensor for name, tensor in tensors.items()}}
        source = self.write("in.safetensors", safetensors(pair))
        self.fails(1, ["convert", source, self.path("out.safetensors")], source, "found 2", "'ema.', 'model.net.'")

    def test_pipes(self):
        content = safetensors(state_dict("shufflenet_v2_x0_5", 3))
        text = self.succeeds("convert", "/dev/stdin", self.path("out.safetensors"), input=content)
        self.assertIn("3 classes", text)
        self.fails(1, ["convert", "/dev/stdin", self.path("out.safetensors")], "a web page", input=b"<html><head>")

    def test_too_large_for_half(self):
        tensors = state_dict("shufflenet_v2_x0_5", 1)
        tensors["fc.weight"] = ("F32", (1, 1024), f32([0] * 1000 + [65520] + [0] * 23))
        source = self.write("in.safetensors", safetensors(tensors))
        self.fails(1, ["convert", "--f16", source, self.path("out.safetensors")], source, "fc.weight", "F16")
        self.assertFalse(os.path.exists(self.path("out.safetensors")))

    def test_half_precision_classifies_alike(self):
        source = os.path.join(os.path.dirname(__file__), "..", "models", DEFAULT + ".safetensors")
        small = self.path("small.safetensors")
        self.succeeds("convert", "--f16", source, small)
        self.assertLess(os.path.getsize(small), 0.55 * os.path.getsize(source))
        image = self.write("image.ppm", ppm(64, 64)[0])
        top = [json.loads(self.succeeds("classify", "--json", "--top", "1", *weights, image))["top"][0]
               for weights in ([], ["--weights", small])]
        self.assertEqual(top[0]["class"], top[1]["class"])
        self.assertAlmostEqual(top[0]["probability"], top[1]["probability"], delta=0.02)

    def test_onnx(self):
        source = self.write("model.onnx", b"\x08\x07")
        self.fails(1, ["convert", source, self.path("out.safetensors")], source, "ONNX")
        for content, word in ((LFS_POINTER, "git lfs pull"), (b"\n<!DOCTYPE html><html>", "a web page"),
                              (safetensors({}), "a safetensors file"), (b"PK\x03\x04" + bytes(40), "a zip archive"),
                              (bytes(600), "starts with zeros"), (b"\xff\xd8\xff\xe0", "a JPEG image")):
            self.write("model.onnx", content)
            for command in (["convert", source, self.path("out.safetensors")],
                            ["verify", DEFAULT, "--onnx", source]):
                with self.subTest(command=command, word=word):
                    self.fails(1, command, source, "expected an ONNX file, found ", word)
        os.truncate(source, 10 << 30)
        self.fails(1, ["convert", source, self.path("out.safetensors")], source, "a JPEG image")


class BadWeightsTest(CliTest):
    """Every command that reads weights refuses these, and says why."""

    NETWORK = "shufflenet_v2_x0_5"

    def refused(self, name, content, *words):
        with self.subTest(name):
            source = self.write("bad.safetensors", content)
            array_file = self.write("x.npy", npy((1, 3, 64, 64)))
            output = self.path("out")
            run = ["run", "--model", DEFAULT, "--input", array_file]
            self.fails(1, [*run, "--weights", source, "--output", output], source, *words)
            self.fails(1, ["convert", source, output], source, *words)
            self.fails(1, ["convert", source, source], source, *words)
            with open(source, "rb") as file:
                self.assertEqual(file.read(), content)
            self.assertEqual(sorted(os.listdir(self.folder)), ["bad.safetensors", "x.npy"])

    def test_container(self):
        entry = '"a": {"dtype": "F32", "shape": %s, "data_offsets": %s}'
        enormous = f"[{1 << 32}, {1 << 32}]"
        one = "{" + entry % ("[2]", "[0, 8]") + "}"
        both = "{" + entry % ("[2]", "[0, 8]") + ", " + entry % ("[2]", "[8, 16]") + "}"
        overlap = "{" + entry % ("[2]", "[0, 8]") + ", " + (entry % ("[2]", "[4, 12]")).replace('"a"', '"b"') + "}"
        data = bytes(16)
        table = {
            "empty": (b"", "0 bytes"),
            "short": (b"\x08\0\0\0", "4 bytes"),
            "4 GB header": (raw_safetensors(one, data, 1 << 32), str(1 << 32)),
            "endless header": (raw_safetensors(one, data, (1 << 64) - 1), str((1 << 64) - 1)),
            "header longer than the file": (raw_safetensors(one, b"", 10_000), "10000"),
            "not JSON": (raw_safetensors('{"a": ', data), "JSON"),
            "a list": (raw_safetensors("[1]", data), "JSON"),
            "nested": (raw_safetensors('{"a":' + "[" * 100_000, data), "header"),
            "offsets beyond the end": (raw_safetensors("{" + entry % ("[20]", "[0, 80]") + "}", data), "data_offsets"),
            "offsets reversed": (raw_safetensors("{" + entry % ("[2]", "[8, 0]") + "}", data), "reversed"),
            "offsets negative": (raw_safetensors("{" + entry % ("[2]", "[-8, 0]") + "}", data), "data_offsets"),
            "offsets and shape": (raw_safetensors("{" + entry % ("[3]", "[0, 16]") + "}", data), "12 bytes"),
            "overlap": (raw_safetensors(overlap, bytes(12)), "overlaps"),
            "hole": (raw_safetensors(one, data), "no tensor"),
            "shape overflow": (raw_safetensors("{" + entry % (enormous, "[0, 16]") + "}", data), "too large"),
            "shape negative": (raw_safetensors("{" + entry % ("[-2]", "[0, 16]") + "}", data), "shape"),
            "duplicate": (raw_safetensors(both, data), "two keys a"),
            "dtype": (raw_safetensors(one.replace("F32", "F31"), bytes(8)), "F31"),
            "no tensors": (raw_safetensors("{}"), "missing"),
            "zip": (b"PK\x03\x04" + bytes(100), "PyTorch"),
            "header over 8 MB": (raw_safetensors("{" + " " * 8_000_000 + "}"), "8000000"),
            "pointer": (LFS_POINTER, "git lfs pull"),
            "web page": (b"<!DOCTYPE html>\n<html>", "a web page"),
            "words": (b"Invalid username or password.", "'Invalid username or password.'"),
            "gzip": (b"\x1f\x8b\x08\0\0\0\0\0\0\3" + bytes(100), "a gzip file"),
            "image": (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
            "ONNX": (b"\x08\x07\x12\x07pytorch" + bytes(100), "ONNX"),
        }
        for name, (content, word) in table.items():
            self.refused(name, content, word)

    def test_truncated(self):
        content = safetensors(state_dict(self.NETWORK, 3))
        for size in (100, len(content) // 2, len(content) - 1):
            self.refused(size, content[:size])

    def test_sparse(self):
        """Ten gigabytes of holes are refused without being read."""
        source = self.write("bad.safetensors", b"")
        good = safetensors(state_dict(self.NETWORK, 3))
        for start, word in ((b"", "starts with zeros"), (good, "belong to no tensor"), (LFS_POINTER, "git lfs pull")):
            self.write("bad.safetensors", start)
            os.truncate(source, 10 << 30)
            image = self.write("image.ppm", ppm(64, 64)[0])
            self.fails(1, ["classify", "--weights", source, image], source, word)
            self.fails(1, ["convert", source, self.path("out")], source, word)

    def test_tensors(self):
        nan, infinity = float("nan"), float("inf")
        no_classes = {"fc.weight": ("F32", (0, 1024), b""), "fc.bias": ("F32", (0,), b"")}
        ones, good = [1.0] * 23, state_dict(self.NETWORK, 3)
        conv = "stage3.2.branch2.3.weight"
        table = {
            "missing": ({"conv1.1.bias": None}, "missing conv1.1.bias"),
            "extra": ({"conv1.0.bias": ("F32", (24,), f32([0] * 24))}, "unexpected conv1.0.bias"),
            "shape": ({conv: ("F32", (48, 1, 1, 9), good[conv][2])}, conv, "[48, 1, 1, 9]", "[48, 1, 3, 3]"),
            "rank": ({conv: ("F32", (48 * 9,), good[conv][2])}, conv, "[432]"),
            "dtype": ({"fc.bias": ("I64", (3,), bytes(24))}, "fc.bias", "I64"),
            "double": ({"fc.bias": ("F64", (3,), struct.pack("<3d", 1, 1e300, 1))}, "fc.bias", "1e+300", "finite float"),
            "nan": ({"conv1.1.weight": ("F32", (24,), f32(ones + [nan]))}, "conv1.1.weight", "nan", "23"),
            "infinity": ({"conv1.1.running_mean": ("F32", (24,), f32([infinity] + ones))}, "running_mean", "inf"),
            "half infinity": ({"fc.bias": ("F16", (3,), b"\0\x7c" * 3)}, "fc.bias", "inf"),
            "variance": ({"conv1.1.running_var": ("F32", (24,), f32([-1] + ones))}, "running_var", "-1"),
            "no classes": (no_classes, "fc.weight", "[0, 1024]"),
            "bias of other classes": ({"fc.bias": ("F32", (4,), bytes(16))}, "fc.bias", "[4]", "[3]"),
        }
        for name, (changes, *words) in table.items():
            tensors = {k: v for k, v in {**good, **changes}.items() if v is not None}
            self.refused(name, safetensors(tensors), *words)

    def test_too_many_classes(self):
        tensors = state_dict(self.NETWORK, 1)
        tensors["fc.weight"] = ("F16", (100_001, 1024), bytes(2 * 1024 * 100_001))
        tensors["fc.bias"] = ("F16", (100_001,), bytes(2 * 100_001))
        self.refused("classes", safetensors(tensors), "fc.weight", "100000")

    def test_weights_of_another_network(self):
        weights = self.write("w.safetensors", safetensors(state_dict("shufflenet_v2_x1_0", 3)))
        image = self.write("image.ppm", ppm(64, 64)[0])
        self.fails(1, ["classify", "--weights", weights, image], weights, "shufflenet_v2_x0_5", "shufflenet_v2_x1_0")
        self.fails(1, ["convert", "--network", "shufflenet_v2_x2_0", weights, self.path("out")], weights,
                   "shufflenet_v2_x2_0")

    def test_nearest_network(self):
        for network in NETWORKS:
            tensors = state_dict(network, 3)
            del tensors["conv5.0.weight"]
            weights = self.write("w.safetensors", safetensors(tensors))
            self.fails(1, ["convert", weights, self.path("out")], weights, network, "missing conv5.0.weight")

    def test_not_files(self):
        image = self.write("image.ppm", ppm(64, 64)[0])
        for source in (self.path("absent.safetensors"), self.folder, image + "/w"):
            self.fails(1, ["classify", "--weights", source, image], source)
            self.fails(1, ["convert", source, self.path("out")], source)


class LogTest(CliTest):
    LINE = r"\Ashufflenet: debug: [ -~]+\Z"

    def log(self, *arguments, **options):
        result = self.cli(*arguments, log="debug", **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stderr.decode().splitlines()
        for line in lines:
            self.assertRegex(line, self.LINE)
        return "\n".join(lines)

    def test_what_it_says(self):
        image = self.write("image.ppm", ppm(64, 64)[0])
        weights = self.write("w.safetensors", safetensors(state_dict("shufflenet_v2_x0_5", 7)))
        isa = self.models()[0]["isa"]
        log = self.log("classify", "--weights", weights, "--threads", "3", image)
        targets = self.models()[0]["targets"]
        for text in (f"{weights}: {os.path.getsize(weights)} bytes, opened",
                     f"{weights}: 338 tensors, 7 classes, checked and packed for {DEFAULT} in ",
                     f"{DEFAULT}: {isa} chosen of {','.join(targets)}, 3 threads",
                     f"{image}: {os.path.getsize(image)} bytes read"):
            self.assertIn(text, log)
        self.assertRegex(log, rf"{DEFAULT}: run, batch 1, 3 threads: \d+\.\d+ ms")
        self.assertIn(f"{targets[0]} chosen", self.log("classify", image, isa=targets[0]))
        output = self.path("out.safetensors")
        log = self.log("convert", weights, output)
        self.assertIn(f"{output}: {os.path.getsize(output)} bytes written", log)

    def test_prefix(self):
        tensors = {"module." + name: tensor for name, tensor in state_dict("shufflenet_v2_x0_5", 7).items()}
        weights = self.write("w.safetensors", safetensors(tensors))
        log = self.log("classify", "--weights", weights, self.write("image.ppm", ppm(64, 64)[0]))
        self.assertIn(f"{weights}: all names begin with module.", log)

    def test_steps_add_up(self):
        source = self.write("x.npy", npy((8, 3, 64, 64)))
        log = self.log("run", "--model", DEFAULT, "--input", source, "--output", self.path("y.npy"))
        images = [[step.split() for step in steps.split(", ")] for steps in re.findall(r"image \d, thread 0: (.*) ms", log)]
        self.assertEqual(len(images), 8)
        for steps in images:
            self.assertEqual([name for name, _ in steps], ["stem", "stage2", "stage3", "stage4", "conv5", "pool"])
        fc = float(re.search(r"fc, batch 8: (\S+) ms", log)[1])
        whole = float(re.search(r"run, batch 8, 1 threads: (\S+) ms", log)[1])
        # Each figure is rounded to a microsecond.
        self.assertLessEqual(sum(float(ms) for steps in images for _, ms in steps) + fc, whole + 50 * 0.0005)

    def test_lines_of_threads_do_not_mix(self):
        source = self.write("x.npy", npy((64, 3, 64, 64)))
        log = self.log("run", "--model", DEFAULT, "--input", source, "--output", self.path("y.npy"), "--threads", "4")
        images = re.findall(r"(?m)^.*image (\d+), thread [0-3]: .* ms$", log)
        self.assertEqual(sorted(map(int, images)), list(range(64)))

    def test_silent_unless_asked(self):
        image = self.write("image.ppm", ppm(64, 64)[0])
        self.succeeds("classify", image)
        self.succeeds("classify", image, log="")
        result = self.cli("classify", image, log="loud")
        self.assertEqual((result.returncode, result.stderr), (0, b"shufflenet: SHUFFLENET_LOG=loud: expected debug\n"))

    def test_odd_and_long_names(self):
        name = "x" * 200 + "\n\x1b[31m.ppm"
        self.write(name, ppm(64, 64)[0])
        self.log("classify", name, cwd=self.folder)
        deep = "/".join(["d" * 200] * 6)
        os.makedirs(self.path(deep))
        self.write(deep + "/image.ppm", ppm(64, 64)[0])
        lines = self.log("classify", deep + "/image.ppm", cwd=self.folder).splitlines()
        self.assertEqual([len(line) for line in lines if "ddd" in line], [999])


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command, environment, cwd=None, stdout=None):
        self.program, keyboard = pty.openpty()
        # No echo of what is typed: a shell's line editor does that.
        fcntl.ioctl(self.program, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 500, 0, 0))
        options = {**os.environ, "TERM": "xterm", **environment}
        for name, value in environment.items():
            if value is None:
                del options[name]
        self.process = subprocess.Popen(
            command, stdin=keyboard, stdout=keyboard if stdout is None else stdout, stderr=keyboard, cwd=cwd,
            env=options, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(keyboard)
        self.text = b""

    def type(self, text):
        os.write(self.program, text.encode())

    def read(self, until=None):
        """What it shows up to a pattern, or until it ends."""
        deadline = time.monotonic() + 300
        while until is None or not re.search(until, self.text):
            if not select.select([self.program], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"waiting for {until}, found {self.text!r}")
            try:
                more = os.read(self.program, 65536)
            except OSError:  # Nobody has the other end open any more.
                break
            if not more:
                break
            self.text += more
        return self.text

    def close(self):
        os.close(self.program)
        return self.process.wait(timeout=300)


class TerminalTest(CliTest):
    def show(self, *arguments, stdout=None, **environment):
        environment = {"NO_COLOR": "", "SHUFFLENET_LOG": "", "SHUFFLENET_ISA": "", **environment}
        terminal = Terminal([*shlex.split(ARGUMENTS.emulator), ARGUMENTS.shufflenet, *arguments], environment, cwd=self.folder, stdout=stdout)
        text = terminal.read().decode()
        return terminal.close(), text

    def photos(self, count=30):
        os.mkdir(self.path("photos"))
        for i in range(count):
            self.write(f"photos/{i}.ppm", ppm(300, 200, seed=i)[0])
        return count

    def test_colours(self):
        _, text = self.show("list")
        self.assertRegex(text, r"\A\x1b\[1mname .*\x1b\[0m\r\n")
        status, text = self.show("info", "nope")
        self.assertEqual(status, 1)
        self.assertRegex(text, r"\Ashufflenet: \x1b\[1;31merror:\x1b\[0m unknown model")
        for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": None}):
            for arguments in (["list"], ["info", "nope"]):
                with self.subTest(environment=environment, arguments=arguments):
                    self.assertNotIn("\x1b", self.show(*arguments, **environment)[1])

    def test_progress(self):
        count = self.photos()
        status, text = self.show("classify", "--top", "1", "photos")
        self.assertEqual(status, 0)
        bar = r"\r\[[#.]{30}\] (\d+)/(\d+)"
        shown = [(int(done), int(total)) for done, total in re.findall(bar, text)]
        self.assertEqual(shown[0], (0, count))
        self.assertEqual(shown, sorted(set(shown)))
        self.assertRegex(text, rf"\A({bar})+\r\x1b\[K\x1b\[1mfile ")
        self.assertEqual(text.count(".ppm "), count)

    def test_progress_and_errors(self):
        self.photos(2)
        self.write("photos/00.jpg", b"bad")
        status, text = self.show("classify", "--top", "1", "photos", NO_COLOR="1")
        self.assertEqual(status, 1)
        self.assertIn("\r\x1b[Kshufflenet: error: photos/00.jpg: expected", text)

    def test_progress_beside_redirected_results(self):
        count = self.photos()
        for flag in ("--json", "--csv"):
            with open(self.path("out"), "w+b") as out:
                status, text = self.show("classify", "--top", "1", flag, "photos", stdout=out)
                self.assertEqual(status, 0)
                self.assertIn(f"] 0/{count}", text)
                self.assertTrue(text.endswith("\r\x1b[K"), text)
                out.seek(0)
                self.assertEqual(out.read().count(b".ppm"), count)

    def test_no_progress(self):
        self.photos(3)
        for arguments, environment in (
            (["--json", "photos"], {}),
            (["--csv", "photos"], {}),
            (["photos/0.ppm"], {}),
            (["photos"], {"TERM": "dumb"}),
            (["photos"], {"SHUFFLENET_LOG": "debug"}),
        ):
            with self.subTest(arguments=arguments, environment=environment):
                self.assertNotRegex(self.show("classify", *arguments, **environment)[1], r"\[[#.]{30}\]")


class CompletionTest(CliTest):
    """Shells complete what is typed; the first column is followed by a tab key."""

    TABLE = [
        ("conv", "convert"),
        ("--ver", "--version"),
        ("run --mod", "run --model"),
        ("run --model cif", f"run --model {DEFAULT}"),
        ("run --model cif --feat", "run --model cif --features"),
        ("run --features conv", "run --features conv5="),
        ("run --threads 2 --inp", "run --threads 2 --input"),
        ("run --input ten", "run --input tensor.npy"),
        ("run --weights ten", "run --weights tensor.safetensors"),
        ("classify --fil", "classify --files-from"),
        ("classify --files-from tensor.n", "classify --files-from tensor.npy"),
        ("classify --json ima", "classify --json image.jpg"),
        ("classify ima", "classify image.jpg"),
        ("info cif", f"info {DEFAULT}"),
        ("completion z", "completion zsh"),
    ]

    def setUp(self):
        super().setUp()
        for name in ("tensor.npy", "tensor.txt", "tensor.safetensors", "image.jpg", "image.txt"):
            self.write(name, b"")

    def require_shell(self, shell):
        if shutil.which(shell) is None:
            self.skipTest(f"{shell} is not installed")

    def complete(self, shell, start, typed):
        """What an interactive shell makes of each line with a tab key behind it."""
        script = self.write("script", self.succeeds("completion", shell))
        environment = {"TERM": "dumb", "PS1": "$ ", "INPUTRC": "/dev/null", "HOME": self.folder, "ZDOTDIR": self.folder}
        terminal = Terminal(start, environment, cwd=self.folder)
        terminal.type(f"{'autoload -U compinit; compinit -u -D; ' if shell == 'zsh' else ''}source {script}; echo REA''DY\n")
        terminal.read(b"READY")
        results = []
        for number, line in enumerate(typed):
            # Control-A and Control-E are the start and the end of the line, which is printed, not executed.
            terminal.type(f"shufflenet {line}\t\x01echo A''{number}: \x05 '' :Z''{number}\n")
            text = terminal.read(rb"A%d: [^\r\n]* :Z%d" % (number, number))
            found = re.search(rb"A%d: shufflenet ([^\r\n]*?) *:Z%d" % (number, number), text)
            results.append(found[1].decode().strip() if found else text.decode())
        terminal.type("exit\n")
        terminal.read()
        terminal.close()
        return results

    def test_bash(self):
        typed, expected = zip(*self.TABLE)
        typed += ("run --model=cif", "run --features stage2=ten", "run --input=ten")
        expected += (f"run --model={DEFAULT}", "run --features stage2=tensor.npy", "run --input=tensor.npy")
        self.assertEqual(self.complete("bash", ["bash", "--norc", "--noprofile", "-i"], typed), list(expected))

    def test_zsh(self):
        self.require_shell("zsh")
        typed, expected = zip(*self.TABLE)
        found = self.complete("zsh", ["zsh", "-f", "-i"], typed)
        # There an option that takes a value gets its equals sign.
        self.assertEqual([re.sub(r"(--[a-z-]+)=$", r"\1", line) for line in found], list(expected))

    def test_fish(self):
        self.require_shell("fish")
        script = self.write("script", self.succeeds("completion", "fish"))
        for typed, expected in self.TABLE:
            with self.subTest(typed):
                command = ["fish", "--no-config", "-c", f"source {script}; complete -C 'shufflenet {typed}'"]
                result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder,
                                        env={**os.environ, "HOME": self.folder}, timeout=600)
                self.assertEqual(result.stderr, b"")
                first = result.stdout.decode().splitlines()[0].split("\t")[0]
                self.assertEqual(first, expected.split()[-1])

    def test_every_option_is_in_every_script(self):
        scripts = {shell: self.succeeds("completion", shell) for shell in ("bash", "zsh", "fish")}
        for command in COMMANDS:
            options = re.findall(r"(?m)^  (?:-\w,)?--([a-z0-9-]+)", self.succeeds(command, "--help"))
            self.assertIn("help", options)
            for option in options:
                for line in (rf"'{command} '-\*\).*--{option}\b",
                             rf"(?s)        {command}\) _arguments(?:(?! ;;\n).)*--{option}[=\[]",
                             rf"from {command}'.* -l {option} "):
                    shell = {"'": "bash", "(": "zsh", "f": "fish"}[line[0]]
                    self.assertRegex(scripts[shell], line)


class ManualTest(CliTest):
    def page(self):
        if shutil.which("groff") is None:
            self.skipTest("groff is not installed")
        source = self.succeeds("manual").encode()
        command = ["groff", "-man", "-ww", "-b", "-rHY=0", "-Tascii", "-P-cbou"]
        result = subprocess.run(command, input=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600)
        self.assertEqual((result.returncode, result.stderr.decode()), (0, ""))
        return result.stdout.decode()

    def test_says_what_help_says(self):
        page = self.page()
        for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "ENVIRONMENT", "EXIT STATUS"):
            self.assertRegex(page, rf"(?m)^{title}$")
        text = " ".join(page.split())
        for command in ((), *((name,) for name in COMMANDS)):
            lines = self.succeeds(*command, "--help").splitlines()
            lines = lines[1 + [i for i, line in enumerate(lines) if line.startswith("Usage:")][0] :]
            self.assertGreater(len(lines), 3)
            for line in lines:
                # An option's names, or the name in a list; what is beside it; what stands alone.
                name, _, rest = re.match(r"(  \S.*?)?(  +|$)(.*)|.*", line).groups(default="")
                names = [word for word in re.split("[ ,=]", name) if word.startswith("-") or word.isupper()]
                names = [name for name in names if name != "REQUIRED"]
                for part in names + [rest]:
                    self.assertIn(" ".join(part.split()), text, (command, line))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shufflenet", required=True, help="the program")
    parser.add_argument("--emulator", default="", help="command that runs the program, e.g. 'qemu-aarch64 -L DIR'")
    parser.add_argument("--shared", default="", help="folder with photos/; empty: tests that need it are skipped")
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    ARGUMENTS.shufflenet = os.path.abspath(ARGUMENTS.shufflenet)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
