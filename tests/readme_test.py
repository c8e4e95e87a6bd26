#!/usr/bin/env python3
"""The README's examples, as they stand there: built, run, and compared with what the program says.

    python3 tests/readme_test.py --shufflenet build/x86/bin/shufflenet [unittest arguments]

Needs Python's standard library; for the example with torchvision also that.
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

from commands import run

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
WEIGHTS = ROOT / "models/cifar10_x0_5.safetensors"
ARGUMENTS = argparse.Namespace()
# The distribution's own, which is the one that has the distribution's torchvision.
PYTHON = "/usr/bin/python3"


def example(language):
    """The only block of the README in that language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return block


def ppm(width, height):
    return b"P6\n%d %d\n255\n" % (width, height) + bytes(i * 7 % 256 for i in range(3 * width * height))


class ReadmeTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="shufflenet-readme-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def build_project(self):
        """A project of its own, with this one as a subdirectory."""
        (self.folder / "shufflenet").symlink_to(ROOT)
        (self.folder / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.25)\nproject(readme)\n" + example("cmake"))
        (self.folder / "app.cc").write_text(example("cpp"))
        (self.folder / "app.c").write_text(example("c"))
        shutil.copy(WEIGHTS, self.folder / "pets.safetensors")
        build = self.folder / "build"
        run("cmake", "-S", self.folder, "-B", build, "-G", "Ninja", "-D", "CMAKE_BUILD_TYPE=Release",
            *shlex.split(ARGUMENTS.cmake_options))
        run("cmake", "--build", build, "--target", "app")
        return build

    def test_programs(self):
        build = self.build_project()
        emulator = shlex.split(ARGUMENTS.emulator)
        (self.folder / "image.ppm").write_bytes(ppm(90, 70))
        scores = [float(line) for line in run(*emulator, build / "app", self.folder / "image.ppm").split()]
        self.assertEqual(len(scores), 10)
        line = run(*emulator, ARGUMENTS.shufflenet, "classify", "--json", "--top", "1", self.folder / "image.ppm")
        self.assertEqual(json.loads(line)["top"][0]["class"], scores.index(max(scores)))
        with self.assertRaisesRegex(AssertionError, "absent.jpg: cannot be opened"):
            run(*emulator, build / "app", self.folder / "absent.jpg")

        program = self.folder / "plain"
        libraries = re.search(r"`libpets\.a (-[^`]*)`", README)[1].split()
        run(ARGUMENTS.cc, "-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{build}/pets/include", self.folder / "app.c",
            build / "libpets.a", *libraries, "-o", program)
        zeros = [float(line) for line in run(*emulator, program).split()]
        self.assertEqual((len(zeros), len(set(zeros))), (10, 10))

    def test_weights_from_torchvision(self):
        if subprocess.run([PYTHON, "-c", "import torchvision"], stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("python3-torchvision is not installed")
        script = example("python").replace('weights="IMAGENET1K_V1"', "weights=None")
        self.assertIn("weights=None", script)
        run(PYTHON, "-c", script, cwd=self.folder)
        text = run(ARGUMENTS.shufflenet, "convert", self.folder / "x1_0.safetensors", self.folder / "out.safetensors")
        self.assertIn("shufflenet_v2_x1_0, 1000 classes", text)

    def test_commands_exist(self):
        commands = re.findall(r"^shufflenet (\w+)(.*)$", example("sh"), re.MULTILINE)
        self.assertEqual({name for name, _ in commands}, {"list", "classify", "run", "info", "convert", "verify"})
        for name, arguments in commands:
            text = run(ARGUMENTS.shufflenet, name, "--help")
            for flag in re.findall(r"--\w+", arguments):
                self.assertIn(flag, text)

    def test_table_of_networks(self):
        rows = re.findall(r"^\| (\w+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", README, re.MULTILINE)
        self.assertEqual(len(rows), 5)
        compiled = {model["name"] for model in json.loads(run(ARGUMENTS.shufflenet, "list", "--json"))}
        for name, *figures in rows:
            with self.subTest(name):
                total = json.loads(run(ARGUMENTS.shufflenet, "info", "--json", name))["total"]
                expected = [total["flops"], total["parameters"]]
                if name in compiled:
                    expected.append(total["arena_bytes"])
                found = [int(figure.replace(",", "")) for figure in figures]
                self.assertEqual(found[: len(expected)], expected)

    def test_photograph_of_the_first_command(self):
        (photograph,) = re.findall(r"^    \./dev demo (\S+) ", README, re.MULTILINE)
        line = run(ARGUMENTS.shufflenet, "classify", "--json", "--top", "1", ROOT / photograph)
        self.assertEqual(json.loads(line)["top"][0]["label"], "cat")

    def test_files_that_it_names_exist(self):
        for name in re.findall(r"\]\(([^)#:]+)\)", README):
            self.assertTrue((ROOT / name).exists(), name)
        for name in re.findall(r"^    ([\w./]+)/ +\w", README, re.MULTILINE):
            self.assertTrue((ROOT / name).is_dir(), name)

    def test_accuracy_is_the_metadatas(self):
        figures = json.loads((ROOT / "models/cifar10_x0_5.json").read_text())
        self.assertIn(f"{100 * figures['top1']:.2f} %", README)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shufflenet", required=True, help="the program")
    parser.add_argument("--cc", default="cc", help="C compiler")
    parser.add_argument("--cmake-options", default="", help="how the example is configured, e.g. a toolchain file")
    parser.add_argument("--emulator", default="", help="command that runs programs, e.g. 'qemu-aarch64 -L DIR'")
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    ARGUMENTS.shufflenet = os.path.abspath(ARGUMENTS.shufflenet)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
