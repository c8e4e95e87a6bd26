#!/usr/bin/env python3
"""The benches' contracts: names, counters, and the autotuner's files and errors.

    python3 tests/bench_test.py --bin build/x86/bin [unittest arguments]

Needs Python's standard library only; what the system's Python has of NumPy and Matplotlib is tested too. Nothing here
depends on how fast the machine is, or on peers that are installed.
"""

import argparse
import array
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
import unittest.mock

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench/networks"))

import compare

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
            self.assertRegex(name, r"^(stage|kernel)/[a-z0-9_]+/[a-z0-9_]+/threads:[0-9]+(/cold)?/manual_time$")
        for stage in ["stem", "stage2", "stage3", "stage4", "conv5", "fc"]:
            self.assertIn(f"stage/cifar10_x0_5/{stage}/threads:2/manual_time", names)
        # The first of the calls that have the same kernel.
        self.assertIn("kernel/cifar10_x0_5/stage3_unit1_branch2/threads:1/cold/manual_time", names)
        self.assertNotIn("kernel/cifar10_x0_5/stage3_unit2_branch2/threads:1/manual_time", names)

    def test_counters(self):
        for program, pattern in [("bench_network", "cifar10_x0_5/batch:1/threads:1"),
                                 ("bench_unit", "stage/cifar10_x0_5/stage3/threads:1$|cifar10_x0_5/fc/threads:1/cold")]:
            for bench in benchmarks(program, pattern):
                with self.subTest(bench["name"]):
                    self.assertGreater(bench["GFLOPS"], 0)
                    self.assertGreater(bench["peak_fraction"], 0)
                    # A little above 1 is possible where the clock rises after the peak was measured.
                    self.assertLess(bench["peak_fraction"], 1.2)

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
                for unit, names in [("unit1_branch2", ["pw1", "dw", "pw2"]), ("unit0_branch1", ["dw", "pw"]),
                                    ("unit0_branch2", ["pw1", "dw", "pw2"])]:
                    for name in names:
                        for stage in [2, 3, 4]:
                            self.assertIn((f"stage{stage}_{unit}", name), layers)

    def test_layers_bad_input(self):
        for arguments, text in [(["nonsense", "1", "1"], "nonsense: not compiled in"), ([], "expected MODEL THREADS RUNS"),
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
        for program in ["bench_network", "bench_start", "bench_unit"]:
            self.assertNotEqual(run(program, "--nonsense").returncode, 0)


# Stands for bench_peer, for the Python that runs peer.py, and for the other programs; behaves as sides.json says.
FAKE = """#!{python}
import array, json, os, pathlib, sys
program, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
if program == "machine_name":
    print("a machine")
elif program == "shufflenet":
    print(json.dumps({shufflenet}[arguments[0]]))
else:
    ours = program == "bench_peer"
    name = os.environ["SHUFFLENET_ISA"] if ours else " ".join(arguments[1:3])
    assert ours or pathlib.Path(arguments[0]).name == "peer.py" and os.environ["OMP_NUM_THREADS"] == arguments[5]
    side = json.loads(pathlib.Path({sides!r}).read_text()).get(name, dict(error="peer.py: error: no " + name))
    if "error" in side:
        sys.exit("a warning before\\n" + side["error"])
    pathlib.Path(arguments[-1]).write_bytes(array.array("f", [0, 1 + side.get("wrong", 0)]))
    print(json.dumps(dict(version="1.2", precision=side.get("precision"), peak_gflops=1)), flush=True)
    for line in sys.stdin:
        if "last words" in side and line == "2\\n":
            sys.exit(side["last words"])
        print(json.dumps([1e3 * side["ms"]] * int(line)), flush=True)
"""


class Compare(unittest.TestCase):
    SIDES = {
        "avx2": {"ms": 4}, "avx512": {"ms": 3}, "avx512x2": {"ms": 2.5},
        "onnxruntime fp32": {"ms": 6},
        "openvino fp32": {"ms": 5}, "openvino default": {"ms": 1.25, "wrong": 0.01, "precision": "bf16"},
        "ncnn fp32": {"ms": 7}, "ncnn default": {"ms": 8, "wrong": 1e-5, "precision": "fp16"},
        "mnn fp32": {"ms": 9}, "mnn default": {"ms": 10, "precision": "normal"},
    }
    MODEL = {"name": "net", "input": [4, 4], "targets": ["sse41", "avx2", "avx512", "avx512x2"], "isa": "avx512x2"}

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)
        info = {"list": [self.MODEL], "info": {"total": {"flops": 10**6}}}
        text = FAKE.format(python=sys.executable, shufflenet=info, sides=str(self.path / "sides.json"))
        for program in ["build/bin/bench_peer", "build/bin/machine_name", "build/bin/shufflenet", "venv/bin/python"]:
            path = self.path / program
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)
        (self.path / "models").mkdir()
        (self.path / "models/net_b1.onnx").touch()

    def compare(self, *more, **sides):
        sides = {name.replace("_", " "): side for name, side in sides.items()}
        (self.path / "sides.json").write_text(json.dumps({**self.SIDES, **sides}))
        folders = [f"--{name}={self.path / name}" for name in ("build", "models", "output", "venv")]
        return subprocess.run([sys.executable, ROOT / "bench/networks/compare.py", *folders, "--networks=net", "--batches=1",
                               "--rounds=1", "--peers", "onnxruntime", "openvino", "ncnn", "mnn", *more],
                              capture_output=True, text=True)

    def fails(self, result, text):
        self.assertEqual(result.returncode, 1)
        self.assertIn("compare.py: error: " + text, result.stderr)
        self.assertNotIn("Traceback", result.stderr)

    def test_table(self):
        result = self.compare(mnn_default={"error": "a crash"})
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stdout.splitlines()
        self.assertIn("a machine", lines[0])
        self.assertEqual(lines[2:6], [
            "| network | batch | threads | floor | ours (avx2) | ours (avx512x2) | onnxruntime | openvino | ncnn | mnn "
            "| best peer / ours | share of peak | openvino (bf16) | ncnn (fp16) | best of these / ours |",
            "|---|" + "--:|" * 14,
            *[f"| net | 1 | {threads} | 2.00 | 4.00 / 4.00 | 2.50 / 2.50 | 6.00 / 6.00 | 5.00 / 5.00 | 7.00 / 7.00 "
              "| 9.00 / 9.00 | 2.00 / 2.00 | 80 % / 80 % | 1.25 / 1.25 | 8.00 / 8.00 | 0.50 / 0.50 |" for threads in (1, 2)]])
        self.assertIn("In single precision, with outputs within 0.01 % of their range of ours: onnxruntime 1.2, openvino 1.2, "
                      "ncnn 1.2, mnn 1.2.", lines)
        self.assertIn("In the precision that a peer takes by itself on this processor, with outputs within 3.1 %: "
                      "openvino (bf16), ncnn (fp16).", lines)
        self.assertIn("mnn (default) is absent: a crash", lines)
        self.assertEqual((self.path / "output/peers.md").read_text().strip(), result.stdout.strip())

    def test_defaults_that_are_single_precision_are_no_sides(self):
        same = {"ms": 5, "precision": "fp32"}
        result = self.compare("--isa", "avx512", openvino_default=same, ncnn_default=same)
        self.assertEqual(result.returncode, 0, result.stderr)
        header, _, row = result.stdout.splitlines()[2:5]
        self.assertEqual(header.count("(") + header.count("of these"), 1, header)
        self.assertIn("| ours (avx512) |", header)
        self.assertTrue(row.endswith("| 1.67 / 1.67 | 67 % / 67 % |"), row)
        names = [side["name"] for side in json.loads((self.path / "output/peers.json").read_text())["cases"][0]["sides"]]
        self.assertEqual(names, ["ours (avx512)", "onnxruntime", "openvino", "ncnn", "mnn"])

    def test_absent_sides(self):
        result = self.compare(mnn_fp32={"error": "peer.py: error: MNN is not installed: ./dev peers"})
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn(" mnn ", result.stdout.splitlines()[2])
        self.assertIn("\nmnn is absent: peer.py: error: MNN is not installed: ./dev peers\n", result.stdout)
        (self.path / "models/net_b1.onnx").unlink()
        self.assertIn("ncnn is absent: no ONNX file", self.compare().stdout)
        (self.path / "venv/bin/python").unlink()
        result = self.compare()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("openvino is absent: not installed: ./dev peers", result.stdout)
        self.assertTrue(result.stdout.splitlines()[4].endswith("| - | 80 % / 80 % |"), result.stdout)

    def test_what_is_wrong_is_not_timed(self):
        for sides, text in [
                ({"onnxruntime_fp32": {"ms": 1, "wrong": 0.01}}, "onnxruntime computes something else: worst difference 1.00e-02"),
                ({"openvino_default": {"ms": 1, "wrong": 0.1, "precision": "bf16"}}, "openvino (bf16) computes something else"),
                ({"ncnn_fp32": {"ms": 1, "last words": "ncnn fails with -100"}}, "ncnn: ncnn fails with -100"),
                ({"avx2": {"error": "no such CPU"}, "avx512x2": {"error": "nor this"}}, "ours (avx2): no such CPU")]:
            with self.subTest(text):
                self.fails(self.compare(**sides), text)

    def test_bad_input(self):
        self.fails(self.compare("--networks", "nonsense"), "nonsense: not compiled in")
        for option in ["--rounds", "--runs", "--batches"]:
            result = self.compare(option, "0")
            self.assertEqual(result.returncode, 2)
            self.assertIn(f"argument {option}: invalid positive value: '0'", result.stderr)
        (self.path / "build/bin/bench_peer").unlink()
        self.fails(self.compare(), f"{self.path}/build/bin/bench_peer: no such program; ./dev bench builds it")

    def test_own_instruction_sets(self):
        for chosen, expected in [("sse41", ["sse41"]), ("avx2", ["avx2"]), ("avx512", ["avx2", "avx512"]),
                                 ("avx512x2", ["avx2", "avx512x2"])]:
            self.assertEqual(compare.own_isas({**self.MODEL, "isa": chosen}), expected)
        self.assertEqual(compare.own_isas({"targets": ["neon"], "isa": "neon"}), ["neon"])

    def test_more_threads_than_asked_for(self):
        # What the side's threads have taken before and after runs of a second.
        side = unittest.mock.Mock(run=lambda count: [1e6 / count] * count)
        side.name = "peer"
        for taken, threads, wrong in [(1.1, 1, False), (1.9, 1, True), (2.1, 2, False)]:
            with self.subTest(taken=taken, threads=threads):
                side.processor_time.side_effect = [5, 5 + taken]
                if wrong:
                    with self.assertRaisesRegex(SystemExit, "peer takes 1.9 processors with 1 thread"):
                        compare.Side.check_threads(side, threads)
                else:
                    compare.Side.check_threads(side, threads)


