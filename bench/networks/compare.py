#!/usr/bin/python3
"""Our library and its peers, in turn: JSON, Markdown tables and charts.

Every side is a process (bench_peer, peer.py); they take turns within seconds, so that the noise of a shared machine hits
all alike, and the next one waits until the threads that spin for their next job have gone to sleep. The outputs are
compared before anything is timed. The floor is the multiply-adds of the network at the multiply-add peak that is
measured in our process.

Peers compute in single precision, as we do; those that by themselves take another one on this processor run twice, once in
each.
"""
import argparse
import array
import datetime
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))

from files import write_text, write_whole

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NETWORKS = ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"]
# Sides compute in single precision and sum in another order; the logits' range is the unit.
TOLERANCE = 1e-4
# In another precision: bfloat16 keeps 8 bits, so a layer rounds by 2^-9 at most, and some 64 layers one after another add
# up to the root of 64 times that; twice this, because a layer rounds its weights and its input.
DEFAULT_TOLERANCE = 2 * 8 * 2**-9
PAUSE = 0.02
PEERS = ["onnxruntime", "openvino", "pytorch", "ncnn", "mnn"]
# Those that may take another precision by themselves; on which processors is found out by their outputs.
WITH_DEFAULT = ["openvino", "ncnn", "mnn"]
LAYER_RUNS = 400


def fail(message):
    # Over the line that says how far it is.
    sys.exit(f"\r\033[Kcompare.py: error: {message}")


