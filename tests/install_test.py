#!/usr/bin/env python3
"""The package as its users get it: installed, moved, and used by projects that know nothing else of this one.

    python3 tests/install_test.py --build build/x86 --version 1.0.0 --isa sse41 --cc cc --cxx c++ [unittest arguments]

Needs Python's standard library; pkg-config and dpkg-deb for what is about them.
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

from commands import run, write_backbone_weights

ROOT = pathlib.Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "models/cifar10_x0_5.safetensors"
PUBLISHED = ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"]
MODELS = ["cifar10_x0_5", *PUBLISHED]
ARGUMENTS = argparse.Namespace(host_build="", sysroot="", emulator="")


def picture(path, size, step):
    """A square PPM file with slopes in every channel."""
    pixels = bytes((x * step + y * (c + 1) * 3) % 256 for y in range(size) for x in range(size) for c in range(3))
    path.write_bytes(b"P6 %d %d 255\n" % (size, size) + pixels)
    return path


def files_under(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class InstallTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="shufflenet-install-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        first = cls.folder / "first"
        run("cmake", "--install", ARGUMENTS.build, "--prefix", first)
        cls.prefix = cls.folder / "moved" / "elsewhere"
        cls.prefix.parent.mkdir()
        first.rename(cls.prefix)
        cls.prefixes = [cls.prefix]
        if ARGUMENTS.host_build:
            cls.prefixes.insert(0, cls.folder / "host")
            run("cmake", "--install", ARGUMENTS.host_build, "--component", "tools", "--prefix", cls.prefixes[0])
        (cls.lib,) = {path.parent for path in cls.prefix.rglob("libshufflenet_v2_x1_0.a")}
        cls.environment = {**os.environ, "PKG_CONFIG_PATH": str(cls.lib / "pkgconfig")}
        cls.shufflenet = cls.prefix / "bin/shufflenet"
        cls.emulator = shlex.split(ARGUMENTS.emulator)

    def compilers(self):
        if not ARGUMENTS.host_build:
            return ["-D", f"CMAKE_C_COMPILER={ARGUMENTS.cc}", "-D", f"CMAKE_CXX_COMPILER={ARGUMENTS.cxx}"]
        toolchain = self.prefixes[0] / "share/shufflenet/cmake/toolchain-arm64.cmake"
        return ["-D", f"CMAKE_TOOLCHAIN_FILE={toolchain}", "-D", f"SHUFFLENET_SYSROOT={ARGUMENTS.sysroot}"]

    def configure(self, source, name, *options):
        build = self.folder / name
        run("cmake", "-S", source, "-B", build, "-G", "Ninja", "-D", "CMAKE_BUILD_TYPE=Release",
            "-D", f"CMAKE_PREFIX_PATH={';'.join(map(str, self.prefixes))}", "-D", f"SHUFFLENET_TARGETS={ARGUMENTS.isa}",
            *self.compilers(), *options)
        return build

    def expected(self, picture):
        """The command line's answer: class and probability."""
        best = json.loads(run(*self.emulator, self.shufflenet, "classify", "--json", "--top", "1", picture))["top"][0]
        return best["class"], best["probability"]

    def check_answer(self, line, picture, expected):
        found = re.fullmatch(r"(.*): class (\d+), (0\.\d{4}|1\.0000)", line).groups()
        self.assertEqual((found[0], int(found[1])), (str(picture), expected[0]))
        # Four digits; and C normalises pixels with other operations.
        self.assertAlmostEqual(float(found[2]), expected[1], delta=2e-4)

    def test_files(self):
        files = files_under(self.prefix)
        lib = str(self.lib.relative_to(self.prefix))
        expected = {"bin/shufflenet", "bin/shufflenet_compile", f"{lib}/libshufflenet_image.a",
                    f"{lib}/libshufflenet_runtime.a",
                    f"{lib}/cmake/ShuffleNet/ShuffleNetConfig.cmake", f"{lib}/pkgconfig/shufflenet.pc",
                    "include/shufflenet/model.h", "include/shufflenet/image.h", "share/doc/shufflenet/copyright"}
        for model in MODELS:
            expected |= {f"{lib}/lib{model}.a", f"{lib}/pkgconfig/{model}.pc", f"include/shufflenet/models/{model}.h"}
        self.assertLessEqual(expected, files)
        for source in files_under(ROOT / "examples"):
            self.assertIn(f"share/doc/shufflenet/examples/{source}", files)

    def test_no_file_names_where_it_was_made(self):
        for name in files_under(self.prefix):
            content = (self.prefix / name).read_bytes()
            for place in (ROOT, pathlib.Path(ARGUMENTS.build).resolve(), self.folder / "first"):
                self.assertNotIn(str(place).encode(), content, name)

    def test_programs(self):
        self.assertIn(ARGUMENTS.version, run(*self.emulator, self.shufflenet, "--version"))
        models = json.loads(run(*self.emulator, self.shufflenet, "list", "--json"))
        self.assertEqual({model["name"] for model in models}, set(MODELS))

    def test_version(self):
        major, minor, _ = ARGUMENTS.version.split(".")
        for version, good in ((f"{major}.{minor}", True), (str(int(major) + 1), False), (f"{major}.{minor}99", False)):
            with self.subTest(version), tempfile.TemporaryDirectory() as folder:
                pathlib.Path(folder, "CMakeLists.txt").write_text(
                    "cmake_minimum_required(VERSION 3.25)\nproject(version LANGUAGES C CXX)\n"
                    f"find_package(ShuffleNet {version} REQUIRED)\nmessage(STATUS \"found ${{ShuffleNet_VERSION}}\")\n")
                command = ["cmake", "-S", folder, "-B", f"{folder}/build", "-D", f"CMAKE_PREFIX_PATH={self.prefix}"]
                if good:
                    self.assertIn(f"found {ARGUMENTS.version}", run(*command))
                else:
                    with self.assertRaisesRegex(AssertionError, f"requested\\s+version \"{re.escape(version)}\""):
                        run(*command)

    def test_examples(self):
        source = self.folder / "examples-source"
        shutil.copytree(self.prefix / "share/doc/shufflenet/examples", source)
        build = self.configure(source, "examples")
        run("cmake", "--build", build)

        small = [picture(self.folder / f"small{step}.ppm", 64, step) for step in (1, 2, 5)]
        large = [picture(self.folder / f"large{step}.ppm", 100, step) for step in (3, 7)]
        expected = {path: self.expected(path) for path in small + large}
        self.assertGreater(len({best for best, _ in expected.values()}), 1)

        for path, line in zip(expected, run(*self.emulator, build / "classify", *expected).splitlines(), strict=True):
            self.check_answer(line, path, expected[path])
        for path in small:
            self.check_answer(run(*self.emulator, build / "classify_c", path).strip(), path, expected[path])
        requests = [str(path) for path in expected] * 20
        answers = run(*self.emulator, build / "server", "3", input="\n".join(requests).encode()).splitlines()
        self.assertEqual(sorted(answers), sorted(f"{path}: class {expected[path][0]}" for path in expected for _ in range(20)))
        self.check_backbone(build / "backbone")
        self.check_errors(build)

    def test_models_do_not_need_libraries_of_images(self):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "CMakeLists.txt").write_text(
                "cmake_minimum_required(VERSION 3.25)\nproject(models LANGUAGES C CXX)\n"
                "find_package(ShuffleNet REQUIRED)\nadd_executable(plain plain.c)\n"
                "target_link_libraries(plain PRIVATE ShuffleNet::cifar10_x0_5)\n")
            shutil.copy(ROOT / "tests/link/plain.c", folder)
            run("cmake", "-S", folder, "-B", f"{folder}/build", "-D", f"CMAKE_PREFIX_PATH={self.prefix}",
                "-D", "CMAKE_DISABLE_FIND_PACKAGE_JPEG=ON", "-D", "CMAKE_DISABLE_FIND_PACKAGE_PNG=ON")
            run("cmake", "--build", f"{folder}/build")
            self.assertEqual(len(run(f"{folder}/build/plain").split()), 10)

    def own_variables(self):
        """Every variable in lower case that our CMake files read: a user's project may have one of that name too."""
        text = "".join(path.read_text() for path in (ROOT / "cmake").glob("*.cmake*"))
        names = set(re.findall(r"\$\{([a-z][a-z0-9_]*)\}", text))
        self.assertLessEqual({"name", "dir", "arguments", "objects", "option", "program", "processor", "error"}, names)
        return sorted(names)

    def test_variables_are_left_alone(self):
        names = " ".join(self.own_variables())
        folder = self.folder / "variables"
        folder.mkdir()
        (folder / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.25)\nproject(variables LANGUAGES C CXX)\n"
            f"foreach(each {names})\n  set(${{each}} \"mine;of ${{each}}\")\nendforeach()\nunset(each)\n"
            "get_cmake_property(BEFORE VARIABLES)\n"
            "find_package(ShuffleNet REQUIRED)\n"
            "shufflenet_add_model(NAME pets NETWORK test_tiny INPUT 1 1 CLASSES 10 "
            f"METADATA [[{WEIGHTS.with_suffix('.json')}]])\n"
            "get_cmake_property(AFTER VARIABLES)\nlist(REMOVE_ITEM AFTER ${BEFORE})\n"
            "list(FILTER AFTER INCLUDE REGEX \"^[a-z]\")\n"
            "if(AFTER)\n  message(FATAL_ERROR \"new: ${AFTER}\")\nendif()\n"
            f"foreach(EACH {names})\n  if(NOT \"${{${{EACH}}}}\" STREQUAL \"mine;of ${{EACH}}\")\n"
            "    message(FATAL_ERROR \"${EACH} became ${${EACH}}\")\n  endif()\nendforeach()\n")
        build = self.configure(folder, "variables-build")
        # Nor does a model depend on them.
        run("cmake", "--build", build, "--target", "pets")

    def test_projects_in_c(self):
        folder = self.folder / "c"
        folder.mkdir()
        shutil.copy(ROOT / "tests/link/plain.c", folder)
        for finding, enabled in (("find_package(ShuffleNet REQUIRED)", True),
                                 ("function(find)\n  find_package(ShuffleNet REQUIRED)\nendfunction()\nfind()", False)):
            (folder / "CMakeLists.txt").write_text(
                f"cmake_minimum_required(VERSION 3.25)\nproject(app C)\n{finding}\nadd_executable(plain plain.c)\n"
                "target_link_libraries(plain PRIVATE ShuffleNet::cifar10_x0_5)\nif(WITH_MODEL)\n"
                "  shufflenet_add_model(NAME pets NETWORK test_tiny INPUT 1 1 CLASSES 10)\n"
                "  add_executable(own own.c)\n  target_link_libraries(own PRIVATE pets)\nendif()\n")
            (folder / "own.c").write_text('#include "pets.h"\nint main(void) { return pets_isa == 0; }\n')
            with self.subTest(finding):
                build = self.configure(folder, f"c-{enabled}", "-D", f"WITH_MODEL={'ON' if enabled else 'OFF'}")
                run("cmake", "--build", build)
                self.assertEqual(len(run(build / "plain").split()), 10)
                if enabled:
                    run(build / "own")
                else:
                    with self.assertRaisesRegex(AssertionError, r"C\+\+\s+is\s+not\s+enabled"):
                        self.configure(folder, f"c-{enabled}", "-D", "WITH_MODEL=ON")

    def check_backbone(self, program):
        # Heights and widths are 8, 16 and 32 times smaller than 192x320.
        weights = self.folder / "backbone.safetensors"
        write_backbone_weights(WEIGHTS, weights)
        lines = run(*self.emulator, program, weights).splitlines()
        shapes = [re.match(r"stage(\d): (\S+), mean (\S+), view agrees$", line).groups() for line in lines]
        self.assertEqual([shape[:2] for shape in shapes], [("2", "24x40x48"), ("3", "12x20x96"), ("4", "6x10x192")])
        self.assertEqual(len({float(shape[2]) for shape in shapes}), 3)

    def check_errors(self, build):
        absent = str(self.folder / "absent")
        for command, status in (((build / "classify", absent), 1), ((build / "classify_c", absent), 2),
                                ((build / "backbone", absent), 1), ((build / "server", "0"), 2)):
            result = subprocess.run([*self.emulator, *map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, timeout=600)
            self.assertEqual(result.returncode, status, command)
            self.assertTrue(result.stderr, command)

    def test_packages_that_do_not_fit(self):
        """Another processor's package, or the target's without the host's."""
        toolchain = self.folder / "toolchain.cmake"
        toolchain.write_text("set(CMAKE_SYSTEM_NAME Linux)\nset(CMAKE_SYSTEM_PROCESSOR riscv64)\n")
        cases = [([self.prefix], ["-D", f"CMAKE_TOOLCHAIN_FILE={toolchain}"],
                  r"version:\s+\S+\s+for\s+\w+,\s+but\s+CMAKE_SYSTEM_PROCESSOR:\s+expected\s+one\s+of")]
        if ARGUMENTS.host_build:
            cases.append(([self.prefix], self.compilers(), r"needs\s+this\s+machine's\s+package\s+too"))
        for i, (prefixes, options, words) in enumerate(cases):
            with self.subTest(words), self.assertRaisesRegex(AssertionError, words):
                run("cmake", "-S", ROOT / "examples", "-B", self.folder / f"unfit{i}",
                    "-D", f"CMAKE_PREFIX_PATH={';'.join(map(str, prefixes))}", *options)

    def test_two_models_beside_halide(self):
        build = self.configure(ROOT / "tests/install", "two", "-D", f"WEIGHTS={WEIGHTS}")
        run("cmake", "--build", build)
        half = self.folder / "half.safetensors"
        run(self.shufflenet, "convert", "--f16", WEIGHTS, half)
        values = [float.fromhex(line) for line in run(build / "two_models", half).split()]
        embedded, from_file = values[:10], values[10:]
        self.assertEqual((len(embedded), len(set(embedded))), (10, 10))
        self.assertEqual(embedded, from_file, "EMBED F16 is what convert --f16 makes")
        single = [float.fromhex(line) for line in run(build / "two_models", WEIGHTS).split()][10:]
        self.assertNotEqual(embedded, single)
        # Half precision rounds weights by up to 2^-11; errors of 52 layers add up to a few times that.
        error = max(abs(a - b) for a, b in zip(embedded, single)) / (max(single) - min(single))
        self.assertLess(error, 16 * 2**-11)
        # The archive has the halves, not the floats: what the one without weights is smaller by.
        sizes = {name: (build / f"lib{name}.a").stat().st_size for name in ("small", "beside")}
        self.assertAlmostEqual(sizes["small"] - sizes["beside"], half.stat().st_size, delta=4096)
        self.assertEqual((build / "beside/beside.safetensors").read_bytes(), WEIGHTS.read_bytes())

    def test_embedded_weights_are_checked(self):
        bad = self.folder / "bad.safetensors"
        bad.write_bytes(WEIGHTS.read_bytes()[:-4])
        # The package has a compiler already: as soon as CMake runs.
        with self.assertRaisesRegex(AssertionError, r"shufflenet_add_model\(\w+\):\s+--weights:\s+\S*bad.safetensors:"):
            self.configure(ROOT / "tests/install", "bad", "-D", f"WEIGHTS={bad}")

    def test_mistakes_are_told_from_here_too(self):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "CMakeLists.txt").write_text(
                "cmake_minimum_required(VERSION 3.25)\nproject(mistake LANGUAGES C CXX)\n"
                "find_package(ShuffleNet REQUIRED)\nshufflenet_add_model(NAME pets NETWORK resnet18)\n")
            with self.assertRaisesRegex(AssertionError, r"--network:\s+expected\s+one\s+of\s+shufflenet_v2,\s+shufflenet_v2_x0_5"):
                run("cmake", "-S", folder, "-B", f"{folder}/build", "-D", f"CMAKE_PREFIX_PATH={self.prefix}")

    @unittest.skipUnless(shutil.which("pkg-config"), "pkg-config is not installed")
    def test_pkg_config(self):
        def flags(*names):
            return run("pkg-config", "--cflags", "--libs", *names, env=self.environment).split()

        self.assertEqual(run("pkg-config", "--modversion", "shufflenet", env=self.environment).strip(), ARGUMENTS.version)
        image = picture(self.folder / "pkg.ppm", 64, 3)
        answers = set()
        for compiler, source, names in ((ARGUMENTS.cc, "classify.c", ["cifar10_x0_5"]),
                                        (ARGUMENTS.cxx, "classify.cc", ["cifar10_x0_5", "shufflenet_image"]),
                                        (ARGUMENTS.cxx, "classify.cc", ["shufflenet"])):
            program = self.folder / "pkg"
            standard = "-std=c99" if source.endswith(".c") else "-std=c++20"
            run(compiler, standard, "-Wall", "-Wextra", "-Werror", ROOT / "examples" / source, *flags(*names), "-o", program)
            answers.add(run(program, image))
        self.assertEqual(len(answers), 1)

    @unittest.skipUnless(shutil.which("dpkg-deb") and shutil.which("dpkg-shlibdeps"), "dpkg-dev is not installed")
    def test_debian_package(self):
        output = self.folder / "deb"
        run("cpack", "-G", "DEB", "--config", f"{ARGUMENTS.build}/CPackConfig.cmake", "-B", output)
        (package,) = output.glob("*.deb")
        fields = dict(re.findall(r"^(\S+): (.*)$", run("dpkg-deb", "--field", package), re.MULTILINE))
        self.assertEqual((fields["Package"], fields["Version"]), ("shufflenet", ARGUMENTS.version))
        self.assertEqual(package.name, f"shufflenet_{ARGUMENTS.version}_{fields['Architecture']}.deb")
        for needed in ("libc6", "libstdc++6", "libhalide", "libjpeg", "libpng"):
            self.assertIn(needed, fields["Depends"])
        root = self.folder / "root"
        run("dpkg-deb", "--extract", package, root)
        self.assertEqual(files_under(root / "usr"), files_under(self.prefix))
        self.assertIn(ARGUMENTS.version, run(root / "usr/bin/shufflenet", "--version"))
        build = self.folder / "deb-examples"
        run("cmake", "-S", ROOT / "examples", "-B", build, "-D", f"CMAKE_PREFIX_PATH={root}/usr")
        self.assertIn(f"ShuffleNet_DIR:PATH={root}/usr/", (build / "CMakeCache.txt").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("build", "version", "isa", "cc", "cxx"):
        parser.add_argument("--" + option, required=True)
    parser.add_argument("--host-build", default="", help="of a cross build: build folder whose tools run here")
    parser.add_argument("--sysroot", default="", help="of a cross build: folder with the target's libraries")
    parser.add_argument("--emulator", default="", help="command that runs programs, e.g. 'qemu-aarch64 -L DIR'")
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
