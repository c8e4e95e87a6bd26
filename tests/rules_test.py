#!/usr/bin/env python3
"""What the sources promise about themselves: which room says what.

    python3 tests/rules_test.py [unittest arguments]

Needs Python's standard library only.
"""

import argparse
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Members of Halide's Func and Stage that say how, not what.
DIRECTIVE = re.compile(
    r"(?:\.|->)\s*(vectorize|unroll|parallel|serial|fuse|split|tile|reorder|reorder_storage|specialize\w*|"
    r"compute_at|compute_root|compute_inline|compute_with|store_at|store_root|store_in|fold_storage|prefetch|"
    r"bound|bound_extent|align_bounds|align_extent|align_storage|rfactor|atomic|async|memoize|gpu_\w+)\s*\("
)
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.MULTILINE)


def sources(folder):
    return [path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in (".h", ".cc", ".cpp")]


def without_comments(text):
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def directives(folder):
    """Where the sources of a folder schedule something, as "file: directive"."""
    return [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(folder)
        for name in DIRECTIVE.findall(without_comments(path.read_text(encoding="utf-8")))
    ]


def includes(folder):
    """Pairs of a source and what it includes."""
    return [
        (str(path.relative_to(ROOT)), name)
        for path in sources(folder)
        for name in INCLUDE.findall(path.read_text(encoding="utf-8"))
    ]


def included(path, seen=None):
    """The headers of ours that a source includes, those that they include too, and itself."""
    seen = set() if seen is None else seen
    if path in seen:
        return seen
    seen.add(path)
    for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
        if name == "shufflenet/version.h":
            seen.add(ROOT / "cmake/version.h.in")
        for folder in (path.parent, ROOT, ROOT / "runtime/include", ROOT / "runtime/src", ROOT / "networks"):
            if (folder / name).is_file():
                included(folder / name, seen)
                break
    return seen


class RoomsTest(unittest.TestCase):
    def test_generators_do_not_schedule(self):
        self.assertEqual(directives("generators"), [])
        found = {line.split(": ")[1] for line in directives("schedules")}
        self.assertLessEqual({"vectorize", "compute_at", "compute_root", "split", "unroll", "parallel"}, found)

    def test_networks_include_only_networks_and_the_standard_library(self):
        # And the version, which is in the name of everything that users link.
        own = {path.name for path in sources("networks")} | {"shufflenet/version.h"}
        own |= {str(path.relative_to(ROOT)) for path in sources("networks")}
        for source, name in includes("networks"):
            self.assertTrue(name in own or re.fullmatch(r"[a-z_]+", name), f"{source} includes {name}")

    def test_runtime_does_not_know_the_compiler_or_the_generators(self):
        self.assertGreater(len(includes("runtime")), 100)
        for source, name in includes("runtime"):
            self.assertFalse(name == "Halide.h" or name.startswith(("generators/", "schedules/")),
                             f"{source} includes {name}")

    def test_only_programs_know_other_programs_files(self):
        """What reads ONNX needs protocol buffers, which no model may link."""
        for folder in ("runtime/src", "runtime/include", "networks", "schedules", "reference"):
            for source, name in includes(folder):
                self.assertFalse(name.startswith(("importers/", "google/")) or name.endswith(".pb.h"),
                                 f"{source} includes {name}")

    def test_importers_know_networks_and_the_runtimes_readers(self):
        self.assertGreater(len(includes("importers")), 50)
        for source, name in includes("importers"):
            self.assertFalse(name == "Halide.h" or name.startswith(("generators/", "schedules/", "runtime/cli/")),
                             f"{source} includes {name}")

    def test_generators_and_schedules_do_not_know_the_runtime(self):
        for source, name in includes("generators") + includes("schedules"):
            # The compiler writes for the runtime, and packs as it does.
            if "generators/compile/" in str(source):
                continue
            self.assertFalse(name.startswith(("runtime/", "shufflenet/")), f"{source} includes {name}")

    def test_one_header_knows_halides_versions(self):
        compat = ROOT / "generators/halide_compat.h"
        rooms = ("networks", "generators", "schedules", "runtime", "bench", "tests")
        knowing = [path for room in rooms for path in sources(room)
                   if re.search(r"<Halide\.h>|\bHALIDE_VERSION", path.read_text(encoding="utf-8"))]
        # A user's program that has Halide of its own.
        self.assertEqual(set(knowing) - {ROOT / "tests/install/two_models.cc"}, {compat})

    def test_public_headers_need_only_each_other_and_the_standard_library(self):
        for source, name in includes("runtime/include"):
            self.assertTrue(re.fullmatch(r"[a-z_]+|std[a-z]+\.h|shufflenet/[a-z_]+\.h", name),
                            f"{source} includes {name}")

    def test_names_that_users_link_have_the_version_in_them(self):
        """Two versions in one program share none of them."""
        # What is in shufflenet::networks is for programs of the build alone.
        rooms = ("runtime/src", "runtime/include", "networks")
        namespace = re.compile(r"^namespace (?!\{|detail \{|fs = )(.*) \{$", re.MULTILINE)
        for path in (path for room in rooms for path in sources(room)):
            text = without_comments(path.read_text(encoding="utf-8"))
            for name in namespace.findall(text):
                if name != "shufflenet::networks":
                    self.assertRegex(name, r"^shufflenet::inline SHUFFLENET_ABI(::\w+)?$", path)
            if "SHUFFLENET_ABI" in text:
                self.assertIn(ROOT / "cmake/version.h.in", included(path), f"{path}: without a version")

    def test_the_model_header_stays_short(self):
        lines = (ROOT / "runtime/include/shufflenet/model.h").read_text(encoding="utf-8").count("\n")
        self.assertLess(lines, 150)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
