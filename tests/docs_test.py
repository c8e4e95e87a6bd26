#!/usr/bin/env python3
"""What the pages in docs/ show, done: commands run, programs compiled, errors found, links followed.

    python3 tests/docs_test.py --build build/x86 --isa sse41 --cxx c++ [unittest arguments]

A block of code says in its first line what it is, after the language: "sh root" runs in the project's folder, "sh
project" in that of a user's project; "cmake project" is part of that project's CMakeLists.txt; "cpp NAME" and "c NAME"
are its files; a "text NAME" is what a program prints. Needs Python's standard library; doxygen and pkg-config for what
is about them.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

from commands import run

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
WEIGHTS = ROOT / "models/cifar10_x0_5.safetensors"
ARGUMENTS = argparse.Namespace(build="", isa="", cxx="")


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
            + "foreach(name features threads)\nadd_executable(${name} ${name}.cc)\n"
            "target_link_libraries(${name} PRIVATE ShuffleNet::cifar10_x0_5)\nendforeach()\n"
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
        cls.build_project, cls.pkg_config, cls.plain = blocks(cls.PAGE, "sh", "project")
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
        self.assertIn(f"prints `{run(self.project / 'build/features').strip()}`", PAGES[self.PAGE])
        self.assertEqual(run(self.project / "build/threads"), "the same\n")
        self.shell(self.plain, self.project)
        self.assertEqual(self.logits("logits-plain"), expected)

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
        for target in ("pets:", "shufflenet_generators:"):
            self.assertIn("\n" + target, targets)
        self.assertNotIn("shufflenet_v2_x1_0", targets)

    def test_options_and_arguments(self):
        """The tables name what there is, all of it."""
        model = (ROOT / "cmake/ShuffleNetModel.cmake").read_text()
        options = set(re.findall(r"^(?:option\(|set\((?=[^)]* CACHE STRING\b))(SHUFFLENET_\w+)",
                                 (ROOT / "CMakeLists.txt").read_text() + model, re.MULTILINE))
        # Those who work on this project.
        options -= {f"SHUFFLENET_{name}" for name in ("WERROR", "COVERAGE", "FUZZ", "SANITIZE", "GUIDELINES_TARGETS")}
        rows = "\n".join(re.findall(r"^\| (`SHUFFLENET_.*?) \|", PAGES[self.PAGE], re.MULTILINE))
        self.assertEqual(options, set(re.findall(r"`(SHUFFLENET_\w+)`", rows)))
        parsed = re.search(r'cmake_parse_arguments\(PARSE_ARGV 0 ARG "REFERENCE" "([^"]+)"\s+"([^"]+)"\)', model)
        arguments = set(f"{parsed[1]};{parsed[2]}".split(";")) - {"WITHOUT"}  # For experiments, as REFERENCE for tests.
        rows = re.findall(r"^\| `([A-Z0-9]+)[ `]", PAGES[self.PAGE], re.MULTILINE)
        self.assertEqual(arguments | {"F16"}, set(rows))


class LayoutsTest(Folder):
    def test_programs_print_what_the_page_says(self):
        programs, outputs = dict(blocks("layouts.md", "cpp")), dict(blocks("layouts.md", "text"))
        self.assertEqual(set(programs), set(outputs))
        for name, text in programs.items():
            with self.subTest(name):
                (self.folder / name).write_text(text)
                run(ARGUMENTS.cxx, "-std=c++20", "-Wall", "-Wextra", "-Werror", "-I", ROOT, "-I", ROOT / "networks",
                    "-I", self.build / "include", self.folder / name, "-o", self.folder / "program")
                self.assertEqual(run(self.folder / "program"), outputs[name])

    def test_functions_exist(self):
        headers = "".join(path.read_text() for path in (ROOT / "networks").glob("*.h"))
        names = re.findall(r"`(\w+)\(\)`", PAGES["layouts.md"])
        self.assertGreater(len(names), 8)
        for name in names:
            self.assertTrue(re.search(rf"\b{name}\(", headers), name)


class TargetsTest(Folder):
    """The journey is what the generators of this build make, and the library has it."""

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
        generate, disassemble, disassemble_wide = blocks(self.PAGE, "sh", "root")
        isas = re.findall(r'^    {"(\w+)", .*?"([^"]+)"(?:, \d)?},', (ROOT / "networks/targets.h").read_text(), re.MULTILINE)
        features = re.search(r'kKernelFeatures = "([^"]+)"', (ROOT / "networks/targets.h").read_text())[1]
        self.assertIn(f"target={dict(isas)['avx512']}-{features} ", generate)
        self.shell(generate, ROOT)
        library, wide = self.shell(disassemble, ROOT), self.shell(disassemble_wide, ROOT)
        if "Halide 14." not in version:
            self.skipTest("the excerpts are Halide 14's")
        self.excerpt("stage3_basic.stmt", (self.folder / "journey/stage3_basic.stmt").read_text())
        self.excerpt("loop", re.sub(r"(?m)^ *[0-9a-f]+:\t", "", library))
        self.excerpt("wide", re.sub(r"(?m)^ *[0-9a-f]+:\t", "", wide))

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
        keys = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`(?:target|kernels|measured)`.*?) \|",
                                                                PAGES[self.PAGE], re.MULTILINE))))
        for path in (ROOT / "schedules/tuned").rglob("*.json"):
            self.assertLessEqual(set(json.loads(path.read_text())), keys, path)


class ErrorsTest(Folder):
    PAGE = "errors.md"

    @staticmethod
    def texts():
        """Text of the sources in which neighbouring string literals are one."""
        found = []
        for room in ("runtime", "schedules", "generators", "bench", "networks", "models", "cmake", "CMakeLists.txt"):
            path = ROOT / room
            for source in [path] if path.is_file() else path.rglob("*"):
                if source.suffix in (".cc", ".cpp", ".h", ".cmake", ".txt"):
                    text = re.sub(r'"\s*\n\s*"', "", source.read_text(encoding="utf-8"))
                    found.append(text.replace('\\"', '"'))
        return "\n".join(found)

    def test_every_message_is_in_the_sources(self):
        texts = self.texts()
        messages = []
        for row in re.findall(r"^\| (`.*?) \|(?: |$)", PAGES[self.PAGE], re.MULTILINE):
            messages += re.findall(r"`([^`]+)`", row)
        self.assertGreater(len(messages), 100)
        for message in messages:
            for piece in re.split(r"<[\w'. ]+>|\btensor\b|^\w+: ", message):
                piece = piece.strip(" :'")
                rest = piece.partition(" ")[2]
                # The first word may be the name of what is read.
                good = len(piece) < 4 or piece in texts or (len(rest) > 8 and rest in texts)
                self.assertTrue(good, f"{message}: {piece}")

    def test_every_message_of_a_model_and_of_a_command_is_listed(self):
        statements = []
        for name in ("model", "run_check", "device_model", "isa", "thread_pool", "no_threads"):
            statements += re.findall(r"Code::k\w+,(.*?)};", (ROOT / f"runtime/src/{name}.cc").read_text(), re.DOTALL)
        for source in (ROOT / "runtime/cli").glob("*.cc"):
            statements += re.findall(r"throw Error\((.*?)\);", source.read_text(), re.DOTALL)
        cmake = (ROOT / "cmake/ShuffleNetModel.cmake").read_text()
        statements += re.findall(r"message\(FATAL_ERROR (.*)\)", cmake)
        statements += re.findall(r"set\(\$\{error\} (\".*) PARENT_SCOPE\)", (ROOT / "cmake/Platform.cmake").read_text())
        statements += re.findall(r"message\(FATAL_ERROR (.*)\)", (ROOT / "cmake/Platform.cmake").read_text())
        statements += re.findall(r"Code::k\w+,(.*?)};", (ROOT / "runtime/src/abi.h").read_text(), re.DOTALL)
        self.assertGreater(len(statements), 40)
        page, missing = PAGES[self.PAGE].replace('"', "'"), []
        for statement in statements:
            statement = re.sub(r'"\s*\n\s*"', "", statement).replace('\\"', "'")
            for literal in re.findall(r'"([^"]*)"', statement):
                for piece in re.split(r"\$\{\w+\}", literal):
                    piece = piece.strip(" :()'")
                    if len(piece) > 12 and piece not in page:
                        missing.append(piece)
        self.assertEqual(missing, [])

    def test_codes(self):
        header = (ROOT / "runtime/include/shufflenet/status.h").read_text()
        names = re.findall(r"\b(k[A-Z]\w+)(?: = 0)?,", header.split("enum class Code {")[1].split("}")[0])
        rows = re.findall(r"^\| `(k\w+)` \| (\d+) \|", PAGES[self.PAGE], re.MULTILINE)
        self.assertEqual(rows, [(name, str(number)) for number, name in enumerate(names)])

    def test_console(self):
        (text,) = [text for _, text in blocks(self.PAGE, "console")]
        commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        environment = {**self.environment, "PATH": f"{self.build}/bin:{os.environ['PATH']}"}
        script = "".join(f"echo '$ {command}'\n(exit $status)\n{command}\nstatus=$?\n" for command in commands)
        found = run("bash", "-c", script, cwd=self.folder, env=environment)
        # CLI11 2.4 and newer write a range so.
        self.assertEqual(re.sub(r"\[(\d+) - (\d+)\]", r"\1 to \2", found), text)


class NetworksTest(unittest.TestCase):
    def test_the_row_is_one(self):
        """It has the form of the rows that the build reads, and is not there yet."""
        (row,) = blocks("networks.md", "cpp", "row")
        table = (ROOT / "networks/network.h").read_text()
        three = r"{\d+, \d+, \d+}"
        form = re.compile(rf'^    {{"shufflenet_v2_\w+", {three}, \d+, {three}, \d+, \d+}},$', re.MULTILINE)
        rows = form.findall(table)
        self.assertIn(f"std::array<Network, {len(rows)}> kNetworks", table)
        self.assertRegex(row, form)
        self.assertNotIn(row, table)
        self.assertIn(f"`std::array<Network, {len(rows) + 1}>`", PAGES["networks.md"])


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
            for name in set(re.findall(r"\bSHUFFLENET_[A-Z]+\b", text)):
                self.assertTrue(re.search(rf"\b{name}\b", texts), f"{page}: {name}")


class GuidelinesTest(unittest.TestCase):
    """The report's tables and pictures are of the same run."""

    FOLDER = ROOT / "docs/guidelines"

    def test_one_run(self):
        page = (self.FOLDER / "README.md").read_text()
        machine, date = re.match(r"Machine: (.*), (\d{4}-\d\d-\d\d)\.", (self.FOLDER / "tables.md").read_text()).groups()
        self.assertTrue(machine)
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
