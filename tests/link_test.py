#!/usr/bin/env python3
"""A model's archive as its users link it: by hand, from C and C++, with nothing but what its header says.

    python3 tests/link_test.py --archive build/x86/lib/libcifar10_x0_5.a --abi v1_0_0 --include DIR --include DIR \\
        --halide-runtime FILE.o --halide-include DIR --cc cc --cxx c++ --nm nm --readelf readelf

Needs Python's standard library only.
"""

import argparse
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent / "link"
ARGUMENTS = argparse.Namespace(emulator="")
LIBRARIES = ["-lstdc++", "-lm", "-lpthread"]
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]


def run(*command):
    result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}\n{result.stderr.decode()}")
    return result.stdout.decode()


class LinkTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="shufflenet-link-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.include = [f"-I{folder}" for folder in ARGUMENTS.include]

    def link(self, compiler, source, *more):
        program = self.folder / "program"
        run(compiler, *STRICT, *self.include, HERE / source, *more, ARGUMENTS.archive, *LIBRARIES, "-o", program)
        return program

    def logits(self, *arguments):
        program = self.link(*arguments)
        values = [float.fromhex(line) for line in run(*shlex.split(ARGUMENTS.emulator), program).splitlines()]
        self.assertEqual(len(values), 10)
        self.assertEqual(len(set(values)), 10)
        return values

    def test_c_and_cxx_agree(self):
        plain = self.logits(ARGUMENTS.cc, "plain.c", "-std=c99")
        self.assertEqual(plain, self.logits(ARGUMENTS.cxx, "program.cc", "-std=c++20"))

    def test_headers_compile_alone_without_a_warning(self):
        (model,) = {path.name for folder in ARGUMENTS.include for path in pathlib.Path(folder).glob("*.h")}
        headers = {f"shufflenet/{path.name}" for folder in ARGUMENTS.include
                   for path in pathlib.Path(folder, "shufflenet").glob("*.h")}
        self.assertLessEqual({"shufflenet/model.h", "shufflenet/image.h", "shufflenet/version.h"}, headers)
        warnings = [*STRICT, "-Wshadow", "-Wconversion"]
        for_cxx = ["-x", "c++", *warnings, "-Wold-style-cast", "-fno-rtti"]
        plain = {model, "shufflenet/version.h", "shufflenet/descriptor.h"}
        exceptions = {"shufflenet/c_interface.h"}
        cases = [(name, [*for_cxx, "-std=c++20", *(["-fno-exceptions"] if name not in exceptions else [])])
                 for name in sorted(headers | plain)]
        cases += [(name, [*for_cxx, "-std=c++17"]) for name in sorted(plain)]
        cases += [(name, ["-x", "c", *warnings, "-std=c99"]) for name in sorted(plain)]
        for compiler in (ARGUMENTS.cxx, *filter(shutil.which, ["clang++-14"])):
            for name, options in cases:
                with self.subTest(compiler=compiler, header=name, options=options):
                    source = self.folder / "source"
                    source.write_text(f'#include "{name}"\nextern int used;\n')
                    run(compiler, *options, *self.include, "-fsyntax-only", source)

    def test_headers_say_which_one_is_for_older_standards(self):
        for name in ("model.h", "image.h", "device.h", "status.h"):
            source = self.folder / "source.cc"
            source.write_text(f'#include "shufflenet/{name}"\n')
            with self.assertRaises(AssertionError) as failed:
                run(ARGUMENTS.cxx, "-std=c++17", *self.include, "-fsyntax-only", source)
            first = re.search("error: .*", str(failed.exception))[0]
            self.assertRegex(first, r"need C\+\+20; .*<name>\.h, which is plain C", name)

    def test_a_halide_runtime_of_the_program_is_left_alone(self):
        plain = self.logits(ARGUMENTS.cc, "plain.c", "-std=c99")
        own = ["-isystem", ARGUMENTS.halide_include.split(";")[0], ARGUMENTS.halide_runtime]
        self.assertEqual(plain, self.logits(ARGUMENTS.cxx, "own_halide.cc", "-std=c++20", *own))

    def test_every_member_links_with_these_libraries_alone(self):
        whole = ["-Wl,--whole-archive", ARGUMENTS.archive, "-Wl,--no-whole-archive"]
        library = self.folder / "library.so"
        run(ARGUMENTS.cc, "-shared", "-Wl,--no-undefined", *whole, *LIBRARIES, "-o", library)
        # Storage of threads: musl gives none to a library that is loaded later, and glibc allocates at the first use.
        self.assertNotRegex(run(ARGUMENTS.readelf, "-lW", library), r"(?m)^ *TLS ")
        self.check_exports(library)
        needed = re.findall(r"\(NEEDED\).*\[([^]]+)\]", run(ARGUMENTS.readelf, "-d", library))
        self.assertIn("libc.so.6", needed)
        allowed = r"lib(c|m|stdc\+\+|gcc_s|pthread)\.so\.\d+|ld-linux-.*"
        self.assertEqual([name for name in needed if not re.fullmatch(allowed, name)], [])

    def check_exports(self, library):
        """The model's interface, and what any library exports of the standard library's templates."""
        symbols = run(ARGUMENTS.nm, "-D", "--defined-only", "--format=posix", library)
        names = {line.split()[0]: line.split()[1] for line in symbols.splitlines()}
        strong = {name for name, kind in names.items() if kind not in "VWuv"}
        model = pathlib.Path(ARGUMENTS.archive).stem.removeprefix("lib")
        interface = ("descriptor", "open", "share", "run", "run_outputs", "classes", "isa", "error", "close")
        self.assertEqual(strong, {f"{model}_{name}" for name in interface})
        self.assertEqual([name for name in names if re.search("shufflenet|halide|nlohmann", name)], [])

    @unittest.skipUnless(shutil.which("musl-gcc"), "musl-tools is not installed")
    def test_musl(self):
        if ARGUMENTS.emulator:
            self.skipTest("musl-gcc is the host's")
        expected = self.logits(ARGUMENTS.cc, "plain.c", "-std=c99")
        libraries = [run(ARGUMENTS.cxx, f"-print-file-name={name}").strip() for name in ("libstdc++.a", "libgcc_eh.a")]
        model = [*STRICT, "-std=c99", "-D_GNU_SOURCE", *self.include, HERE / "plain.c", HERE / "glibc_names.c",
                 ARGUMENTS.archive, *libraries, "-lm"]
        program, library, load = (self.folder / name for name in ("static", "library.so", "load"))
        run("musl-gcc", "-static", *model, "-o", program)
        run("musl-gcc", "-shared", "-fPIC", *model, "-o", library)
        run("musl-gcc", *STRICT, HERE / "load.c", "-o", load)
        for command in ([program], [load, library]):
            found = [float.fromhex(line) for line in run(*command).splitlines()]
            self.assertEqual(found, expected, command)

    def test_names_that_it_defines_are_its_own(self):
        symbols = run(ARGUMENTS.nm, "--extern-only", "--defined-only", "--format=posix", ARGUMENTS.archive)
        names = {line.split()[0]: line.split()[1] for line in symbols.splitlines() if not line.endswith(":")}
        self.assertGreater(len(names), 100)
        model = pathlib.Path(ARGUMENTS.archive).stem.removeprefix("lib")
        abi = ARGUMENTS.abi
        own = re.compile(rf"{model}(_\w+)?|shufflenet_{abi}_\w+|_Z\w*10shufflenet{len(abi)}{abi}\w*")
        # Templates of the standard library and of nlohmann's JSON are merged by design. Halide's runtime is weak too,
        # but another version's must not be taken for it.
        template = re.compile(r"_Z\w*(St|9__gnu_cxx|8nlohmann)\w*|DW\.ref\.\w+")
        merged = {name for name, kind in names.items() if kind in "VWuv" and template.fullmatch(name)}
        self.assertEqual([name for name in names if name not in merged and not own.fullmatch(name)], [])
        undefined = run(ARGUMENTS.nm, "--undefined-only", "--format=posix", ARGUMENTS.archive)
        self.assertNotRegex(undefined, r"(?m)^(_?halide_|_Z\w*6Halide)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("archive", "abi", "halide-runtime", "halide-include", "cc", "cxx", "nm", "readelf"):
        parser.add_argument("--" + option, required=True)
    parser.add_argument("--emulator", default="", help="command that runs programs, e.g. 'qemu-aarch64 -L DIR'")
    parser.add_argument("--include", action="append", required=True, help="for the model's header and the runtime's")
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
