#!/usr/bin/env python3
"""The command line with a device: the same answers as on the CPU, and errors in one line.

    python3 tests/device_cli_test.py --shufflenet build/opencl/bin/shufflenet --device opencl [unittest arguments]

Needs Python's standard library only.
"""

import argparse
import array
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import unittest

ARGUMENTS = argparse.Namespace(shufflenet="", device="")
MODEL, SIZE = "cifar10_x0_5", 64
# Of the outputs' range, between two ways to sum in single precision: as the end-to-end tests'.
TOLERANCE = 1e-5


def npy(values, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {tuple(shape)}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + array.array("f", values).tobytes()


def npy_values(path):
    data = path.read_bytes()
    return array.array("f", data[10 + struct.unpack("<H", data[8:10])[0] :])


class DeviceCliTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)

    def cli(self, status, *arguments):
        result = subprocess.run([ARGUMENTS.shufflenet, *map(str, arguments)], capture_output=True, text=True)
        self.assertEqual(result.returncode, status, (arguments, result.stderr))
        if status != 0:
            self.assertRegex(result.stderr, r"\Ashufflenet: error: [^\n]+\n\Z")
        return result.stdout if status == 0 else result.stderr

    def test_list(self):
        for model in json.loads(self.cli(0, "list", "--json")):
            self.assertEqual(model["devices"], ARGUMENTS.compiled)
        self.assertIn("," + ",".join(ARGUMENTS.compiled), self.cli(0, "list"))

    def test_run(self):
        images = 3
        random.seed(7)
        (self.path / "x.npy").write_bytes(
            npy([random.gauss(0, 1) for _ in range(images * 3 * SIZE * SIZE)], (images, 3, SIZE, SIZE)))
        outputs = {}
        for name, more in (("cpu", ()), ("device", ("--device", ARGUMENTS.device))):
            files = [self.path / f"{name}_{part}.npy" for part in ("y", "stage4")]
            self.cli(0, "run", "--model", MODEL, "--input", self.path / "x.npy", "--output", files[0],
                     "--features", f"stage4={files[1]}", *more)
            outputs[name] = [npy_values(file) for file in files]
        for cpu, device in zip(outputs["cpu"], outputs["device"]):
            self.assertEqual(len(cpu), len(device))
            self.assertLessEqual(max(abs(a - b) for a, b in zip(cpu, device)), TOLERANCE * (max(cpu) - min(cpu)))

    def test_classify(self):
        random.seed(7)
        (self.path / "i.ppm").write_bytes(b"P6 %d %d 255\n" % (SIZE, SIZE) + random.randbytes(3 * SIZE * SIZE))
        command = ("classify", "--json", "--top", "3", self.path / "i.ppm")
        cpu, device = (json.loads(self.cli(0, *command, *more)) for more in ((), ("--device", ARGUMENTS.device)))
        self.assertEqual([guess["label"] for guess in cpu["top"]], [guess["label"] for guess in device["top"]])
        for a, b in zip(cpu["top"], device["top"]):
            self.assertAlmostEqual(a["probability"], b["probability"], delta=1e-4)

    def test_errors(self):
        (self.path / "x.npy").write_bytes(npy([0] * 3 * SIZE * SIZE, (1, 3, SIZE, SIZE)))
        run = ("run", "--model", MODEL, "--input", self.path / "x.npy", "--output", self.path / "y.npy", "--device")
        for other in {"cuda", "opencl"} - set(ARGUMENTS.compiled):
            self.assertIn(f"without kernels for {other}, for {ARGUMENTS.device}", self.cli(1, *run, other))
        self.assertIn("--device", self.cli(2, *run, "abacus"))
        self.assertIn("--peak", self.cli(2, "classify", "--peak", "--device", ARGUMENTS.device, "x.jpg"))
        self.assertFalse((self.path / "y.npy").exists())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--shufflenet", required=True)
    parser.add_argument("--compiled", nargs="+", help="the devices of all models, in order")
    parser.add_argument("--device", required=True)
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
