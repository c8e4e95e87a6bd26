#!/usr/bin/env python3
"""Mistakes in the arguments of shufflenet_add_model() fail when CMake runs, and say what was expected.

    python3 tests/add_model_test.py --cmake cmake --compile build/x86/bin/shufflenet_compile [unittest arguments]

Needs Python's standard library only.
"""

import argparse
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARGUMENTS = argparse.Namespace(cmake="", compile="")


class AddModelTest(unittest.TestCase):
    def fails(self, arguments, *words, files=None, options=(), suffix=""):
        """`files`: what is in the folder of the project, by name; `options`: CMake's; `suffix`: of the folder's name."""
        with self.subTest(arguments, files=files, options=options, suffix=suffix), \
                tempfile.TemporaryDirectory(suffix=suffix) as folder:
            for name, text in (files or {}).items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            pathlib.Path(folder, "CMakeLists.txt").write_text(
                "cmake_minimum_required(VERSION 3.25)\nproject(mistaken LANGUAGES NONE)\n"
                "add_executable(ShuffleNet::compile IMPORTED)\n"
                f"set_property(TARGET ShuffleNet::compile PROPERTY IMPORTED_LOCATION [[{ARGUMENTS.compile}]])\n"
                f"include([[{ROOT}/cmake/ShuffleNetModel.cmake]])\nshufflenet_add_model({arguments})\n")
            result = subprocess.run([ARGUMENTS.cmake, "-S", folder, "-B", folder + "/build", *options], stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, timeout=600)
            text = re.sub(r"\s+", " ", result.stdout.decode())
            self.assertNotEqual(result.returncode, 0)
            for word in words:
                self.assertIn(word, text)

    def test_mistakes(self):
        good = "NAME pets NETWORK shufflenet_v2_x0_5"
        self.fails("NAME Pets NETWORK shufflenet_v2_x0_5", '"Pets"', "lower case")
        self.fails("NETWORK shufflenet_v2_x0_5", "NAME")
        self.fails("NAME pets NETWORK resnet18", "shufflenet_add_model(pets): --network: expected one of shufflenet_v2, "
                   "shufflenet_v2_x0_5, shufflenet_v2_x1_0", "found 'resnet18'")
        self.fails("NAME pets", "--network", "expected one of")
        for size, found in [("64", "64"), ("64 64 64", "64,64,64"), ("31 64", "31,64"), ("64 1025", "64,1025"),
                            ("64 wide", "64,wide")]:
            self.fails(f"{good} INPUT {size}", "--input", "rows and columns", "32 to 1024", f"found '{found}'")
        self.fails(f"{good} CLASSES 100001", "--classes", "0 to 100000", "found '100001'")
        self.fails(f"{good} TARGETS avx2 neon", "--targets", "x86_64", "found 'neon'")
        self.fails(f"{good} OUTPUTS stage9", "outputs: expected some of stage2", "found stage9")
        self.fails(f"{good} UNITS 1 2", "--units: expected with --network shufflenet_v2 only")
        self.fails("NAME pets NETWORK shufflenet_v2 UNITS 1 2 CHANNELS 24 48", "channels", "found 2")
        self.fails("NAME pets NETWORK shufflenet_v2 UNITS 1 CHANNELS 24 49", "channels: expected even numbers")
        self.fails(f"{good} PRECISION int4", "--precision", "found 'int4'")
        self.fails(f"{good} EMBED", "EMBED needs WEIGHTS or ONNX")
        self.fails("NAME pets ONNX absent.onnx", "ONNX", "absent.onnx: no such file")
        self.fails(f"{good} ONNX empty.onnx", "--network: expected none with --onnx", "found shufflenet_v2_x0_5",
                   files={"empty.onnx": ""})
        self.fails("NAME pets ONNX empty.onnx", "--onnx", "empty.onnx", files={"empty.onnx": ""})
        self.fails(f"{good} WIDTH 64", "unknown arguments", "WIDTH")

    def test_systems(self):
        good = "NAME pets NETWORK shufflenet_v2_x0_5"
        machine = platform.machine()
        names = {"x86_64": ["x86_64", "amd64", "AMD64", "x64"], "aarch64": ["aarch64", "arm64", "ARM64", "armv8-a"]}
        isas = {"x86_64": "sse41 avx2 avx512 avx512x2".split(), "aarch64": ["neon"]}
        for processor, spelled in names.items():
            for name in spelled:
                self.fails(f"{good} TARGETS none", "--targets", *isas[processor], options=self.system("Linux", name))
        for name in ("riscv64", "i686", "armv7l", "aarch64_be", "ppc64le"):
            self.fails(good, "CMAKE_SYSTEM_PROCESSOR: expected one of x86_64, amd64, x64, aarch64, arm64, armv8-a",
                       f'found "{name}"', options=self.system("Linux", name))
        for name in ("Windows", "Darwin", "FreeBSD", "Generic"):
            self.fails(good, f"CMAKE_SYSTEM_NAME: expected Linux, found {name}", options=self.system(name, machine))
        self.fails(good, "CMAKE_SIZEOF_VOID_P: expected 8", options=["-D", "CMAKE_SIZEOF_VOID_P=4"])

    @staticmethod
    def system(name, processor):
        """Options of a build for another machine."""
        return ["-D", f"CMAKE_SYSTEM_NAME={name}", "-D", f"CMAKE_SYSTEM_PROCESSOR={processor}"]

    def test_paths(self):
        good = "NAME pets NETWORK shufflenet_v2_x0_5"
        for character in ";#$<>\"`[]":
            self.fails(good, "expected a path without", suffix=f"a{character}b")
        for character in ";#$<>\"\\`[":
            self.fails(f"{good} WEIGHTS [==[a{character}b]==]", "expected a path without")

    def test_languages(self):
        self.fails("NAME pets NETWORK shufflenet_v2_x0_5", "pets", "C++ is not enabled", "project(... LANGUAGES C CXX)")

    def test_tuned_numbers(self):
        good = "NAME pets NETWORK shufflenet_v2_x0_5 INPUT 64 64 TUNED own"
        self.fails(good, "TUNED", "own: no such file")
        target = "neon" if platform.machine() == "aarch64" else "sse41"
        for text in ("", "[]", "{}"):
            self.fails(f"{good} TARGETS {target}", f"own/{target}.json", files={f"own/{target}.json": text})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cmake", required=True, help="the program")
    parser.add_argument("--compile", required=True, help="path of shufflenet_compile")
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