class Peer(unittest.TestCase):
    """peer.py, with modules that stand for the frameworks."""

    ARGUMENTS = ["fp32", "net", "1", "1", "input.f32", "output.f32"]
    # As loud as some are.
    ONNXRUNTIME = """
import numpy
__version__ = "1.2"
print("a greeting")
class SessionOptions: pass
class OrtValue:
    def __init__(self, array): self.array = array
    ortvalue_from_numpy = classmethod(lambda self, array: self(array))
    def numpy(self): return self.array
class Argument:
    name, shape = "a", [1, 2]
class InferenceSession:
    def __init__(self, path, options, providers): assert options.intra_op_num_threads == 1
    def get_inputs(self): return [Argument()]
    def get_outputs(self): return [Argument()]
    def io_binding(self): return self
    def bind_ortvalue_input(self, name, value): self.input = value
    def bind_ortvalue_output(self, name, value): self.output = value
    def run_with_iobinding(self, binding): self.output.array[:] = self.input.array.sum(), self.input.array.max()
"""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)
        self.path.joinpath("input.f32").write_bytes(array.array("f", range(12)))
        self.path.joinpath("net_b1.onnx").touch()
        if subprocess.run(["/usr/bin/python3", "-c", "import numpy"], capture_output=True).returncode != 0:
            self.skipTest("no NumPy")

    def peer(self, *arguments, text="", **modules):
        for name, source in modules.items():
            self.path.joinpath(f"{name}.py").write_text(source)
        return subprocess.run(["/usr/bin/python3", ROOT / "bench/networks/peer.py", *arguments], input=text, cwd=self.path, text=True,
                              capture_output=True, env={**os.environ, "PYTHONPATH": str(self.path)})

    def test_protocol(self):
        result = self.peer("onnxruntime", *self.ARGUMENTS, text="2\n3\n", onnxruntime=self.ONNXRUNTIME)
        self.assertEqual(result.returncode, 0, result.stderr)
        about, *times = map(json.loads, result.stdout.splitlines())
        self.assertEqual(about, {"name": "onnxruntime", "version": "1.2", "precision": "fp32"})
        self.assertEqual([len(turn) for turn in times], [2, 3])
        self.assertEqual(array.array("f", self.path.joinpath("output.f32").read_bytes()).tolist(), [66, 11])

    def test_errors_are_one_line(self):
        absent = "raise ModuleNotFoundError(name=__name__)"
        broken = "raise RuntimeError('it breaks\\nat great length')"
        for name, module in [("onnxruntime", "onnxruntime"), ("openvino", "openvino"), ("ncnn", "ncnn"), ("mnn", "MNN"),
                             ("pytorch", "torch")]:
            for source, text in [(absent, f"{module} is not installed: ./dev peers"), (broken, "it breaks")]:
                with self.subTest(name, text=text):
                    result = self.peer(name, *self.ARGUMENTS, **{module: source})
                    self.assertEqual((result.returncode, result.stdout), (1, ""))
                    self.assertEqual(result.stderr, f"peer.py: error: {text}\n")

    def test_bad_input(self):
        self.assertIn("expected onnxruntime|openvino|", self.peer("nonsense", *self.ARGUMENTS).stderr)
        self.assertIn("expected onnxruntime|openvino|", self.peer("mnn").stderr)
        self.path.joinpath("input.f32").write_bytes(b"12345678")
        result = self.peer("onnxruntime", *self.ARGUMENTS, onnxruntime=self.ONNXRUNTIME)
        self.assertIn("peer.py: error: input.f32: expected floats of 1 square images", result.stderr)
        self.path.joinpath("input.f32").write_bytes(bytes(48))
        self.path.joinpath("net_b1.onnx").unlink()
        result = self.peer("onnxruntime", *self.ARGUMENTS)
        self.assertIn("peer.py: error: net_b1.onnx: no such file; bench/networks/make_models.py makes it", result.stderr)