class Side:
    """A peer process; `absent` says why there is none. `default`: in the precision that it takes by itself."""

    def __init__(self, name, command, output, environment, missing=None, default=False):
        self.name = f"{name} (default)" if default else name
        self.output, self.times, self.absent, self.default = output, [], missing, default
        if missing:
            return
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, env=environment)
        line = self.process.stdout.readline()
        if not line:
            self.absent = self.last_words()
            return
        self.about = json.loads(line)
        if default:
            self.name = f"{name} ({self.about['precision']})"

    @property
    def ours(self):
        return self.name.startswith("ours")

    def last_words(self):
        status = self.process.wait()
        self.errors.seek(0)
        return (self.errors.read().strip().splitlines() or [f"ended with status {status}"])[-1]

    def run(self, count):
        try:
            print(count, file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            fail(f"{self.name}: {self.last_words()}")
        return json.loads(line)

    def processor_time(self):
        """Seconds that its threads have taken."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except OSError:  # It has ended since.
                pass
        return total * 1e-9

    def settle(self):
        """Until its threads sleep; one that always spins is left to."""
        for _ in range(50):
            before = self.processor_time()
            time.sleep(PAUSE)
            if self.processor_time() - before < PAUSE / 10:
                return

    def check_threads(self, threads):
        before = self.processor_time()
        elapsed = sum(self.run(10)) * 1e-6
        busy = (self.processor_time() - before) / elapsed
        if busy > threads + 0.5:
            fail(f"{self.name} takes {busy:.1f} processors with {threads} thread(s)")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def input_file(models, batch, side):
    path = models / f"input_b{batch}_{side}.f32"
    if not path.exists():
        gauss = random.Random(batch).gauss
        values = array.array("f", (gauss(0, 1) for _ in range(batch * 3 * side * side)))
        write_whole(path, lambda new: new.write_bytes(values))
    return path


def own_isas(model):
    """Of `shufflenet list`'s model: what this processor chooses and, where that is a kind of AVX-512, AVX2."""
    chosen = model["isa"]
    return [isa for isa in model["targets"] if isa == "avx2" and chosen.startswith("avx512")] + [chosen]


def open_sides(args, network, batch, threads, model):
    tail = [batch, threads, input_file(args.models, batch, model["input"][0])]
    weights = args.models / f"{network}.safetensors"
    sides = []
    for isa in args.isa or own_isas(model):
        output = args.models / f"ours_{isa}.f32"
        command = [args.build / "bin" / "bench_peer", network, weights if weights.exists() else "random", *tail, output]
        sides.append(Side(f"ours ({isa})", command, output, {"PATH": "/usr/bin:/bin", "SHUFFLENET_ISA": isa}))
    # OpenBLAS would add a pool of its own, which spins, to that of PyTorch.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
    for name in args.peers:
        python = pathlib.Path("/usr/bin/python3") if name == "pytorch" else args.venv / "bin" / "python"
        missing = None
        if not python.exists():
            missing = "not installed: ./dev peers"
        elif not (args.models / f"{network}_b{batch}.onnx").exists():
            missing = "no ONNX file: ./dev peers installs what makes it"
        for precision in ["fp32", "default"] if name in WITH_DEFAULT else ["fp32"]:
            output = args.models / f"{name}_{precision}.f32"
            side = Side(name, [python, HERE / "peer.py", name, precision, args.models / network, *tail, output], output,
                        environment, missing, precision == "default")
            sides.append(side)
            if side.absent:
                break
    return sides


def check_outputs(sides):
    """Also drops the sides whose default is single precision: they have the same bits as the one before them."""
    outputs = [array.array("f", side.output.read_bytes()) for side in sides]
    expected, kept = outputs[0], []
    for side, before, found in zip(sides, [None, *outputs], outputs):
        if side.default and found == before:
            side.close()
            continue
        kept.append(side)
        error = max(abs(a - b) for a, b in zip(found, expected, strict=True)) / (max(expected) - min(expected))
        if not error <= (DEFAULT_TOLERANCE if side.default else TOLERANCE):
            fail(f"{side.name} computes something else: worst difference {error:.2e} of the range")
    return kept


def measure(args, network, batch, threads, model):
    flops = about(args.build, network)
    sides = open_sides(args, network, batch, threads, model)
    present = [side for side in sides if not side.absent]
    if not any(side.ours for side in present):
        fail(f"{sides[0].name}: {sides[0].absent}")
    present = check_outputs(present)
    for side in present:
        side.check_threads(threads)
        side.settle()
    for round_number in range(args.rounds):
        for side in present:
            side.run(2)
            side.times += side.run(args.runs)
            side.settle()
    case = {"network": network, "batch": batch, "threads": threads, "gflop": flops * batch * 1e-9, "sides": []}
    for side in sides:
        if side.absent:
            case["sides"].append({"name": side.name, "default": side.default, "absent": side.absent})
        elif side in present:
            case["sides"].append({"name": side.name, "default": side.default, "about": side.about,
                                  "min_us": min(side.times), "median_us": statistics.median(side.times),
                                  "runs": len(side.times)})
            side.close()
    case["peak_gflops"] = max(side.about["peak_gflops"] for side in present if side.ours)
    case["floor_us"] = case["gflop"] / case["peak_gflops"] * 1e6
    return case


def about(build, network):
    """FLOPs of an image."""
    return 2 * shufflenet(build, "info", network)["total"]["flops"]


def shufflenet(build, *arguments):
    return json.loads(subprocess.run([build / "bin" / "shufflenet", *arguments, "--json"], check=True,
                                     stdout=subprocess.PIPE).stdout)


def markdown(result):
    """Sides that all cases lack are named below; those that some lack have a dash there."""
    every = [side for case in result["cases"] for side in case["sides"]]
    sides = {side["name"]: side for side in every if "absent" not in side}
    absent = {side["name"]: side["absent"] for side in every if "absent" in side}
    names = [name for name, side in sides.items() if not side.get("default")]
    defaults = [name for name in sides if name not in names]
    lines = [f"Machine: {result['machine']}, {result['date']}. Milliseconds, minimum / median of {result['runs']} runs; "
             "floor: multiply-adds at the peak measured in the same process.", ""]
    header = ["network", "batch", "threads", "floor", *names, "best peer / ours", "share of peak", *defaults]
    header += ["best of these / ours"] if defaults else []
    lines += ["| " + " | ".join(header) + " |", "|---|" + "--:|" * (len(header) - 1)]
    for case in result["cases"]:
        found = {side["name"]: side for side in case["sides"] if "absent" not in side}
        ours = [side for name, side in found.items() if name.startswith("ours")][-1]

        def times(wanted):
            return [pair(found[name]["min_us"] / 1e3, found[name]["median_us"] / 1e3) if name in found else "-"
                    for name in wanted]

        def ratio(wanted):
            peers = [found[name] for name in wanted if name in found and not name.startswith("ours")]
            return pair(*(min(p[k] for p in peers) / ours[k] for k in ("min_us", "median_us"))) if peers else "-"

        share = " / ".join(f"{100 * case['floor_us'] / ours[k]:.0f} %" for k in ("min_us", "median_us"))
        cells = [case["network"], str(case["batch"]), str(case["threads"]), f"{case['floor_us'] / 1e3:.2f}", *times(names),
                 ratio(names), share, *times(defaults)] + ([ratio(defaults)] if defaults else [])
        lines.append("| " + " | ".join(cells) + " |")
    versions = [f"{name} {sides[name]['about']['version']}" for name in names if not name.startswith("ours")]
    if versions:
        lines += ["", f"In single precision, with outputs within {100 * TOLERANCE:g} % of their range of ours: {', '.join(versions)}."]
    if defaults:
        lines += ["", "In the precision that a peer takes by itself on this processor, with outputs within "
                  f"{100 * DEFAULT_TOLERANCE:.1f} %: {', '.join(defaults)}."]
    for name, reason in absent.items():
        lines += ["", f"{name} is absent: {reason}"]
    return "\n".join(lines) + "\n"


def pair(least, median):
    return f"{least:.2f} / {median:.2f}"


def measure_stages(build):
    """Stages of every network, one and two threads, weights warm and cold; the fastest of three repetitions."""
    out = subprocess.run([build / "bin" / "bench_unit", "--benchmark_filter=stage/shufflenet", "--benchmark_format=json",
                          "--benchmark_min_time=0.1", "--benchmark_repetitions=3"], check=True, capture_output=True)
    best = {}
    for run in json.loads(out.stdout)["benchmarks"]:
        if run["run_type"] != "iteration":
            continue
        name = run["name"].split("/manual_time")[0]
        if name not in best or run["real_time"] < best[name]["microseconds"]:
            best[name] = {"name": name, "microseconds": run["real_time"], "gflops": run["GFLOPS"],
                          "peak_fraction": run["peak_fraction"], "flops_per_byte": run["flops_per_byte"]}
    return list(best.values())


def stage_table(stages):
    """Microseconds and share of the peak of every stage: what bounds a network, and by how much."""
    by_name = {stage["name"]: stage for stage in stages}
    lines = ["", "Stages: microseconds (share of the multiply-add peak); cold: weights come from memory.", "",
             "| network | stage | 1 thread | 1 thread, cold | 2 threads | 2 threads, cold |", "|---|---|--:|--:|--:|--:|"]
    for name in by_name:
        if not name.endswith("threads:1"):
            continue
        _, network, stage, _ = name.split("/")
        cells = []
        for threads in (1, 2):
            for suffix in ("", "/cold"):
                s = by_name[f"stage/{network}/{stage}/threads:{threads}{suffix}"]
                cells.append(f"{s['microseconds']:.0f} ({100 * s['peak_fraction']:.0f} %)")
        lines.append(f"| {network} | {stage} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def measure_layers(build, networks):
    """The fastest run of every network, loop by loop; in three rounds, so that a minute of noise hits none alone."""
    best = {}
    for _ in range(3):
        for key in ((network, threads) for network in networks for threads in (1, 2)):
            line = subprocess.run([build / "bin" / "bench_layers", *map(str, key), str(LAYER_RUNS)], check=True,
                                  capture_output=True).stdout
            best[key] = min(best.get(key), json.loads(line), key=lambda run: run["run_us"] if run else 1e30)
    return list(best.values())


def layer_table(runs):
    """Where the time of one run goes, and what is lost to what."""
    lines = ["Microseconds of the fastest run of many, batch 1. Floor: multiply-adds at the peak; stores: writing as many "
             "bytes as the loop's output has, alone, in cache; fork and join: what the loop takes beyond its busiest "
             "thread; uneven: the busiest thread beyond the mean. Layers that the schedule fuses are one loop. What is "
             "not in a loop (the rest) is the calls between kernels and, with two threads, the pool's first waking."]
    for one, two in zip(runs[::2], runs[1::2]):
        peak = [run["peak_gflops"] * 1e3 for run in (one, two)]
        lines += ["", f"## {one['model']} on {one['isa']}", "",
                  "| kernel | layers | calls | kB moved | floor | 1 thread | share of peak | stores | 2 threads | share of peak "
                  "| fork and join | uneven |", "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
        for a, b in zip(one["loops"], two["loops"]):
            floor = [a["flops"] / p for p in peak]
            lines.append(f"| {a['kernel']} | {a['layers']} | {a['calls']} | {a['bytes'] / 1e3:.0f} | {floor[0]:.1f} "
                         f"| {a['us']:.1f} | {100 * floor[0] / a['us']:.0f} % | {a['store_us']:.1f} | {b['us']:.1f} "
                         f"| {100 * floor[1] / b['us']:.0f} % | {b['us'] - b['busy_us']:.1f} "
                         f"| {b['busy_us'] - b['mean_busy_us']:.1f} |")
        rest = [run["run_us"] - run["loops_us"] for run in (one, two)]
        lines.append(f"| the rest | | | | | {rest[0]:.1f} | | | {rest[1]:.1f} | | | |")
        flops, moved, stores = (sum(loop[key] for loop in one["loops"]) for key in ("flops", "bytes", "store_us"))
        wall, busy, mean = (sum(loop[key] for loop in two["loops"]) for key in ("us", "busy_us", "mean_busy_us"))
        shares = [100 * flops / p / run["run_us"] for p, run in zip(peak, (one, two))]
        lines.append(f"| **all** | | | {moved / 1e3:.0f} | {flops / peak[0]:.1f} | {one['run_us']:.1f} | {shares[0]:.0f} % "
                     f"| {stores:.1f} | {two['run_us']:.1f} | {shares[1]:.0f} % | {wall - busy:.1f} | {busy - mean:.1f} |")
    return "\n".join(lines) + "\n"


def positive(text):
    if int(text) < 1:
        raise ValueError
    return int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build folder, e.g. build/x86")
    parser.add_argument("--models", type=pathlib.Path, help="folder of make_models.py (default: build/bench/models)",
                        default=ROOT / "build/bench/models")
    parser.add_argument("--venv", type=pathlib.Path, help="what ./dev peers makes (default: build/peers-venv)",
                        default=ROOT / "build/peers-venv")
    parser.add_argument("--output", type=pathlib.Path, help="folder for JSON, Markdown and charts (default: build/bench)",
                        default=ROOT / "build/bench")
    parser.add_argument("--rounds", type=positive, default=12, help="turns of every side")
    parser.add_argument("--runs", type=positive, default=8, help="runs of a turn")
    parser.add_argument("--isa", nargs="+", help="our instruction sets, best last (default: what the processor chooses "
                        "and, where that is a kind of AVX-512, AVX2 before it)")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--batches", nargs="+", type=positive, default=[1, 8])
    args = parser.parse_args()
    for program in ("bench_peer", "machine_name", "shufflenet"):
        if not (args.build / "bin" / program).exists():
            fail(f"{args.build}/bin/{program}: no such program; ./dev bench builds it")
    compiled = {model["name"]: model for model in shufflenet(args.build, "list")}
    for network in args.networks:
        if network not in compiled:
            fail(f"{network}: not compiled in")
        if not (args.isa or compiled[network]["isa"]):
            fail(f"{network}: this processor has none of {', '.join(compiled[network]['targets'])}")
    args.output.mkdir(parents=True, exist_ok=True)
    args.models.mkdir(parents=True, exist_ok=True)
    cases = [(n, b, t) for b in args.batches for t in (1, 2) for n in args.networks]
    machine = subprocess.run([args.build / "bin" / "machine_name"], check=True, capture_output=True, text=True).stdout.strip()
    result = {"machine": machine, "date": datetime.date.today().isoformat(), "runs": args.rounds * args.runs, "cases": []}
    for number, (network, batch, threads) in enumerate(cases):
        print(f"\r\033[K[{number + 1}/{len(cases)}] {network} batch {batch} threads {threads}", end="", file=sys.stderr)
        result["cases"].append(measure(args, network, batch, threads, compiled[network]))
        write_text(args.output / "peers.json", json.dumps(result, indent=1) + "\n")
    print("\r\033[K", end="", file=sys.stderr)
    # Stages, layers and charts are of ShuffleNetV2's kernels, of which comparison networks have none.
    ours = [name for name in args.networks if name in NETWORKS]
    if not ours:
        table = markdown(result)
        write_text(args.output / "peers.md", table)
        print(table)
        return
    result["stages"] = measure_stages(args.build)
    write_text(args.output / "peers.json", json.dumps(result, indent=1) + "\n")
    result["layers"] = measure_layers(args.build, ours)
    write_text(args.output / "peers.json", json.dumps(result, indent=1) + "\n")
    write_text(args.output / "layers.md", f"Machine: {machine}, {result['date']}. " + layer_table(result["layers"]))
    table = markdown(result) + stage_table(result["stages"])
    write_text(args.output / "peers.md", table)
    print(table)
    subprocess.run(["/usr/bin/python3", HERE / "plot.py", args.output / "peers.json", args.output], check=True)


if __name__ == "__main__":
    main()
