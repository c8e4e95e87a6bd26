#!/usr/bin/env python3
"""What the pages in docs/ show, done: commands run, programs compiled, links followed.

    python3 tests/docs_test.py --build build/x86 --isa sse41 --cxx c++ [unittest arguments]

A block of code says in its first line what it is, after the language: "sh root" runs in the project's folder, "sh
project" in that of a user's project; "cmake project" is part of that project's CMakeLists.txt; "cpp NAME" and "c NAME"
are its files; a "text NAME" is what a program prints. Needs Python's standard library; doxygen, pkg-config and
torchvision for what is about them.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from commands import run

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
WEIGHTS = ROOT / "models/cifar10_x0_5.safetensors"
ARGUMENTS = argparse.Namespace(build="", isa="", cxx="")
# The distribution's own, which is the one that has the distribution's torchvision.
PYTHON = "/usr/bin/python3"


def blocks(page, language, name=None):
    """Blocks of a page in a language, as pairs of name and text; or the texts of those of one name."""
    found = re.findall(rf"^```{language}(?: (\S+))?\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)
    return found if name is None else [text for each, text in found if each == name]


class Folder(unittest.TestCase):
    """Commands of a page, with a home of their own."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="shufflenet-docs-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.project = cls.folder / "project"
        cls.project.mkdir()
        cls.build = pathlib.Path(ARGUMENTS.build).resolve()
        cls.environment = {**os.environ, "HOME": str(cls.folder), "CMAKE_GENERATOR": "Ninja", "LC_ALL": "C"}

    @classmethod
    def shell(cls, script, where):
        """A page's build/x86 is the build that is tested; what it makes beside that goes to a folder of the test."""
        script = re.sub(r"(?<![\w/])build/x86\b", str(cls.build), script)
        if where == ROOT:
            script = re.sub(r"(?<![\w/])build/(?=\w)", f"{cls.folder}/", script)
        return run("bash", "-euo", "pipefail", "-c", script, cwd=where, env=cls.environment)

    def compiled(self, page, name, text):
        """What a program of the page prints; it may use all of networks/."""
        (self.folder / name).write_text(text)
        networks = (self.build / "networks/CMakeFiles/shufflenet_networks.dir").rglob("*.o")
        run(ARGUMENTS.cxx, "-std=c++20", "-Wall", "-Wextra", "-Werror", "-I", ROOT, "-I", ROOT / "networks",
            "-I", self.build / "include", self.folder / name, *sorted(networks), "-o", self.folder / "program")
        return run(self.folder / "program")

    def check_programs(self, page):
        programs = dict(block for block in blocks(page, "cpp") if block[0].endswith(".cc"))
        outputs = dict(blocks(page, "text"))
        self.assertGreater(len(programs), 0)
        for name, text in programs.items():
            with self.subTest(name):
                self.assertEqual(self.compiled(page, name, text), outputs[name])


