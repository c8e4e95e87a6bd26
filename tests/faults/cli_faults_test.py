#!/usr/bin/env python3
"""Whatever call of the command line fails: one clear line, exit status 1, and every file either old or complete.

    python3 tests/faults/cli_faults_test.py --shufflenet build/x86/bin/shufflenet --shim build/x86/lib/fault_shim.so \\
        --weights models/cifar10_x0_5.safetensors [unittest arguments]

Needs Python's standard library only.
"""

import argparse
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import unittest

ARGUMENTS = argparse.Namespace()
ERROR_LINE = r"\Ashufflenet: error: [^\n]+\n\Z"
NOTES = r"\A(shufflenet: note: [^\n]+: written in place: [^\n]+\n)+\Z"
MODEL = "cifar10_x0_5"


def npy(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    count = 1
    for extent in shape:
        count *= extent
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(4 * count)


# Name, arguments, files that it writes, and the calls that it makes at least that often.
COMMANDS = [
    ("info", ["info", MODEL, "--json"], [], {}),
    ("classify", ["classify", "--json", "image.ppm"], [], {"open": 1, "fstat": 1, "read": 1, "close": 1}),
    ("classify with threads", ["classify", "--json", "--threads", "3", "image.ppm"], [], {"pthread_create": 2}),
    ("run", ["run", "--model", MODEL, "--input", "x.npy", "--output", "y.npy", "--features", "stage4=f.npy"],
     ["y.npy", "f.npy"],
     {"open": 5, "fstat": 3, "pread": 2, "write": 2, "close": 3, "fsync": 2, "fchmod": 2, "link": 1, "rename": 2,
      "busy_rename": 2}),
    ("run in place",
     ["run", "--model", MODEL, "--input", "x.npy", "--output", "linked.npy", "--features", "stage4=f.npy"],
     ["linked.npy", "f.npy"],
     {"open": 4, "fstat": 3, "read": 2, "pread": 2, "write": 2, "close": 4, "fsync": 2, "ftruncate": 1, "rename": 1}),
    ("run on a weight file",
     ["run", "--model", MODEL, "--weights", "in.safetensors", "--input", "x.npy", "--output", "y.npy"],
     ["y.npy"], {"open": 3, "fstat": 2, "pread": 3, "close": 3}),
    ("convert", ["convert", "--f16", "in.safetensors", "out.safetensors"], ["out.safetensors"],
     {"open": 2, "fstat": 1, "pread": 2, "write": 1, "close": 2, "fsync": 1, "fchmod": 1, "rename": 1,
      "busy_rename": 1}),
]
# Where no new file can take an old one's place: written in place, and said.
NOTED = {"fstat", "fchmod", "busy_rename"}
# Not an error: the rest is read or written then.
HARMLESS = {f"{how}_{call}": call for how in ("short", "interrupted") for call in ("read", "pread", "write")}


class FaultsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="shufflenet-faults-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.report = self.folder / "report"
        self.work = self.folder / "work"
        self.work.mkdir()
        (self.work / "image.ppm").write_bytes(b"P6 70 70 255\n" + bytes(i * 7 % 256 for i in range(3 * 70 * 70)))
        (self.work / "x.npy").write_bytes(npy((1, 3, 64, 64)))
        (self.work / "in.safetensors").write_bytes(pathlib.Path(ARGUMENTS.weights).read_bytes())
        (self.work / "linked.npy").write_bytes(b"old")
        os.link(self.work / "linked.npy", self.work / "other name.npy")

    def run_with(self, fault, arguments):
        """The process's result, and the report."""
        environment = {**os.environ, "SHUFFLENET_ISA": ""}
        if fault:
            environment.update(LD_PRELOAD=ARGUMENTS.shim, FAULT=fault, FAULT_REPORT=str(self.report))
        self.report.unlink(missing_ok=True)
        result = subprocess.run([ARGUMENTS.shufflenet, *arguments], cwd=self.work, env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600)
        return result, self.report.read_bytes() if self.report.exists() else b""

    def files(self):
        return {file.name: file.read_bytes() for file in self.work.iterdir()}

    def assert_notes(self, text, fault, arguments):
        """Nothing on stderr, but where a file is written in place."""
        call = (fault or "").split(" ")[0]
        if call == "write" and not text:
            return  # That of the note.
        if "linked.npy" in arguments or call in NOTED:
            self.assertRegex(text.decode(), NOTES, fault)
        else:
            self.assertEqual(text.decode(), "", fault)

    def succeeds(self, fault, arguments, expected):
        """As without the fault: the output, and the files."""
        result, report = self.run_with(fault, arguments)
        self.assertEqual(result.returncode, 0, (fault, result.stderr))
        self.assert_notes(result.stderr, fault, arguments)
        if expected:
            self.assertEqual((result.stdout, self.files()), expected, fault)
        return (result.stdout, self.files()), report

    def with_old_outputs(self, outputs):
        """The files before each run."""
        for name in outputs:
            (self.work / name).write_bytes(b"old")
        return self.files()

    def check(self, fault, arguments, outputs, expected):
        """Whether the fault happened; then the program has failed as it should, or has not minded."""
        before = self.with_old_outputs(outputs)
        result, report = self.run_with(fault, arguments)
        if result.returncode == 0:
            self.assertEqual((result.stdout, self.files()), expected, fault)
            if report:
                self.assert_notes(result.stderr, fault, arguments)
            return bool(report)
        self.assertEqual(result.returncode, 1, fault)
        self.assertRegex(result.stderr.decode(), ERROR_LINE, fault)
        after = self.files()
        self.assertEqual(sorted(after), sorted(before), fault)
        # All or none, even where the second cannot be put in its place.
        changed = [name for name in after if after[name] != before[name]]
        self.assertIn(after, (before, expected[1]), f"{fault}: {changed}")
        return True

    def test_files_and_threads(self):
        for name, arguments, outputs, calls in COMMANDS:
            expected, _ = self.succeeds(None, arguments, None)
            for call, least in calls.items():
                with self.subTest(command=name, call=call):
                    nth = 1
                    while self.check(f"{call} {nth}", arguments, outputs, expected):
                        nth += 1
                    self.assertGreater(nth, least)

    def test_what_is_not_a_failure(self):
        for name, arguments, outputs, calls in COMMANDS:
            expected, _ = self.succeeds(None, arguments, None)
            for fault, call in HARMLESS.items():
                for nth in range(1, calls.get(call, 0) + 1):
                    with self.subTest(command=name, fault=fault, nth=nth):
                        self.with_old_outputs(outputs)
                        self.assertEqual(self.succeeds(f"{fault} {nth}", arguments, expected)[1], b"reached")

    def test_address_space(self):
        for name, arguments, outputs, _ in COMMANDS:
            with self.subTest(command=name):
                expected, _ = self.succeeds(None, arguments, None)
                mebibytes = failed = 0
                while mebibytes < 1024:
                    self.with_old_outputs(outputs)
                    result, _ = self.run_with(f"memory {mebibytes}", arguments)
                    if result.returncode == 0:
                        break
                    self.check(f"memory {mebibytes}", arguments, outputs, expected)
                    failed += 1
                    mebibytes += 1
                self.succeeds(f"memory {mebibytes}", arguments, expected)
                if name != "info":
                    self.assertGreater(failed, 0)

    def test_every_allocation(self):
        for name, arguments, outputs, _ in COMMANDS:
            if name == "classify with threads":
                continue  # A copy of a process has no threads.
            with self.subTest(command=name):
                expected, _ = self.succeeds(None, arguments, None)
                self.with_old_outputs(outputs)
                _, report = self.succeeds("malloc", arguments, expected)
                copies = report.decode(errors="replace").split("\0")[:-1]
                self.assertGreater(len(copies), 100)
                for copy in copies:
                    status, line = copy.split("\t", 1)
                    if status != "0":  # What can be done without that memory is done.
                        self.assertEqual(status, "1", line)
                        self.assertRegex(line, ERROR_LINE)
                        self.assertIn("out of memory", line)
                if ARGUMENTS.verbose:
                    print(name, len(copies), {c.split("\t")[0] for c in copies})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("shufflenet", "shim", "weights"):
        parser.add_argument("--" + option, required=True, type=os.path.abspath)
    parser.add_argument("--verbose", action="store_true")
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
