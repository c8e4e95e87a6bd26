#!/usr/bin/python3
"""Our library and its peers, in turn: JSON, Markdown tables and charts.

Every side is a process (bench_peer, torch_peer.py, ncnn_peer.py); they take turns within seconds, so that the noise of a shared
machine hits all alike, and a pause between turns lets the threads that spin for their next job go to sleep. The
outputs are compared before anything is timed. The floor is the multiply-adds of the network at the multiply-add peak
that is measured in our process.
"""
import argparse
import datetime
import json
import pathlib
import platform
import subprocess
import sys
import time

import numpy

HERE = pathlib.Path(__file__).resolve().parent
NETWORKS = ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"]
# Sides compute in single precision and sum in another order; the logits' range is the unit.
TOLERANCE = 1e-4
PAUSE = 0.02
PEERS = ["onnxruntime", "pytorch", "ncnn"]
LAYER_RUNS = 400


class Side:
    """A peer process; `absent` says why there is none."""

    def __init__(self, name, command, output, environment=None, missing=None):
        self.name, self.output, self.times, self.absent = name, output, [], missing
        if missing:
            return
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=environment)
        line = self.process.stdout.readline()
        if not line:
            errors = self.process.stderr.read().strip().splitlines() or ["no output"]
            self.absent = errors[-1]
            return
        self.about = json.loads(line)

    def run(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: ended: {self.process.stderr.read().strip()}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def input_file(models, batch, side):
    path = models / f"input_b{batch}_{side}.f32"
    if not path.exists():
        temporary = path.with_suffix(".new")
        numpy.random.default_rng(batch).standard_normal((batch, 3, side, side)).astype("float32").tofile(temporary)
        temporary.rename(path)
    return path


def open_sides(args, network, batch, threads, side):
    models, peer = args.models, args.build / "bin" / "bench_peer"
    tail = [batch, threads, input_file(models, batch, side)]
    weights, onnx = models / f"{network}.safetensors", models / f"{network}_b{batch}.onnx"
    sides = []
    for isa in args.isa:
        output = models / f"ours_{isa}.f32"
        environment = {"PATH": "/usr/bin:/bin", "SHUFFLENET_ISA": isa}
        sides.append(Side(f"ours ({isa})", [peer, "ours", network, weights if weights.exists() else "random", *tail,
                                            output], output, environment))
    no_models = None if onnx.exists() else "no ONNX file: ./dev peers installs what makes it"
    output = models / "onnxruntime.f32"
    missing = no_models if args.onnxruntime else "not installed: ./dev peers"
    sides.append(Side("onnxruntime", [peer, "onnxruntime", args.onnxruntime, onnx, *tail, output], output,
                      missing=missing))
    output = models / "pytorch.f32"
    missing = None if weights.exists() else "not installed: ./dev peers"
    sides.append(Side("pytorch", ["/usr/bin/python3", HERE / "torch_peer.py", network, models / f"{network}.pt", *tail,
                                  output], output, missing=missing))
    output, param = models / "ncnn.f32", models / f"{network}.ncnn.param"
    missing = None if param.exists() else "not installed: it is for pip (ncnn, pnnx), not in Debian"
    sides.append(Side("ncnn", ["/usr/bin/python3", HERE / "ncnn_peer.py", param, param.with_suffix(".bin"), *tail,
                               output], output, missing=missing))
    return [side for side in sides if side.name.startswith("ours") or side.name in args.peers]


def check_outputs(sides):
    expected = numpy.fromfile(sides[0].output, dtype=numpy.float32)
    for side in sides[1:]:
        found = numpy.fromfile(side.output, dtype=numpy.float32)
        error = numpy.abs(found - expected).max() / (expected.max() - expected.min())
        if not error <= TOLERANCE:
            sys.exit(f"compare.py: error: {side.name} computes something else: worst difference {error:.2e} of the range")


def measure(args, network, batch, threads):
    flops, side = about(args.build, network)
    sides = open_sides(args, network, batch, threads, side)
    present = [side for side in sides if not side.absent]
    if not any(side.name.startswith("ours") for side in present):
        sys.exit(f"compare.py: error: {sides[0].name}: {sides[0].absent}")
    check_outputs(present)
    for round_number in range(args.rounds):
        for side in present:
            time.sleep(PAUSE)
            side.run(2)
            side.times += side.run(args.runs)
    case = {"network": network, "batch": batch, "threads": threads, "gflop": flops * batch * 1e-9, "sides": []}
    for side in sides:
        if side.absent:
            case["sides"].append({"name": side.name, "absent": side.absent})
            continue
        case["sides"].append({"name": side.name, "about": side.about, "min_us": min(side.times),
                              "median_us": float(numpy.median(side.times)), "runs": len(side.times)})
        side.close()
    peaks = [side.about["peak_gflops"] for side in present if "peak_gflops" in side.about]
    case["peak_gflops"] = max(peaks)
    case["floor_us"] = case["gflop"] / case["peak_gflops"] * 1e6
    return case


def about(build, network):
    """FLOPs of an image, and its height."""
    info = subprocess.run([build / "bin" / "shufflenet", "info", network, "--json"], check=True, capture_output=True)
    info = json.loads(info.stdout)
    return 2 * info["total"]["flops"], info["input"][0]


def markdown(result):
    lines = [f"Machine: {result['machine']}, {result['date']}. Milliseconds, minimum / median of "
             f"{result['runs']} runs; floor: multiply-adds at the peak measured in the same process.", ""]
    names = [side["name"] for side in result["cases"][0]["sides"]]
    lines.append("| network | batch | threads | floor | " + " | ".join(names) + " | best peer / ours | share of peak |")
    lines.append("|---|--:|--:|--:|" + "--:|" * (len(names) + 2))
    for case in result["cases"]:
        cells = []
        for side in case["sides"]:
            cells.append("absent" if "absent" in side else f"{side['min_us'] / 1e3:.2f} / {side['median_us'] / 1e3:.2f}")
        ours = [s for s in case["sides"] if s["name"].startswith("ours") and "absent" not in s][-1]
        peers = [s for s in case["sides"] if not s["name"].startswith("ours") and "absent" not in s]
        ratio = "-"
        if peers:
            ratio = " / ".join(f"{min(p[k] for p in peers) / ours[k]:.2f}" for k in ("min_us", "median_us"))
        share = " / ".join(f"{100 * case['floor_us'] / ours[k]:.0f} %" for k in ("min_us", "median_us"))
        lines.append(f"| {case['network']} | {case['batch']} | {case['threads']} | {case['floor_us'] / 1e3:.2f} | "
                     + " | ".join(cells) + f" | {ratio} | {share} |")
    for side in result["cases"][0]["sides"]:
        if "absent" in side:
            lines += ["", f"{side['name']} is absent: {side['absent']}"]
    return "\n".join(lines) + "\n"


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


def save(path, text):
    temporary = path.with_suffix(path.suffix + ".new")
    temporary.write_text(text)
    temporary.rename(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build folder, e.g. build/x86")
    parser.add_argument("--models", type=pathlib.Path, required=True, help="folder of make_models.py")
    parser.add_argument("--onnxruntime", help="path of libonnxruntime.so; without it that peer is absent")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder for JSON, Markdown and charts")
    parser.add_argument("--rounds", type=int, default=12, help="turns of every side")
    parser.add_argument("--runs", type=int, default=8, help="runs of a turn")
    parser.add_argument("--isa", nargs="+", help="our instruction sets, best last",
                        default=["neon"] if platform.machine() == "aarch64" else ["avx2", "avx512"])
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    args.models.mkdir(parents=True, exist_ok=True)
    cases = [(n, b, t) for b in args.batches for t in (1, 2) for n in args.networks]
    machine = subprocess.run([args.build / "bin" / "machine_name"], check=True, capture_output=True, text=True).stdout.strip()
    result = {"machine": machine, "date": datetime.date.today().isoformat(), "runs": args.rounds * args.runs, "cases": []}
    for number, (network, batch, threads) in enumerate(cases):
        print(f"\r\033[K[{number + 1}/{len(cases)}] {network} batch {batch} threads {threads}", end="", file=sys.stderr)
        result["cases"].append(measure(args, network, batch, threads))
        save(args.output / "peers.json", json.dumps(result, indent=1) + "\n")
    print("\r\033[K", end="", file=sys.stderr)
    # Stages, layers and charts are of ShuffleNetV2's kernels, of which comparison networks have none.
    ours = [name for name in args.networks if name in NETWORKS]
    if not ours:
        table = markdown(result)
        save(args.output / "peers.md", table)
        print(table)
        return
    result["stages"] = measure_stages(args.build)
    save(args.output / "peers.json", json.dumps(result, indent=1) + "\n")
    result["layers"] = measure_layers(args.build, ours)
    save(args.output / "peers.json", json.dumps(result, indent=1) + "\n")
    save(args.output / "layers.md", f"Machine: {machine}, {result['date']}. " + layer_table(result["layers"]))
    table = markdown(result) + stage_table(result["stages"])
    save(args.output / "peers.md", table)
    print(table)
    subprocess.run(["/usr/bin/python3", HERE / "plot.py", args.output / "peers.json", args.output], check=True)


if __name__ == "__main__":
    main()