class LinkingTest(Folder):
    """linking.md from top to bottom, as a project of its own."""

    PAGE = "linking.md"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        (cls.project / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.25)\nproject(linking LANGUAGES C CXX)\n"
            # A build of every instruction set would say no more.
            f"set(SHUFFLENET_TARGETS {ARGUMENTS.isa})\n" + "".join(blocks(cls.PAGE, "cmake", "project"))
            + "add_executable(threads threads.cc)\ntarget_link_libraries(threads PRIVATE ShuffleNet::cifar10_x0_5)\n"
            "add_executable(pets_logits pets_logits.cc)\ntarget_link_libraries(pets_logits PRIVATE pets)\n"
            "target_compile_options(logits PRIVATE -Wall -Wextra -Werror)\n")
        for language in ("c", "cpp"):
            for name, text in blocks(cls.PAGE, language):
                (cls.project / name).write_text(text)
        # The own model's program is the first one, by another name.
        text = (cls.project / "logits.cc").read_text()
        text = text.replace("cifar10_x0_5", "pets").replace("CIFAR10_X0_5", "PETS")
        (cls.project / "pets_logits.cc").write_text(text)
        shutil.copy(WEIGHTS, cls.project / "pets.safetensors")
        (install,) = blocks(cls.PAGE, "sh", "root")
        cls.shell(install, ROOT)
        cls.build_project, cls.compiler, cls.pkg_config, cls.plain = blocks(cls.PAGE, "sh", "project")
        cls.shell(cls.build_project, cls.project)

    def logits(self, program):
        values = [float(line) for line in run(self.project / program).split()]
        self.assertEqual((len(values), len(set(values))), (10, 10))
        return values

    def test_programs(self):
        expected = self.logits("build/logits")
        # Half precision rounds weights by 2^-11; errors of 52 layers add up to a few times that.
        span = max(expected) - min(expected)
        for found, value in zip(self.logits("build/pets_logits"), expected):
            self.assertAlmostEqual(found, value, delta=16 * 2**-11 * span)
        self.assertIn(f"prints `{run(self.project / 'build/pets_outputs').strip()}`", PAGES[self.PAGE])
        self.assertEqual(run(self.project / "build/threads"), "the same\n")
        self.shell(self.plain, self.project)
        self.assertEqual(self.logits("logits-plain"), expected)

    def test_compiler(self):
        self.shell(self.compiler.replace(" --embed", f" --targets {ARGUMENTS.isa} --embed"), self.project)
        half, single = (float(run(self.project / name)) for name in ("build/pets_outputs_c", "pets-outputs"))
        self.assertAlmostEqual(half, single, delta=0.02 * max(1, abs(single)))
        self.assertIn("pets.safetensors", (self.project / "pets.d").read_text())

    def test_weights_from_torchvision(self):
        if subprocess.run([PYTHON, "-c", "import torchvision"], stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("python3-torchvision is not installed")
        ((_, script),) = blocks(self.PAGE, "python")
        changed = script.replace('weights="IMAGENET1K_V1"', "weights=None")
        self.assertNotEqual(changed, script)
        run(PYTHON, "-c", changed, cwd=self.folder)
        text = run(self.build / "bin/shufflenet", "convert", self.folder / "x1_0.safetensors",
                   self.folder / "out.safetensors")
        self.assertIn("shufflenet_v2_x1_0, 1000 classes", text)

    def test_codes(self):
        header = (ROOT / "runtime/include/shufflenet/status.h").read_text()
        names = re.findall(r"\b(k[A-Z]\w+)(?: = 0)?,", header.split("enum class Code {")[1].split("}")[0])
        rows = re.findall(r"^\| `(k\w+)` \| (\d+) \|", PAGES[self.PAGE], re.MULTILINE)
        self.assertEqual(rows, [(name, str(number)) for number, name in enumerate(names)])

    @unittest.skipUnless(shutil.which("pkg-config"), "pkg-config is not installed")
    def test_pkg_config(self):
        version = self.shell(self.pkg_config, self.project)
        self.assertRegex(version, r"^\d+\.\d+\.\d+\n$")
        self.assertEqual(self.logits("logits-c"), self.logits("build/logits"))
        self.assertEqual(self.logits("logits-cc"), self.logits("build/logits"))

    def test_debian_package(self):
        """That the command makes one is for install_test.py."""
        version = re.search(r"^project\(ShuffleNet VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(), re.M)[1]
        self.assertIn(f"makes `build/package/shufflenet_{version}_amd64.deb`", PAGES[self.PAGE])
        self.assertIn(f"find_package(ShuffleNet {version.rpartition('.')[0]} REQUIRED)", PAGES[self.PAGE])
        self.assertIn(f"shufflenet_v{version.replace('.', '_')}_halide_", PAGES[self.PAGE])

    def test_fetched(self):
        source = self.folder / "fetch"
        source.mkdir()
        (source / "app.cc").write_text("int main() {}\n")
        (text,) = blocks(self.PAGE, "cmake", "fetch")
        (source / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.25)\nproject(fetch)\n" + text)
        # Configured only: what is built is what the README's example builds.
        run("cmake", "-S", source, "-B", source / "build", "-D", f"FETCHCONTENT_SOURCE_DIR_SHUFFLENET={ROOT}",
            env=self.environment)
        targets = run("cmake", "--build", source / "build", "--target", "help", env=self.environment)
        for target in ("pets:", "shufflenet_compile:"):
            self.assertIn("\n" + target, targets)
        self.assertNotIn("shufflenet_v2_x1_0", targets)

    def test_options_and_arguments(self):
        """The tables name what there is, all of it."""
        model = (ROOT / "cmake/ShuffleNetModel.cmake").read_text()
        sources = [(ROOT / name).read_text() for name in ("CMakeLists.txt", "cmake/HostTools.cmake")]
        options = set(re.findall(r"^(?:option\(|set\((?=[^)]* CACHE (?:STRING|FILEPATH)\b))(SHUFFLENET_\w+)",
                                 "".join(sources) + model, re.MULTILINE))
        # Those for work on this project.
        options -= {f"SHUFFLENET_{name}" for name in ("WERROR", "COVERAGE", "FUZZ", "SANITIZE", "GUIDELINES_TARGETS")}
        rows = "\n".join(re.findall(r"^\| (`SHUFFLENET_.*?) \|", PAGES[self.PAGE], re.MULTILINE))
        self.assertEqual(options, set(re.findall(r"`(SHUFFLENET_\w+)`", rows)))
        arguments = set(" ".join(re.findall(r"^  set\((?:single|lists) ([A-Z0-9_ ]+)\)$", model, re.MULTILINE)).split())
        rows = re.findall(r"^\| `([A-Z0-9_]+)[ `]", PAGES[self.PAGE], re.MULTILINE)
        rows = {row for row in rows if not row.startswith("SHUFFLENET_")}
        self.assertEqual(arguments | {"EMBED", "F16"}, rows)
        usage = run(self.build / "bin/shufflenet_compile", "--help")
        for argument in arguments - {"DEVICES"}:
            self.assertIn(f"--{argument.lower().replace('_', '-')} ", usage)


class LayoutsTest(Folder):
    def test_programs_print_what_the_page_says(self):
        self.check_programs("layouts.md")

    def test_names_exist(self):
        headers = "".join(path.read_text() for path in (ROOT / "networks").glob("*.h"))
        names = re.findall(r"`(\w+)\(\)`", PAGES["layouts.md"]) + re.findall(r"`(k[A-Z]\w+)`", PAGES["layouts.md"])
        self.assertGreater(len(names), 4)
        for name in names:
            self.assertTrue(re.search(rf"\b{name}\b", headers), name)


class TargetsTest(Folder):
    """The journey is what the compiler of this build makes, and the library has it."""

    PAGE = "targets.md"

    def excerpt(self, name, text):
        """The lines of an excerpt occur in `text` in this order; one after another unless "..." is between them."""

        def normal(line):
            line = re.sub(r"\bt\d+\b", "t", line.split("//")[0])  # Halide's counter.
            return re.sub(r"\s+", "", line)

        (lines,) = blocks(self.PAGE, "text", name)
        lines = lines.replace("\\\n", "")
        lines = [normal(line) for line in lines.splitlines()]
        found = [normal(line) for line in text.splitlines()]
        at = -1
        for i, line in enumerate(lines):
            if line == "...":
                continue
            if i == 0 or lines[i - 1] == "...":
                self.assertIn(line, found[at + 1 :])
                at = found.index(line, at + 1)
            else:
                at += 1
                self.assertEqual(found[at], line)

    def test_algorithm(self):
        self.excerpt("generators/layers.cpp", (ROOT / "generators/layers.cpp").read_text())

    def test_journey(self):
        version = run(self.build / "bin/shufflenet", "--version")
        kernels, disassemble, disassemble_wide = blocks(self.PAGE, "sh", "root")
        self.excerpt("kernels", self.shell(kernels, ROOT))
        if "Halide 14." not in version:
            self.skipTest("the excerpts are Halide 14's")
        for name, command in (("loop", disassemble), ("wide", disassemble_wide)):
            self.excerpt(name, re.sub(r"(?m)^ *[0-9a-f]+:\t", "", self.shell(command, ROOT)))

    def test_numbers_and_options(self):
        tuning = (ROOT / "schedules/tuning.cpp").read_text()
        rows = re.findall(r"^\| (`[a-z]+_.*?|`order`) \|", PAGES[self.PAGE], re.MULTILINE)
        shown = set(re.findall(r"`(\w+)`", " ".join(rows)))
        self.assertEqual(set(re.findall(r'Field\{"(\w+)"', tuning)), shown)
        rows = re.findall(r"^\| (`--.*?) \|", PAGES[self.PAGE], re.MULTILINE)
        options = set(re.findall(r"`(--[\w-]+)`", " ".join(rows)))
        autotune = self.build / "bin/autotune"
        if autotune.exists():
            self.assertLessEqual(options, set(re.findall(r"--[\w-]+", run(autotune, "--help"))))

    def test_tuned_files_have_these_keys(self):
        table = PAGES[self.PAGE].split("| key of a tuned file |")[1].split("\n\n")[0]
        keys = set(re.findall(r"`(\w+)`", table))
        for path in (ROOT / "schedules/tuned").glob("*.json"):
            found = set(json.loads(path.read_text()))
            self.assertLessEqual({"target", "kernels"}, found, path)
            self.assertLessEqual(found, keys, path)


class NetworksTest(Folder):
    def test_programs_print_what_the_page_says(self):
        self.check_programs("networks.md")

    def test_check(self):
        (command,), (expected,) = blocks("networks.md", "sh", "root"), blocks("networks.md", "text", "check")
        self.assertEqual(self.shell(command, ROOT), expected)

    def test_the_row_is_one(self):
        """It has the form of the rows of its family, and is not there yet."""
        (row,) = blocks("networks.md", "cpp", "row")
        table = (ROOT / "networks/families/shufflenet_v2.cc").read_text()
        numbers = r"{\d+(?:, \d+)*}"
        form = re.compile(rf'^    row\("shufflenet_v2_\w+", {{{numbers}, {numbers}, \d+}}, \d+, \d+\),$', re.MULTILINE)
        self.assertGreater(len(form.findall(table)), 3)
        self.assertRegex(row, form)
        self.assertNotIn(row, table)


class LinksTest(unittest.TestCase):
    def test_files_and_anchors_exist(self):
        def anchors(text):
            headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.MULTILINE)
            return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

        for page, text in PAGES.items():
            text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
            for target in re.findall(r"\]\(([^)\s]+)\)", text):
                name, _, anchor = target.partition("#")
                with self.subTest(page=page, target=target):
                    path = (DOCS / name) if name else DOCS / page
                    self.assertTrue(path.exists())
                    if anchor:
                        self.assertIn(anchor, anchors(path.read_text(encoding="utf-8")))

    def test_every_page_is_in_the_index(self):
        for page in PAGES:
            if page != "README.md":
                self.assertIn(f"]({page})", PAGES["README.md"])

    def test_names_in_code_style_exist(self):
        """Paths of this project that a page names without a link."""
        rooms = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"build"}
        for page, text in PAGES.items():
            for name in re.findall(r"`([\w.]+/[\w./]*\w)`", text):
                if name.split("/")[0] in rooms and "." in name.rsplit("/", 1)[-1]:
                    self.assertTrue((ROOT / name).exists(), f"{page}: {name}")

    def test_architecture(self):
        """One page, all of whose files and folders exist."""
        text = PAGES["architecture.md"]
        self.assertLessEqual(text.count("\n"), 120)
        names = re.findall(r"`([\w./]+/[\w./]*)`", text)
        names += re.findall(r"^    (\w+(?:/\w+)*/) ", text, re.MULTILINE)
        self.assertGreater(len(names), 25)
        for name in names:
            self.assertTrue((ROOT / name).exists(), name)