class Plot(unittest.TestCase):
    RESULT = {"cases": [
        {"network": f"shufflenet_v2_x{width}", "batch": 1, "threads": threads, "floor_us": floor / threads, "sides": [
            {"name": "ours (avx2)", "min_us": 1.5 * floor / threads},
            {"name": "openvino", "min_us": 3 * floor},
            {"name": "openvino (bf16)", "min_us": floor / 2},
            *([{"name": "ncnn", "absent": "why"}] if width == "0_5" else [{"name": "ncnn", "min_us": 20 * floor}])]}
        for threads in (1, 2) for width, floor in (("0_5", 100), ("2_0", 1000))]}

    def test_panels(self):
        with unittest.mock.patch.dict(sys.modules, {"matplotlib": unittest.mock.Mock(), "matplotlib.pyplot": unittest.mock.Mock()}):
            import plot
        self.assertEqual(plot.panels(self.RESULT), [
            ("batch 1, 1 thread", ["x0_5", "x2_0"],
             {"ours (avx2)": [1.5, 1.5], "openvino": [3, 3], "ncnn": [None, 20], "openvino (bf16)": [0.5, 0.5]}),
            ("batch 1, 2 threads", ["x0_5", "x2_0"],
             {"ours (avx2)": [1.5, 1.5], "openvino": [6, 6], "ncnn": [None, 40], "openvino (bf16)": [1, 1]})])

    def test_every_bar_is_drawn_and_labelled(self):
        if subprocess.run(["/usr/bin/python3", "-c", "import matplotlib"], capture_output=True).returncode != 0:
            self.skipTest("no Matplotlib")
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder, "peers.json")
            source.write_text(json.dumps(self.RESULT))
            subprocess.run(["/usr/bin/python3", ROOT / "bench/networks/plot.py", source, folder], check=True)
            self.assertCountEqual(os.listdir(folder), ["peers.json", "peers.svg"])
            # Text is drawn as paths, with the text itself in a comment.
            texts = re.findall("<!-- (.*) -->", pathlib.Path(folder, "peers.svg").read_text())
        for text, count in {"1.50": 4, "3.00": 2, "6.00": 2, "0.50": 2, "1.00": 2, "20.0": 1, "40.0": 1, "x0_5": 2,
                            "OpenVINO (bf16)": 1, "ncnn": 1, "ours (avx2)": 1}.items():
            self.assertEqual(texts.count(text), count, text)


