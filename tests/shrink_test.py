#!/usr/bin/env python3
"""What can be left out, is: the size of an archive for one instruction set, a build without threads and images.

    python3 tests/shrink_test.py --shufflenet build/x86/bin/shufflenet --compiler build/x86/bin/shufflenet_compile \\
        --archive build/x86/lib/libshufflenet_v2_x1_0.a --nm nm --readelf readelf [unittest arguments]

Needs Python's standard library only.
"""

import argparse
import os
import pathlib
import platform
import random
import re
import struct
import subprocess
import sys
import tempfile
import unittest

from commands import run

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARGUMENTS = argparse.Namespace()
ISAS = re.findall(rf'^    {{"(\w+)", "{platform.machine()}", ', (ROOT / "networks/targets.h").read_text(), re.MULTILINE)
MOST_BYTES = 1_500_000


class SizeTest(unittest.TestCase):
    def test_one_instruction_set(self):
        for isa in (ISAS[0], ISAS[-1]):
            with self.subTest(isa), tempfile.TemporaryDirectory() as folder:
                run(ARGUMENTS.compiler, "--name", "one", "--network", "shufflenet_v2_x1_0", "--targets", isa,
                    "--output", folder, "--quiet")
                size = pathlib.Path(folder, "libone.a").stat().st_size
                print(f"shufflenet_v2_x1_0, {isa} alone: {size:,} bytes", file=sys.stderr)
                self.assertLessEqual(size, MOST_BYTES)


class LeftOutTest(unittest.TestCase):
    """One build without threads and without images, of one instruction set, with the compiler of this one."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="shufflenet-shrink-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.build = cls.folder / "build"
        run("cmake", "-S", ROOT, "-B", cls.build, "-G", "Ninja", "-D", "CMAKE_BUILD_TYPE=Release",
            "-D", f"SHUFFLENET_COMPILER={os.path.abspath(ARGUMENTS.compiler)}",
            "-D", "SHUFFLENET_THREADS=OFF", "-D", "SHUFFLENET_IMAGE=OFF", "-D", "SHUFFLENET_NETWORKS=OFF",
            "-D", "SHUFFLENET_ONNX=OFF",
            "-D", "CMAKE_DISABLE_FIND_PACKAGE_JPEG=ON", "-D", "CMAKE_DISABLE_FIND_PACKAGE_PNG=ON",
            "-D", f"SHUFFLENET_TARGETS={ISAS[0]}")
        run("cmake", "--build", cls.build, "--target", "shufflenet")
        cls.archive = cls.build / "lib/libcifar10_x0_5.a"
        cls.shufflenet = cls.build / "bin/shufflenet"
        cls.input = cls.folder / "x.npy"
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3, 64, 64), }\n"
        generator = random.Random(1)
        values = [generator.gauss(0, 1) for _ in range(3 * 3 * 64 * 64)]
        cls.input.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
                              + struct.pack(f"<{len(values)}f", *values))

    def run_model(self, program, output, *options):
        return subprocess.run([program, "run", "--model", "cifar10_x0_5", "--input", self.input, "--output", output, *options],
                              env={**os.environ, "SHUFFLENET_ISA": ISAS[0]}, capture_output=True, text=True, timeout=600)

    def fails(self, result, *words):
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertTrue(result.stderr.startswith("shufflenet: error: "), result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)

    def test_the_same_results(self):
        one, other = self.folder / "one.npy", self.folder / "other.npy"
        result = self.run_model(self.shufflenet, one)
        self.assertEqual(result.returncode, 0, result.stderr)
        result = self.run_model(ARGUMENTS.shufflenet, other, "--threads", "2")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(one.read_bytes(), other.read_bytes())

    def test_two_threads_are_refused(self):
        output = self.folder / "two.npy"
        self.fails(self.run_model(self.shufflenet, output, "--threads", "2"), "expected 1", "SHUFFLENET_THREADS=OFF", "found 2")
        self.assertFalse(output.exists())

    def test_photographs_are_refused(self):
        result = subprocess.run([self.shufflenet, "classify", "cat.jpg"], capture_output=True, text=True, timeout=600)
        self.fails(result, "no images", "SHUFFLENET_IMAGE=OFF")

    def test_no_symbol_of_threads(self):
        threads = re.compile(r"pthread_|thrd_|_ZNSt6thread|_ZNSt7__cxx11.*jthread")
        for archive, expected in ((self.archive, False), (pathlib.Path(ARGUMENTS.archive), True)):
            symbols = run(ARGUMENTS.nm, "--undefined-only", "--format=posix", archive)
            self.assertGreater(symbols.count("\n"), 100)
            self.assertEqual(threads.search(symbols) is not None, expected, archive)

    def test_no_library_of_images(self):
        needed = re.findall(r"\(NEEDED\).*\[([^]]+)\]", run(ARGUMENTS.readelf, "-d", self.shufflenet))
        self.assertIn("libc.so.6", needed)
        self.assertEqual([name for name in needed if re.match(r"lib(jpeg|png|z|pthread)\.", name)], [])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("shufflenet", "compiler", "archive", "nm", "readelf"):
        parser.add_argument("--" + option, required=True)
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
