#!/usr/bin/env python3
"""The benches' contracts: names, counters, and the autotuner's files and errors.

    python3 tests/bench_test.py --bin build/x86/bin [unittest arguments]

Needs Python's standard library only. Nothing here depends on how fast the machine is.
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARGUMENTS = argparse.Namespace(bin="", target="", emulator="")


def run(program, *arguments, **options):
    command = [*shlex.split(ARGUMENTS.emulator), pathlib.Path(ARGUMENTS.bin) / program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


def benchmarks(program, pattern, **options):
    result = run(program, f"--benchmark_filter={pattern}", "--benchmark_min_time=0.001", "--benchmark_format=json", **options)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["benchmarks"]


class Benches(unittest.TestCase):
    def test_network_names(self):
        names = run("bench_network", "--benchmark_list_tests").stdout.split()
        for name in names:
            self.assertRegex(name, r"^network/[a-z0-9_]+/batch:[0-9]+/threads:[0-9]+/real_time$")
        self.assertIn("network/cifar10_x0_5/batch:1/threads:1/real_time", names)

    def test_unit_names(self):
        names = run("bench_unit", "--benchmark_list_tests").stdout.split()
        for name in names:
            self.assertRegex(name, r"^(stage|unit)/[a-z0-9_]+/[a-z0-9_]+/threads:[0-9]+(/cold)?/manual_time$")
        for stage in ["stem", "stage2", "stage3", "stage4", "conv5_pool", "fc"]:
            self.assertIn(f"stage/cifar10_x0_5/{stage}/threads:2/manual_time", names)

    def test_counters(self):
        for program, pattern in [("bench_network", "cifar10_x0_5/batch:1/threads:1"),
                                 ("bench_unit", "stage/cifar10_x0_5/stage3/threads:1$|cifar10_x0_5/fc/threads:1/cold")]:
            for bench in benchmarks(program, pattern):
                with self.subTest(bench["name"]):
                    self.assertGreater(bench["GFLOPS"], 0)
                    self.assertGreater(bench["peak_fraction"], 0)
                    # A little above 1 is possible where the clock rises after the peak was measured.
                    self.assertLess(bench["peak_fraction"], 1.2)

    def test_shuffle_names(self):
        names = run("bench_shuffle", "--benchmark_list_tests").stdout.split()
        networks = set(re.findall(r"^network/(shufflenet_v2_[a-z0-9_]+)/", run(
            "bench_network", "--benchmark_list_tests").stdout, re.MULTILINE))
        expected = [f"shuffle/{network}/stage{stage}/{version}/threads:{threads}/manual_time" for network in networks
                    for stage in (2, 3, 4) for version in ("slots", "fused") for threads in (1, 2)]
        self.assertCountEqual(names, expected)

    def test_shuffled_units_equal_those_with_slots(self):
        # The program ends with an error where a unit's outputs differ.
        for isa in ["avx2", "avx512", "avx512x2"]:
            with self.subTest(isa):
                environment = {**os.environ, "SHUFFLENET_ISA": isa}
                result = run("bench_shuffle", "--benchmark_list_tests", env=environment)
                if f"does not have {isa}" in result.stderr or not result.stdout:
                    self.skipTest("no such CPU, or no full-size networks")
                for bench in benchmarks("bench_shuffle", "stage./fused", env=environment):
                    self.assertEqual(bench["label"], isa)
                    self.assertLessEqual(bench["error"], 1e-6)

    def test_shuffle_table(self):
        times = {"slots": [4.0, 2.0, 6.0], "fused": [3.0, 9.0, 6.0]}
        result = [{"name": f"shuffle/net/stage3/{version}/threads:2/manual_time", "run_type": "iteration", "real_time": time}
                  for version in times for time in times[version]]
        result.append({"name": "shuffle/net/stage3/slots/threads:2/manual_time_mean", "run_type": "aggregate",
                       "real_time": 4.0})
        with tempfile.TemporaryDirectory() as folder:
            source, table = pathlib.Path(folder, "shuffle.json"), pathlib.Path(folder, "shuffle.md")
            source.write_text(json.dumps({"benchmarks": result}))
            subprocess.run([sys.executable, ROOT / "bench/shuffle_table.py", source, table], check=True, capture_output=True)
            self.assertCountEqual(os.listdir(folder), [source.name, table.name])
            row = table.read_text().splitlines()[-1]
        self.assertEqual(row, "| net | stage3 | 2 | 2.0 / 4.0 | 3.0 / 6.0 | 1.50 / 1.50 |")

    def test_layers_add_up_to_the_run(self):
        model = "shufflenet_v2_x0_5"
        info = run("shufflenet", "info", model, "--json")
        if info.returncode != 0:
            self.skipTest("no full-size networks")
        flops = json.loads(info.stdout)["total"]["flops"]
        for threads in [1, 2]:
            with self.subTest(threads=threads):
                result = run("bench_layers", model, str(threads), "5")
                self.assertEqual(result.returncode, 0, result.stderr)
                found = json.loads(result.stdout)
                self.assertEqual(found["threads"], threads)
                self.assertEqual(sum(loop["flops"] for loop in found["loops"]), 2 * flops)
                self.assertAlmostEqual(sum(loop["us"] for loop in found["loops"]), found["loops_us"], places=3)
                self.assertLess(found["loops_us"], found["run_us"])
                for loop in found["loops"]:
                    self.assertGreater(loop["mean_busy_us"], 0, loop)
                    self.assertLessEqual(loop["mean_busy_us"], loop["busy_us"] * 1.000001, loop)
                    self.assertLessEqual(loop["busy_us"], loop["us"] * 1.000001, loop)
                layers = {(loop["kernel"], name) for loop in found["loops"] for name in loop["layers"].split("+")}
                for unit, names in [("basic", ["pw1", "dw", "pw2"]), ("down_branch1", ["dw", "pw"]),
                                    ("down_branch2", ["pw1", "dw", "pw2"])]:
                    for name in names:
                        for stage in [2, 3, 4]:
                            self.assertIn((f"stage{stage}_{unit}", name), layers)

    def test_layers_bad_input(self):
        for arguments, text in [(["nonsense", "1", "1"], "nonsense: not compiled in"), ([], "expected MODEL THREADS RUNS"),
                                (["cifar10_x0_5", "1", "1"], "cifar10_x0_5_"),
                                (["cifar10_x0_5", "0", "1"], "0: expected a number from 1 to 64"),
                                (["cifar10_x0_5", "1", "x"], "x: expected a number")]:
            with self.subTest(arguments):
                result = run("bench_layers", *arguments)
                self.assertEqual(result.returncode, 1)
                self.assertIn(f"bench_layers: error: {text}", result.stderr)

    def test_start(self):
        names = run("bench_start", "--benchmark_list_tests").stdout.split()
        expected = [f"start/cifar10_x0_5/{origin}/{precision}/manual_time" for origin in ("embedded", "file")
                    for precision in ("f32", "f16")]
        self.assertLessEqual(set(expected), set(names))
        for bench in benchmarks("bench_start", "cifar10_x0_5"):
            self.assertGreater(bench["real_time"], 0)

    def test_unknown_flag(self):
        for program in ["bench_network", "bench_start", "bench_unit", "bench_shuffle"]:
            self.assertNotEqual(run(program, "--nonsense").returncode, 0)


class Autotune(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)

    def command(self, *more, kernel="stage4_basic", budget="1"):
        return ["--model", "shufflenet_v2_x0_5", "--target", ARGUMENTS.target, "--height", "32", "--width", "32", "--kernel", kernel,
                "--budget", budget, "--output", str(self.path), *more]

    @property
    def tuned(self):
        return self.path / ARGUMENTS.target / "shufflenet_v2_x0_5.json"

    def check_file(self):
        root = json.loads(self.tuned.read_text())
        self.assertEqual(root["target"], ARGUMENTS.target)
        self.assertTrue(root["machine"])
        figures = root["microseconds"]["stage4_basic"]
        for which in ["default", "tuned"]:
            for threads in ["1", "2"]:
                self.assertGreater(figures[which][threads], 0)
        for numbers in root["kernels"].values():
            for value in numbers.values():
                self.assertGreater(value, 0)
        return root

    def test_writes_the_best_and_resumes(self):
        result = run("autotune", *self.command())
        self.assertEqual(result.returncode, 0, result.stderr)
        root = self.check_file()
        self.assertEqual(os.listdir(self.tuned.parent), [self.tuned.name], "nothing half-written is left")
        result = run("autotune", *self.command("--resume"))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.check_file()["model"], root["model"])

    def test_interrupt_leaves_a_whole_file(self):
        process = subprocess.Popen([pathlib.Path(ARGUMENTS.bin) / "autotune", *self.command(budget="600")],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not self.tuned.exists() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.communicate()
        self.assertEqual(process.returncode, 0)
        self.check_file()

    def test_runner_gets_the_timing_program(self):
        log = self.path / "log"
        runner = self.path / "runner"
        runner.write_text(f"#!/bin/sh\necho \"$@\" >>{log}\nexec \"$@\"\n")
        runner.chmod(0o755)
        result = run("autotune", *self.command("--runner", str(runner)))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("kernel_trial", log.read_text())
        self.assertIn(str(runner), self.check_file()["machine"])

    def test_runner_that_fails(self):
        result = run("autotune", *self.command("--runner", "false"))
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"autotune: error: .*stage4_basic")
        self.assertFalse(self.tuned.exists())

    def test_bad_input(self):
        cases = [
            (["--model", "nonsense", "--target", "avx2"], 1, "unknown network 'nonsense'"),
            (["--model", "shufflenet_v2_x0_5", "--target", "nonsense"], 1, "unknown target 'nonsense'"),
            (["--model", "shufflenet_v2_x0_5", "--target", "neon" if ARGUMENTS.target == "sse41" else "sse41"], 1,
             "--trial"),
            (self.command(kernel="nonsense"), 1, "unknown kernel 'nonsense'"),
            (self.command(budget="0"), 1, "--budget"),
            (self.command("--threads", "0"), 1, "--threads"),
            (self.command("--nonsense"), 2, "nonsense"),
            ([], 2, "--model"),
        ]
        for arguments, status, text in cases:
            with self.subTest(arguments):
                result = run("autotune", *arguments)
                self.assertEqual(result.returncode, status)
                self.assertIn(text, result.stderr)
                self.assertEqual(len(result.stderr.strip().splitlines()), 1)

    def test_resume_of_something_else(self):
        self.tuned.parent.mkdir()
        self.tuned.write_text("[]")
        result = run("autotune", *self.command("--resume"))
        self.assertEqual(result.returncode, 1)
        self.assertIn(str(self.tuned), result.stderr)


class Devices(unittest.TestCase):
    """Where the target is a device, and there is one."""

    def setUp(self):
        if ARGUMENTS.target not in ("opencl", "cuda"):
            self.skipTest(f"{ARGUMENTS.target} is no device")

    def test_network_names_and_counters(self):
        name = f"network/cifar10_x0_5/batch:1/device:{ARGUMENTS.target}/real_time"
        bench, = benchmarks("bench_network", name)
        self.assertEqual(bench["name"], name)
        for counter in ("GFLOPS", "images_per_second", "kernels"):
            self.assertGreater(bench[counter], 0)
        self.assertTrue(bench["label"])

    def test_autotune(self):
        kernel = "stage4_basic_project"
        with tempfile.TemporaryDirectory() as folder:
            result = run("autotune", "--model", "shufflenet_v2_x0_5", "--target", ARGUMENTS.target, "--height", "32",
                         "--width", "32", "--kernel", kernel, "--batches", "1,2", "--budget", "1", "--output", folder)
            self.assertEqual(result.returncode, 0, result.stderr)
            root = json.loads(pathlib.Path(folder, ARGUMENTS.target, "shufflenet_v2_x0_5.json").read_text())
        self.assertEqual(root["target"], ARGUMENTS.target)
        self.assertTrue(root["device"])
        for which in ["default", "tuned"]:
            self.assertEqual(sorted(root["microseconds"][kernel][which]), ["1", "2"])
            self.assertTrue(all(time > 0 for time in root["microseconds"][kernel][which].values()))
        # Two images have numbers of their own, or none.
        for batch, kernels in root.get("batches", {}).items():
            self.assertEqual(batch, "2")
            self.assertEqual(list(kernels), [kernel])
            self.assertNotEqual(kernels[kernel], root["kernels"].get(kernel, {}))

    def test_autotune_of_a_kernel_that_the_device_does_not_have(self):
        result = run("autotune", "--model", "shufflenet_v2_x0_5", "--target", ARGUMENTS.target, "--kernel", "stage4_basic")
        self.assertEqual(result.returncode, 1)
        self.assertIn("stage4_basic_project", result.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--target", default="sse41", help="instruction set or device to tune for")
    parser.add_argument("--emulator", default="", help="command that runs the programs, e.g. 'qemu-aarch64 -L DIR'")
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
