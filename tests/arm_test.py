#!/usr/bin/env python3
"""What the ARM kernels execute, and the bench for boards, both under qemu.

    python3 tests/arm_test.py --build build/arm64 --sysroot build/arm64-sysroot [unittest arguments]

Needs Python's standard library only. Every figure here is a count, the same on every machine.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARGUMENTS = argparse.Namespace(build="", sysroot="")


def script(name, *arguments):
    command = [sys.executable, ROOT / "bench" / name, "--build", ARGUMENTS.build, "--sysroot", ARGUMENTS.sysroot]
    return subprocess.run([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=1500)


class CountsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "arm.json")
            result = script("arm_report.py", "--cores", "cortex-a76", "--json", path)
            assert result.returncode == 0, result.stderr
            cls.networks = json.loads(path.read_text())["networks"]

    def check(self, figure, low, high, stages=("stem", "stage2", "stage3", "stage4", "conv5_pool", "fc", "network")):
        self.assertEqual(len(self.networks), 4)
        for network, figures in self.networks.items():
            for stage in stages:
                with self.subTest(network=network, stage=stage):
                    found = figure(figures[stage])
                    self.assertTrue(low <= found <= high, f"expected {low} to {high}, found {found}")

    def test_multiply_adds_are_those_that_the_shapes_need(self):
        # Less than one where taps are padding.
        self.check(lambda f: f["fmla_over_minimum"], 0.95, 1.05)

    def test_pointwise_loops_do_little_else(self):
        pointwise = ("stage2", "stage3", "stage4", "conv5_pool", "network")
        self.check(lambda f: f["pointwise_loop_instructions_per_fmla"], 1, 1.5, pointwise)

    def test_loops_reach_the_limit_of_the_model(self):
        # Nearly all multiply-adds are in loops, so that this speaks of nearly all of them.
        self.check(lambda f: f["fmla_in_inner_loops"], 0.9, 1)
        self.check(lambda f: f["share_of_limit"]["cortex-a76"], 0.85, 1.01)


class BoardTest(unittest.TestCase):
    def board(self, folder, *more, runner="sh -c"):
        prefix = f"qemu-aarch64 -L {ARGUMENTS.sysroot}"
        return script("board.py", "--runner", runner, "--prefix", prefix, "--output", folder, "--repetitions", "2",
                      *more)

    def test_measures_through_a_runner(self):
        with tempfile.TemporaryDirectory() as folder:
            result = self.board(folder, "--filter", "cifar10_x0_5/batch:1/threads:1", "--",
                                "--benchmark_min_time=0.001")
            self.assertEqual(result.returncode, 0, result.stderr)
            table = pathlib.Path(folder, "board.md").read_text().splitlines()
            self.assertRegex(table[-1], r"^\| cifar10_x0_5 \| 1 \| 1 \| neon \| \d+\.\d\d / \d+\.\d\d \| .* % \|$")
            benchmarks = json.loads(pathlib.Path(folder, "board.json").read_text())["benchmarks"]
            self.assertEqual(sum(bench["run_type"] == "iteration" for bench in benchmarks), 2)

    def test_errors(self):
        cases = [
            ({"runner": "false"}, [], "false mktemp -d"),
            ({"runner": "no-such-runner"}, [], "no-such-runner"),
            ({}, ["--filter", "resnet18"], "resnet18"),
        ]
        for options, more, words in cases:
            with self.subTest(words), tempfile.TemporaryDirectory() as folder:
                result = self.board(folder, *more, **options)
                self.assertEqual(result.returncode, 1)
                self.assertRegex(result.stderr.splitlines()[-1], f"^board: error: .*{words}")
                self.assertEqual(list(pathlib.Path(folder).iterdir()), [])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help="build folder of the preset arm64")
    parser.add_argument("--sysroot", required=True, help="folder with the target's libraries")
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
