#!/usr/bin/env python3
"""The README's examples, as they stand there: built, run, and compared with what the program says.

    python3 tests/readme_test.py --shufflenet build/x86/bin/shufflenet [unittest arguments]

An example is a block of code; where there are several in a language, they have names after it. shufflenet_compile is
beside the program. Needs Python's standard library.
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import shutil
import sys
import tempfile
import unittest

from commands import run, write_backbone_weights

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
WEIGHTS = ROOT / "models/cifar10_x0_5.safetensors"
ARGUMENTS = argparse.Namespace()

# What the README leaves out around the example of outputs.
BACKBONE = """
#include <cstdio>
#include <vector>
#include "shufflenet/model.h"
#include "street.h"

int main(int, char **argv) {
    shufflenet::Model model;
    if (!model.open(street_descriptor).ok() || !model.load_weights(argv[1]).ok()) return 1;
    std::vector<float> input(3 * STREET_HEIGHT * STREET_WIDTH);
    for (size_t i = 0; i < input.size(); ++i) input[i] = float(i % 31) / 31 - 0.5F;
@example@
    shufflenet::OutputView view;
    if (!s.ok() || !model.view("stage4", &view).ok()) return 1;
    const auto [channels, height, width] = view.shape;
    for (int c = 0; c < channels; ++c) {
        for (int p = 0; p < height * width; ++p) {
            if (view.data[view.channel_offset[c] + p * view.pixel_stride] != stage4[p * channels + c]) return 1;
        }
    }
    std::printf("%zu %d %d %d\\n", stage3.size(), channels, height, width);
}
"""


def example(language, name=""):
    """The only block of the README in that language, or of those the one of that name."""
    info = f"{language} {name}".strip()
    (block,) = re.findall(rf"^```{info}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
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
            "cmake_minimum_required(VERSION 3.25)\nproject(readme)\n" + example("cmake") + example("cmake", "backbone")
            + "add_executable(backbone backbone.cc)\ntarget_link_libraries(backbone PRIVATE street)\n")
        (self.folder / "app.cc").write_text(example("cpp"))
        (self.folder / "backbone.cc").write_text(BACKBONE.replace("@example@", example("cpp", "backbone")))
        (self.folder / "app.c").write_text(example("c"))
        shutil.copy(WEIGHTS, self.folder / "pets.safetensors")
        build = self.folder / "build"
        # All instruction sets would say no more.
        run("cmake", "-S", self.folder, "-B", build, "-G", "Ninja", "-D", "CMAKE_BUILD_TYPE=Release",
            "-D", "SHUFFLENET_TARGETS=baseline", *shlex.split(ARGUMENTS.cmake_options))
        run("cmake", "--build", build, "--target", "app", "backbone")
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
        run(ARGUMENTS.cc, "-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{build}/pets", self.folder / "app.c",
            build / "libpets.a", *libraries, "-o", program)
        zeros = [float(line) for line in run(*emulator, program).split()]
        self.assertEqual((len(zeros), len(set(zeros))), (10, 10))

        weights = self.folder / "backbone.safetensors"
        write_backbone_weights(WEIGHTS, weights)
        self.assertEqual(run(*emulator, build / "backbone", weights), f"{96 * 20 * 20} 192 10 10\n")

    def test_compiler(self):
        (self.folder / "app.c").write_text(example("c"))
        shutil.copy(WEIGHTS, self.folder / "pets.safetensors")
        path = f"{os.path.dirname(ARGUMENTS.shufflenet)}:{os.environ['PATH']}"
        script = example("sh", "compiler").replace(" --embed", " --targets baseline --embed")
        run("bash", "-euo", "pipefail", "-c", script, cwd=self.folder, env={**os.environ, "PATH": path})
        self.assertEqual(len(set(run(self.folder / "app").split())), 10)

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
        rooms = " ".join(re.findall(r"^    (\w+/ .*)$", README, re.MULTILINE))
        self.assertGreater(rooms.count("/"), 5)
        for name in re.findall(r"(\w+)/ ", rooms):
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
