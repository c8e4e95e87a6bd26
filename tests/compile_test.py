#!/usr/bin/env python3
"""The compiler on its command line: what it writes, what it refuses, and that it is the same every time.

    python3 tests/compile_test.py --compile build/x86/bin/shufflenet_compile [--cc cc] [--cxx c++] [unittest arguments]

Needs Python's standard library only, and a C and a C++ compiler.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARGUMENTS = argparse.Namespace(compile="", cc="cc", cxx="c++")
CIFAR = ROOT / "models/cifar10_x0_5.safetensors"
# Quick to compile.
TINY = ["--name", "tiny", "--network", "test_tiny", "--input", "32,32", "--classes", "5"]
FAMILY = ["--name", "tiny", "--network", "shufflenet_v2", "--units", "1,1", "--channels", "4,8,16", "--input", "32,32"]
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]


def execute(*words, **options):
    return subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=900,
                          **options)


class CompileTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="shufflenet-compile-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.target = self.best_target()

    def compile(self, *options, status=0, **more):
        """What it says, on stdout if it succeeds and on stderr if not."""
        result = execute(ARGUMENTS.compile, *options, **more)
        said = result.stdout.decode(), result.stderr.decode()
        self.assertEqual(result.returncode, status, said)
        self.assertEqual(said[status == 0], "", said)
        return said[status != 0]

    def objects(self, output, *options, **more):
        self.compile(*(options or TINY), "--targets", self.target, "--objects", "--output", self.folder / output, **more)
        return self.folder / output

    def best_target(self):
        return "neon" if os.uname().machine == "aarch64" else "avx2"

    def content(self, folder):
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    def sources(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path


class RefusalTest(CompileTest):
    def refused(self, status, options, *words):
        """One line that has these words, and nothing is written."""
        output = self.folder / "refused"
        if "--output" not in options:
            options = [*options, "--output", output]
        with self.subTest(options):
            text = self.compile(*options, status=status)
            self.assertRegex(text, r"\Ashufflenet_compile: error: [^\n]+\n\Z")
            for word in words:
                self.assertIn(word, text)
            self.assertFalse(output.exists())

    def test_names(self):
        self.refused(2, [], "--name", "lower case", "nothing")
        self.refused(2, ["--name", "Pets", *TINY[2:]], "--name", "lower case", "'Pets'")
        self.refused(2, ["--name", "1pet", *TINY[2:]], "--name", "'1pet'")
        self.refused(2, ["--name", "pets"], "--network", "one of shufflenet_v2, shufflenet_v2_x0_5", "nothing")
        self.refused(2, ["--name", "pets", "--network", "resnet18"], "--network", "shufflenet_v2_x1_0", "'resnet18'")
        self.refused(2, [*TINY, "--frobnicate"], "--frobnicate")
        self.refused(2, [*TINY, "stray"], "stray")

    def test_family(self):
        self.refused(2, FAMILY[:4], "--units", "nothing")
        self.refused(2, FAMILY[:6], "--channels", "nothing")
        self.refused(2, [*FAMILY[:4], "--units", "1,x", *FAMILY[6:]], "--units", "numbers of 1 or more", "'1,x'")
        self.refused(2, [*FAMILY[:4], "--units", "0,1", *FAMILY[6:]], "--units", "'0,1'")
        self.refused(2, [*FAMILY[:6], "--channels", "4,8", *FAMILY[8:]], "--channels")
        self.refused(2, [*FAMILY[:6], "--channels", "4,8,15", *FAMILY[8:]], "--channels", "even", "15")
        self.refused(2, [*FAMILY, "--conv5", "many"], "--conv5", "'many'")
        self.refused(2, [*FAMILY, "--conv5", "-1"], "--conv5", "'-1'")
        self.refused(2, [*FAMILY, "--activation", "swish"], "--activation", "leaky_relu:SLOPE", "'swish'")
        self.refused(2, [*FAMILY, "--pool-stride", "3,2"], "--pool-stride", "1 to 2", "'3,2'")
        self.refused(2, [*FAMILY, "--pool-stride", "2"], "--pool-stride", "two numbers", "'2'")
        for option in (["--units", "1"], ["--channels", "8"], ["--conv5", "4"], ["--activation", "relu"],
                       ["--pool-stride", "1,1"]):
            self.refused(2, [*TINY, *option], option[0], "--network shufflenet_v2", "test_tiny")

    def test_sizes(self):
        for text in ("32", "32,32,32", "32,wide", "0,32", "32,1025"):
            self.refused(2, [*TINY[:4], "--input", text], "--input", "rows and columns", f"'{text}'")
        self.refused(2, [*FAMILY[:-2], "--input", "31,32"], "--input", "32 to 1024", "'31,32'")
        for text in ("-1", "100001", "ten"):
            self.refused(2, [*TINY[:6], "--classes", text], "--classes", "0 to 100000", f"'{text}'")
        self.refused(2, [*TINY, "--outputs", "stage2,stage9"], "--outputs", "stage2", "stage9")

    def test_targets(self):
        self.refused(2, [*TINY, "--targets", "mmx"], "--targets", "sse41", "neon", "all", "'mmx'")
        self.refused(2, [*TINY, "--targets", "avx2,neon"], "--targets", "one processor", "neon")
        self.refused(2, [*TINY, "--targets", "avx2", "--processor", "aarch64"], "--targets", "aarch64", "avx2")
        self.refused(2, [*TINY, "--targets", "baseline,neon", "--processor", "x86_64"], "--targets", "neon")
        self.refused(2, [*TINY, "--processor", "riscv64"], "--processor", "x86_64 or aarch64", "'riscv64'")
        self.refused(2, [*TINY, "--precision", "int8"], "--precision", "f32", "'int8'")
        for text in ("0", "two", "1025"):
            self.refused(2, [*TINY, "--jobs", text], "--jobs", "1 to 1024", f"'{text}'")

    def test_modes(self):
        self.refused(2, [*TINY, "--check", "--list-kernels"], "--check, --list-kernels")
        self.refused(2, [*TINY, "--output", ""], "--output", "nothing")
        self.refused(2, [*TINY, "--embed"], "--weights", "--embed", "nothing")
        self.refused(2, [*TINY, "--embed", "--embed-f16", "--weights", CIFAR], "--embed, --embed-f16")
        self.refused(2, [*TINY, "--program"], "--program")

    def test_files(self):
        self.refused(1, [*TINY, "--weights", "/absent"], "--weights", "/absent")
        self.refused(1, [*TINY, "--weights", CIFAR], "--weights", CIFAR.name)
        self.refused(1, [*TINY, "--metadata", "/absent"], "--metadata", "/absent")
        bad = self.sources("bad.json", "[1]")
        self.refused(1, [*TINY, "--metadata", bad], "--metadata", str(bad), "JSON object")
        self.refused(1, [*TINY, "--tuned", "/absent"], "--tuned", "/absent")
        self.refused(1, [*TINY, "--tuned", bad], "--tuned", str(bad), "JSON object")
        (self.folder / "empty").mkdir()
        self.refused(1, [*TINY, "--tuned", self.folder / "empty"], "--tuned", "<target>.json")
        blocked = self.sources("blocked", "")
        self.refused(1, [*TINY, "--output", blocked / "folder"], "--output", str(blocked))

    def test_tuned_numbers(self):
        stem = self.compile(*TINY, "--list-kernels").split()[0]
        for numbers, words in (({"tile_pixels": "four"}, ["tile_pixels", "integer", "four"]),
                               ({"tile_size": 4}, ["unknown key", "tile_size"]), ([], ["an object", "[]"])):
            tuned = self.sources("tuned.json", json.dumps({"target": self.target, "kernels": {stem: numbers}}))
            self.refused(1, [*TINY, "--targets", self.target, "--tuned", tuned], str(tuned), stem, *words)
        tuned = self.sources("tuned.json", json.dumps({"target": "mmx", "kernels": {}}))
        self.refused(1, [*TINY, "--tuned", tuned], "--tuned", "target", "sse41", "mmx")

    def test_tools(self):
        one = [*TINY, "--targets", self.target]
        self.refused(1, [*one, "--cxx", "/absent/c++"], "--cxx", "/absent/c++", "found none")
        self.refused(1, [*one, "--cxx", "false"], "--cxx", "false")
        script = self.sources("c++", "#!/bin/sh\ntest \"$1\" = --version || { echo oops; echo 'Error: no such op' >&2; exit 1; }\n")
        script.chmod(0o755)
        self.refused(1, [*one, "--cxx", script], "--cxx", "Error: no such op")
        self.refused(1, [*one, "--runtime", "/absent.a"], "--runtime", "/absent.a")
        runtime = self.sources("runtime.a", "!<arch>\n")
        self.refused(1, [*one, "--runtime", runtime, "--ar", "/absent/ar"], "--ar", "/absent/ar", "found none")
        self.refused(1, [*one, "--runtime", runtime, "--include", self.folder], "--cxx", "shufflenet/")


class OutputTest(CompileTest):
    def test_same_bytes(self):
        first = self.content(self.objects("first"))
        self.assertEqual(sorted(first), ["tiny.cc", "tiny.h", "tiny_kernels.o"])
        other = self.content(self.objects("deep/other", *TINY, "--jobs", "1", cwd=self.folder))
        self.assertEqual(first, other)
        self.assertEqual(first, self.content(self.objects("first")), "a second time over the first")
        for name, content in first.items():
            self.assertNotIn(str(self.folder).encode(), content, name)
            self.assertNotIn(str(ROOT).encode(), content, name)

    def test_failure_leaves_what_was_there(self):
        before = self.content(self.objects("out"))
        self.compile(*TINY, "--targets", self.target, "--objects", "--output", self.folder / "out", "--cxx", "false",
                     status=1)
        self.assertEqual(before, self.content(self.folder / "out"))

    def test_interruption_leaves_nothing(self):
        output = self.folder / "out"
        words = [ARGUMENTS.compile, "--name", "large", "--network", "shufflenet_v2_x2_0", "--output", output]
        with subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE) as process:
            while not any(output.rglob("*.s")) and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            text = process.communicate(timeout=60)[1].decode()
        self.assertEqual((process.returncode, text), (1, "shufflenet_compile: error: interrupted\n"))
        self.assertFalse(output.exists())

    def test_depfile(self):
        weights = self.folder / "pet weights.safetensors"
        shutil.copy(CIFAR, weights)
        metadata = self.sources("pet weights.json", "{}")
        tuned = self.sources("tuned.json", json.dumps({"target": self.target, "kernels": {}}))
        depfile, out = self.folder / "out.d", self.folder / "out"
        self.compile("--name", "pets", "--network", "shufflenet_v2_x0_5", "--input", "32,32", "--classes", "10",
                     "--weights", weights, "--tuned", tuned, "--targets", self.target, "--reference", "--objects",
                     "--output", out, "--depfile", depfile)
        outputs, inputs = depfile.read_text().replace("\\\n", " ").split(":")
        names = re.split(r"(?<!\\) +", inputs.strip())
        self.assertEqual(names, sorted(str(path).replace(" ", "\\ ") for path in (weights, metadata, tuned)))
        self.assertEqual(sorted(outputs.split()), [str(path) for path in sorted(out.iterdir())])
        self.assertEqual((out / "pets.safetensors").read_bytes(), weights.read_bytes())

    def test_reports(self):
        check = self.compile("--network", "shufflenet_v2_x1_0", "--check")
        for line in ("network: shufflenet_v2_x1_0 at 224x224", "multiply-adds: 144907992", "copies: 0, 0 bytes",
                     "output: logits 1000x1x1"):
            self.assertIn(line + "\n", check)
        kernels = [line.split() for line in
                   self.compile("--network", "shufflenet_v2_x1_0", "--list-kernels").splitlines()]
        self.assertEqual(len({key for key, *_ in kernels}), len(kernels))
        calls = [call for _, *calls in kernels for call in calls]
        self.assertEqual(len(set(calls)), len(calls))
        self.assertEqual(int(re.search(r"kernels: (\d+)", check)[1]), len(kernels))
        self.assertEqual(int(re.search(r"calls: (\d+)", check)[1]), len(calls))
        self.assertIn("stage3_unit7_branch2", calls)
        self.assertTrue(all(re.fullmatch(r"[a-z0-9_.]+", key) for key, *_ in kernels))

    def test_help(self):
        text = self.compile("--help")
        for option in ("--name", "--network", "--embed-f16", "--halide-runtime", "Example:"):
            self.assertIn(option, text)
        self.assertRegex(self.compile("--version"), r"\Ashufflenet_compile \d+\.\d+\.\d+\n\Z")

    def test_header(self):
        out = self.objects("out", *FAMILY, "--outputs", "stage2,stage3")
        program = self.sources("header.c", """#include "tiny.h"