class CommandsTest(Folder):
    def test_commands_and_flags_exist(self):
        program = self.build / "bin/shufflenet"
        found = set()
        for page, text in PAGES.items():
            for name, rest in re.findall(r"(?:`|/bin/|\$ )shufflenet ([a-z]+)\b([^`\n]*)", text):
                with self.subTest(page=page, command=name):
                    found.add(name)
                    usage = run(program, name, "--help")
                    for flag in re.findall(r"--[a-z]\w*", rest):
                        self.assertIn(flag, usage)
        self.assertLessEqual({"list", "info", "run", "classify", "convert", "verify"}, found)

    def test_dev_commands_exist(self):
        usage = run(ROOT / "dev", "help")
        for page, text in PAGES.items():
            for name in re.findall(r"\./dev ([a-z-]+)", text):
                self.assertTrue(re.search(rf"(?m)^  {name}\b", usage), f"{page}: {name}")

    def test_variables_exist(self):
        sources = [ROOT / "dev", ROOT / "CMakeLists.txt", *(ROOT / "cmake").iterdir(), *(ROOT / "runtime").rglob("*.h")]
        texts = "".join(path.read_text(encoding="utf-8") for path in sources)
        for page, text in PAGES.items():
            for name in set(re.findall(r"\bSHUFFLENET_[A-Z_]+\b", text)):
                self.assertTrue(re.search(rf"\b{name}\b", texts), f"{page}: {name}")


