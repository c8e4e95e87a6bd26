#!/usr/bin/env python3
"""What the ARM kernels execute, the bench for boards, and the autotuner's way to a board, all under qemu.

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
    command = [sys.executable, ROOT / "bench/arm" / name, "--build", ARGUMENTS.build, "--sysroot", ARGUMENTS.sysroot]
    return subprocess.run([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=1500)


class CountsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "arm.json")
            result = script("arm_report.py", "--compiler", pathlib.Path(ARGUMENTS.build) / "host/build/bin/shufflenet_compile", "--cores",
                            "cortex-a76", "--json", path)
            assert result.returncode == 0, result.stderr
            cls.networks = json.loads(path.read_text())["networks"]

    def check(self, figure, low, high, stages=("stem", "stage2", "stage3", "stage4", "conv5", "fc", "network")):
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
        pointwise = ("stage2", "stage3", "stage4", "conv5", "network")
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


class BoardAutotuneTest(unittest.TestCase):
    """The timing program on the board; the autotuner itself is tested where it is built, on the host."""

    # Asks the timing program as the autotuner does, with a kernel that is no shared object.
    ASK = """#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
    --runner) runner=$2 ;;
    --trial) trial=$2 ;;
    --compiler) compiler=$2 ;;
    --budget) budget=$2 ;;
    esac
    shift 2
done
echo "$compiler $budget"
printf '{"threads": [1], "symbol": "kernel", "objects": [{"bytes": 4}]}\\nxxxx' | sh -c "$runner $trial"
"""

    def tune(self, folder, runner):
        autotune = pathlib.Path(folder, "autotune")
        autotune.write_text(self.ASK)
        autotune.chmod(0o755)
        prefix = f"qemu-aarch64 -L {ARGUMENTS.sysroot}"
        return script("board_autotune.py", "--runner", runner, "--prefix", prefix, "--autotune", autotune, "--budget", "7")

    def test_timing_program_runs_there_with_its_libraries(self):
        with tempfile.TemporaryDirectory() as folder:
            result = self.tune(folder, f"env TMPDIR={folder} sh -c")
            self.assertEqual(result.stdout, "aarch64-linux-gnu-g++ 7\n")
            # It has read the request and the object, and the board's loader has looked at that.
            self.assertRegex(result.stderr, r"kernel_trial: error: /proc/self/fd/\d+: (file too short|invalid ELF header)")
            self.assertEqual(result.returncode, 1)
            self.assertEqual([path.name for path in pathlib.Path(folder).iterdir()], ["autotune"], "nothing is left")

    def test_errors(self):
        for runner, words in [("false", "false mktemp -d"), ("no-such-runner", "no-such-runner")]:
            with self.subTest(words), tempfile.TemporaryDirectory() as folder:
                result = self.tune(folder, runner)
                self.assertEqual(result.returncode, 1)
                self.assertRegex(result.stderr.splitlines()[-1], f"^board_autotune: error: .*{words}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help="build folder of the preset arm64")
    parser.add_argument("--sysroot", required=True, help="folder with the target's libraries")
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