class Versions(unittest.TestCase):
    def test_are_pinned(self):
        lines = (ROOT / "bench/networks/peers.txt").read_text().splitlines()
        names = [line.split("==")[0] for line in lines if not line.startswith("#")]
        self.assertEqual(names, ["numpy", "onnxruntime", "openvino", "ncnn", "pnnx", "MNN"])
        for line in lines:
            self.assertRegex(line, r"^(#.*|\w+==[0-9.]+)$")


class Autotune(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)

    KERNEL = "stage4_unit1_branch2"

    def command(self, *more, kernel=KERNEL, budget="1"):
        return ["--model", "shufflenet_v2_x0_5", "--target", ARGUMENTS.target, "--height", "32", "--width", "32", "--kernel", kernel,
                "--budget", budget, "--output", str(self.path), *more]

    @property
    def tuned(self):
        return self.path / f"{ARGUMENTS.target}.json"

    def check_file(self):
        root = json.loads(self.tuned.read_text())
        self.assertEqual(root["target"], ARGUMENTS.target)
        (key, figures), = root["measured"].items()
        self.assertRegex(key, "^unit_1x1_")
        self.assertTrue(figures["machine"])
        for which in ["default_us", "tuned_us"]:
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
        self.assertEqual(list(self.check_file()["measured"]), list(root["measured"]))

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
        figures, = self.check_file()["measured"].values()
        self.assertIn(str(runner), figures["machine"])

    def test_runner_that_fails(self):
        result = run("autotune", *self.command("--runner", "false"))
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, f"autotune: error: .*{self.KERNEL}")
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--target", default="sse41", help="instruction set to tune for")
    parser.add_argument("--emulator", default="", help="command that runs the programs, e.g. 'qemu-aarch64 -L DIR'")
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
