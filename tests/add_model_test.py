#!/usr/bin/env python3
"""Mistakes in the arguments of shufflenet_add_model() fail when CMake runs, and say what was expected.

    python3 tests/add_model_test.py --cmake cmake [unittest arguments]

Needs Python's standard library only.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARGUMENTS = argparse.Namespace(cmake="")


class AddModelTest(unittest.TestCase):
    def fails(self, arguments, *words):
        with self.subTest(arguments), tempfile.TemporaryDirectory() as folder:
            script = pathlib.Path(folder, "script.cmake")
            script.write_text("cmake_minimum_required(VERSION 3.25)\n"
                              f"set(PROJECT_SOURCE_DIR [[{ROOT}]])\n"
                              f"include([[{ROOT}/cmake/ShuffleNetModel.cmake]])\n"
                              f"shufflenet_add_model({arguments})\n")
            result = subprocess.run([ARGUMENTS.cmake, "-P", str(script)], cwd=folder, stdout=subprocess.PIPE,
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cmake", required=True, help="the program")
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