class GuidelinesTest(unittest.TestCase):
    """The page names what the program writes; its tables and pictures are of the same run."""

    FOLDER = ROOT / "docs/guidelines"

    def test_schema(self):
        page = (self.FOLDER / "README.md").read_text()
        rows = "\n".join(re.findall(r"^\| `.*$", page.split("## The JSON")[1], re.MULTILINE))
        named = set(re.findall(r"`(\w+)(?:\[\])?`", rows)) | set(re.findall(r"[.`](\w+)\[\]", rows))
        self.assertGreater(len(named), 50)
        program = "".join(path.read_text() for room in ("bench", "networks") for path in (ROOT / room).rglob("*.[ch]*"))
        self.assertEqual([name for name in named if f'"{name}"' not in program], [])

    def test_one_run(self):
        page = (self.FOLDER / "README.md").read_text()
        date = re.match(r"Machine: .*, (\d{4}-\d\d-\d\d)\.", (self.FOLDER / "tables.md").read_text())[1]
        self.assertIn(date, page)
        pictures = re.findall(r"\((\w+\.svg)\)", page)
        self.assertEqual(set(pictures), {path.name for path in self.FOLDER.glob("*.svg")})


class ReferenceTest(unittest.TestCase):
    @unittest.skipUnless(shutil.which("doxygen"), "doxygen is not installed")
    def test_no_warning(self):
        with tempfile.TemporaryDirectory() as folder:
            script = f"cat docs/Doxyfile; echo OUTPUT_DIRECTORY = {folder}"
            run("bash", "-euo", "pipefail", "-c", f"({script}) | doxygen -", cwd=ROOT,
                env={**os.environ, "SHUFFLENET_VERSION": "1"})
            self.assertTrue(pathlib.Path(folder, "html/classshufflenet_1_1Model.html").exists())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help="a build's folder")
    parser.add_argument("--isa", required=True, help="the plainest instruction set")
    parser.add_argument("--cxx", required=True, help="C++ compiler")
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
