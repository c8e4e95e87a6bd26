#!/usr/bin/env python3
"""A build that is not ours: another project has this one as a subfolder, in a folder with an odd name, with flags and
variables of its own, in another version, beside a library of this one.

    python3 tests/other_build_test.py --build build/x86 --version 1.0.0 --isa sse41 --cxx c++ --readelf readelf --nm nm \\
        [unittest arguments]

Needs Python's standard library only.
"""

import argparse
import json
import pathlib
import re
import shutil
import struct
import sys
import tempfile
import unittest

from commands import run

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = ROOT / "tests/other_build"
WEIGHTS = ROOT / "models/cifar10_x0_5.safetensors"
ARGUMENTS = argparse.Namespace()
# Nobody's folder: what CMake's languages, the shell, make and ninja could take for something else.
ODD_NAME = "odd @x@ (1) {2} & ~+,'%=!"
# Arithmetic that is not IEEE 754's, languages with parts missing, and warnings as errors that are not ours.
FLAGS = ("-Ofast -ffast-math -ffinite-math-only -funsafe-math-optimizations -ffp-contract=fast -flto -fno-exceptions "
         "-fno-rtti -Werror -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wold-style-cast")
OTHER_VERSION = "9.8.7"


def bad_weights(path):
    """The weights with a NaN in them."""
    content = bytearray(WEIGHTS.read_bytes())
    (size,) = struct.unpack("<Q", content[:8])
    begin = json.loads(content[8:8 + size])["stage2.0.branch1.0.weight"]["data_offsets"][0]
    content[8 + size + begin + 12:8 + size + begin + 16] = struct.pack("<f", float("nan"))
    path.write_bytes(content)
    return path


def picture(path):
    path.write_bytes(b"P6 90 80 255\n" + bytes((x * 3 + y * (c + 1)) % 256 for y in range(80) for x in range(90)
                                               for c in range(3)))
    return path


class OtherBuildTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="shufflenet-other-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.source = cls.folder / ODD_NAME
        shutil.copytree(HERE, cls.source)
        cls.copy_tree(cls.source / "shufflenet")
        cls.build = cls.source / "build"
        ours = pathlib.Path(ARGUMENTS.build)
        run("cmake", "-S", cls.source, "-B", cls.build, "-G", "Ninja", "-D", "CMAKE_BUILD_TYPE=Release",
            "-D", f"CMAKE_CXX_COMPILER={ARGUMENTS.cxx}", "-D", f"CMAKE_CXX_FLAGS={FLAGS}",
            "-D", "CMAKE_UNITY_BUILD=ON", "-D", "CMAKE_COMPILE_WARNING_AS_ERROR=ON", "-D", f"WEIGHTS={WEIGHTS}",
            "-D", f"SHUFFLENET_TARGETS={ARGUMENTS.isa}",
            "-D", f"SHUFFLENET_COMPILER={ours / 'bin/shufflenet_compile'}")
        run("cmake", "--build", cls.build, "--target", "program", "plugin")
        cls.include = [f"-I{ROOT}/runtime/include", f"-I{ours}/include"]
        cls.libraries = [ours / "lib/libcifar10_x0_5.a", ours / "lib/libshufflenet_image.a"]
        cls.system = ["-ljpeg", "-lpng", "-lpthread"]
        cls.arguments = [picture(cls.folder / "picture.ppm"), bad_weights(cls.folder / "bad.safetensors")]

    @staticmethod
    def copy_tree(target):
        """This project in another version; what it does not change is linked."""
        target.mkdir()
        for path in ROOT.iterdir():
            if path.name not in ("build", "CMakeLists.txt"):
                (target / path.name).symlink_to(path)
        text, count = re.subn(r"(project\(ShuffleNet VERSION )[\d.]+", r"\g<1>" + OTHER_VERSION,
                              (ROOT / "CMakeLists.txt").read_text())
        assert count == 1
        (target / "CMakeLists.txt").write_text(text)

    def environment(self):
        return {"SHUFFLENET_ISA": ARGUMENTS.isa}

    def compile(self, output, *arguments):
        run(ARGUMENTS.cxx, "-std=c++20", "-O2", *arguments, "-o", self.folder / output)
        return self.folder / output

    def test_results_and_refusals_are_those_of_any_build(self):
        plain = self.compile("plain", HERE / "program.cc", "-DENTRY=main", "-DMODEL=cifar10_x0_5", *self.include,
                             *self.libraries, *self.system)
        expected = run(plain, *self.arguments, env=self.environment())
        self.assertEqual(run(self.build / "program", *self.arguments, env=self.environment()), expected)
        self.assertRegex(expected, r"(?m)^status: $")
        self.assertEqual(len(re.findall(r"(?m)^(?:mean|std): refused$", expected)), 6)
        self.assertRegex(expected, r"(?m)^weights: .*stage2.0.branch1.0.weight has the value -?nan at element 3")

    def test_two_versions_in_one_program(self):
        other = [f"-I{self.source}/shufflenet/runtime/include", f"-I{self.build}/shufflenet/include"]
        source = HERE / "program.cc"
        first = self.compile("first.o", "-c", source, "-DENTRY=first", "-DMODEL=cifar10_x0_5", "-DOTHER_MODEL=pets",
                             *self.include)
        second = self.compile("second.o", "-c", source, "-DENTRY=second", "-DMODEL=pets",
                              "-DOTHER_MODEL=cifar10_x0_5", *other)
        others = [self.build / "libpets.a", self.build / "shufflenet/runtime/libshufflenet_image.a"]
        for libraries in ([*self.libraries, *others], [*others, *self.libraries]):
            two = self.compile("two", HERE / "two.cc", first, second, *libraries, *self.system)
            results = run(two, *self.arguments, env=self.environment()).split("second\n")
            (mine, my_refusal), (others_own, other_refusal) = (result.split("other: ") for result in results)
            self.assertEqual(mine, others_own)
            self.assertRegex(mine, r"(?m)^status: $")
            words = "expected one of version {}, which this runtime is, found one of version {}\n"
            self.assertIn(words.format(ARGUMENTS.version, OTHER_VERSION), my_refusal)
            self.assertIn(words.format(OTHER_VERSION, ARGUMENTS.version), other_refusal)

    def test_a_shared_library_exports_its_own_functions_and_the_models(self):
        library = self.build / "libplugin.so"
        names = {line.split()[0] for line in run(ARGUMENTS.nm, "-D", "--defined-only", "--format=posix",
                                                 library).splitlines() if line.split()[1] not in "VWuv"}
        self.assertIn("plugin_classes", names)
        self.assertEqual({name for name in names if not re.fullmatch(r"plugin_classes|pets_\w+", name)}, set())
        self.assertNotIn("STATIC_TLS", run(ARGUMENTS.readelf, "-dW", library))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("build", "version", "isa", "cxx", "nm", "readelf"):
        parser.add_argument("--" + option, required=True)
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
