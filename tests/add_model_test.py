#!/usr/bin/env python3
"""Mistakes in the arguments of shufflenet_add_model() fail when CMake runs, and say what was expected.

    python3 tests/add_model_test.py --cmake cmake [unittest arguments]

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
ARGUMENTS = argparse.Namespace(cmake="")


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
        self.fails("NAME pets NETWORK resnet18", '"resnet18"', "expected one of shufflenet_v2_x0_5, shufflenet_v2_x1_0")
        self.fails("NAME pets", "NETWORK", "expected one of")
        self.fails(f"{good} INPUT 64", "INPUT", "height and width")
        self.fails(f"{good} INPUT 64 64 64", "INPUT", "height and width")
        self.fails(f"{good} INPUT 31 64", "INPUT 31 64", "32 to 1024")
        self.fails(f"{good} INPUT 64 1025", "INPUT 64 1025", "32 to 1024")
        self.fails(f"{good} INPUT 64 wide", "INPUT 64 wide", "32 to 1024")
        self.fails(f"{good} CLASSES 0", "CLASSES 0", "1 to 100000")
        self.fails(f"{good} CLASSES 100001", "CLASSES 100001", "1 to 100000")
        self.fails(f"{good} TARGETS avx2 neon", "TARGETS neon", "sse41")
        self.fails(f"{good} WIDTH 64", "unknown arguments", "WIDTH")

    def test_systems(self):
        good = "NAME pets NETWORK shufflenet_v2_x0_5"
        machine = platform.machine()
        names = {"x86_64": ["x86_64", "amd64", "AMD64", "x64"], "aarch64": ["aarch64", "arm64", "ARM64", "armv8-a"]}
        isas = {"x86_64": "sse41 avx2 avx512 avx512x2".split(), "aarch64": ["neon"]}
        for processor, spelled in names.items():
            for name in spelled:
                self.fails(f"{good} TARGETS none", "TARGETS none", *isas[processor], options=self.system("Linux", name))
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
        self.fails(good, "own", "no file <target>/pets.json for shufflenet_v2_x0_5 at 64 64")
        for text, *words in [("", "network"), ("[]", "network"),
                             ('{"network": "shufflenet_v2_x0_5", "input": [64, 32]}', "no file <target>/pets.json")]:
            self.fails(good, "own", *words, files={"own/sse41/pets.json": text, "own/neon/pets.json": text})
        head = '{"network": "shufflenet_v2_x0_5", "input": [64, 64], "kernels": {}, "batches": '
        for batches, *words in [('{"8": {"stage9": {}}}', "batches.8", 'unknown kernel "stage9"'),
                                ('{"1": {}}', "batches", "2 to 4096", '"1"'), ('{"8": 1}', "batches", '"8"'),
                                ('{"5000": {}}', "batches", '"5000"'), ("[]", "batches: expected an object")]:
            self.fails(good + " DEVICES opencl", "pets.json", *words,
                       files={"own/opencl/pets.json": head + batches + "}"})
        target = "neon" if platform.machine() == "aarch64" else "sse41"
        self.fails(good + f" TARGETS {target}", f"{target}/pets.json", "batches", "of devices",
                   files={f"own/{target}/pets.json": head + "{}}"})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cmake", required=True, help="the program")
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