#if defined TINY_CLASSES || TINY_OUTPUTS != 2 || TINY_OUTPUT_STAGE2 != 0 || TINY_OUTPUT_STAGE3 != 1
#error
#endif
char stage2[TINY_OUTPUT_STAGE2_ELEMENTS == 8 * 4 * 4 ? 1 : -1], stage3[TINY_OUTPUT_STAGE3_ELEMENTS == 16 * 2 * 2 ? 1 : -1];
char size[TINY_HEIGHT == 32 && TINY_WIDTH == 32 && TINY_ARENA_BYTES > 0 ? 1 : -1];
""")
        for command in ([ARGUMENTS.cc, "-std=c99", "-xc"], [ARGUMENTS.cxx, "-std=c++98", "-xc++"],
                        [ARGUMENTS.cxx, "-std=c++20", "-xc++"]):
            result = execute(*command, *STRICT, f"-I{out}", "-fsyntax-only", program)
            self.assertEqual(result.returncode, 0, result.stderr.decode())
        classes = (self.objects("classes") / "tiny.h").read_text()
        self.assertIn("#define TINY_CLASSES 5\n", classes)




class LibraryTest(CompileTest):
    MAIN = """#include <stdio.h>
#include "cifar10.h"
int main(int argc, char **argv) {
    static float input[3 * CIFAR10_HEIGHT * CIFAR10_WIDTH], out[CIFAR10_OUTPUT_LOGITS_ELEMENTS];
    char error[200];
    cifar10_model *model;
    int i;
    for (i = 0; i < 3 * CIFAR10_HEIGHT * CIFAR10_WIDTH; ++i) input[i] = (float)(i % 37) / 18 - 1;
    if (cifar10_open(&model, argc > 1 ? argv[1] : NULL, 1, error, sizeof error) != 0) return puts(error), 1;
    if (cifar10_run(model, input, 1, out) != 0) return puts(cifar10_error(model)), 1;
    for (i = 0; i < cifar10_classes(model); ++i) printf("%.9g ", out[i]);
    cifar10_close(model);
    return 0;
}
"""

    def library(self, *options):
        out = self.folder / "out"
        self.compile("--name", "cifar10", "--network", "shufflenet_v2_x0_5", "--input", "64,64", "--targets", self.target,
                     "--weights", CIFAR, "--output", out, *options)
        program = self.folder / "program"
        result = execute(ARGUMENTS.cc, "-std=c99", *STRICT, f"-I{out}", self.sources("main.c", self.MAIN),
                         out / "libcifar10.a", "-lstdc++", "-lm", "-lpthread", "-o", program)
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        return out, program

    def logits(self, program, *arguments):
        result = execute(program, *arguments)
        self.assertEqual(result.returncode, 0, result.stdout.decode())
        return [float(word) for word in result.stdout.split()]

    def test_embedded(self):
        # The file has 10 classes, and nobody said so.
        out, program = self.library("--embed")
        self.assertEqual(sorted(self.content(out)), ["cifar10.h", "libcifar10.a"])
        self.assertIn("#define CIFAR10_CLASSES 10\n", (out / "cifar10.h").read_text())
        logits = self.logits(program)
        self.assertEqual(len(logits), 10)
        self.assertEqual(logits, self.logits(program, CIFAR), "packed at build time or when they are loaded")
        out, program = self.library("--embed-f16", "--classes", "10")
        for half, single in zip(self.logits(program), logits):
            self.assertAlmostEqual(half, single, delta=0.02)

    def test_beside(self):
        out, program = self.library("--classes", "10")
        self.assertEqual(sorted(self.content(out)), ["cifar10.h", "cifar10.safetensors", "libcifar10.a"])
        self.assertIn('#define CIFAR10_WEIGHTS_FILE "cifar10.safetensors"\n', (out / "cifar10.h").read_text())
        self.assertEqual(len(self.logits(program, out / "cifar10.safetensors")), 10)

    def test_symbols(self):
        """What a library has for others: its own names, and those of this version."""
        out, _ = self.library("--embed")
        names = execute("nm", "--extern-only", "--format=posix", out / "libcifar10.a").stdout.decode().splitlines()
        symbols = {line.split()[0] for line in names if len(line.split()) > 1}
        self.assertFalse([name for name in symbols if re.match(r"_?halide_|_Z[A-Z]*6Halide7Runtime", name)])
        self.assertFalse([name for name in symbols if re.search(r"_argv$|_metadata_storage$", name)])
        self.assertTrue([name for name in symbols if re.match(r"shufflenet_v[0-9_a-z]+_halide_error_bad_type$", name)])


class HalideRuntimeTest(CompileTest):
    def test_object(self):
        for name in ("runtime.o", "runtime.s"):
            self.compile("--halide-runtime", "--output", self.folder / name)
        self.assertEqual(sorted(self.content(self.folder)), ["runtime.o", "runtime.s"])
        lines = execute("nm", "--format=posix", self.folder / "runtime.o").stdout.decode().splitlines()
        needed = {line.split()[0] for line in lines if line.split()[1] == "U"}
        self.assertTrue(needed <= {"free", "malloc", "memcpy", "memset", "strlen"} |
                        {name for name in needed if re.fullmatch(r"shufflenet_v[0-9_a-z]+_halide_error", name)}, needed)

    def test_whole(self):
        self.compile("--halide-runtime", "--whole", "--output", self.folder / "whole.o")
        names = execute("nm", self.folder / "whole.o").stdout.decode()
        self.assertRegex(names, r"\bhalide_do_par_for\b")

    def test_other_processors(self):
        for processor, word in (("x86_64", "%rsp"), ("aarch64", "[sp")):
            path = self.folder / f"{processor}.s"
            self.compile("--halide-runtime", "--processor", processor, "--output", path)
            self.assertIn(word, path.read_text())


def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--compile", required=True)
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--cxx", default="c++")
    arguments, rest = parser.parse_known_args(namespace=ARGUMENTS)
    arguments.compile = str(pathlib.Path(arguments.compile).resolve())
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
