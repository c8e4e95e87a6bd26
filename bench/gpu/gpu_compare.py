#!/usr/bin/env python3
"""Our kernels and PyTorch's on one NVIDIA GPU, in one process, on one stream; and each of our kernels beside its limit.

    python3 bench/gpu/gpu_compare.py --build build/cuda --output build/bench/gpu [--networks shufflenet_v2_x1_0 ...]

Needs on that machine: NVIDIA's driver, PyTorch with CUDA and torchvision; of ours, the build folder alone. Writes
gpu.json and gpu.md. With --check no GPU is needed: the library is loaded, and the kernels of a run and their costs are
printed.
"""

import argparse
import copy
import ctypes
import json
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))

from files import write_text

NETWORKS = ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"]
BATCHES = [1, 8, 64, 256]
CLASSES = 1000
# Of the outputs' range, against PyTorch in double precision: as the tests'.
TOLERANCE = 1e-5
ERROR_SIZE = 1000


class Library:
    """The models of a build, as bench/gpu/device_library.cc has them."""

    def __init__(self, path):
        self.c = ctypes.CDLL(str(path))
        for name in ("own_input", "own_output"):
            function = getattr(self.c, f"shufflenet_device_{name}")
            function.restype = ctypes.c_uint64
            function.argtypes = [ctypes.c_void_p]
        self.c.shufflenet_device_enqueue.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_uint64,
                                                     ctypes.c_char_p, ctypes.c_int]
        self.c.shufflenet_device_kernels.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        self.c.shufflenet_device_close.argtypes = [ctypes.c_void_p]
        self.error = ctypes.create_string_buffer(ERROR_SIZE)

    def check(self, result):
        if result != 0:
            raise SystemExit(self.error.value.decode())

    def open(self, network, weights, batch, stream, graph):
        model = ctypes.c_void_p()
        self.check(self.c.shufflenet_device_open(ctypes.byref(model), network.encode(), b"cuda", str(weights).encode(),
                                                 batch, ctypes.c_void_p(stream), int(graph), self.error, ERROR_SIZE))
        return model

    def enqueue(self, model, source, batch, target):
        self.check(self.c.shufflenet_device_enqueue(model, source, batch, target, self.error, ERROR_SIZE))

    def kernels(self, model, batch):
        size = 1 + self.c.shufflenet_device_kernels(model, batch, None, 0)
        text = ctypes.create_string_buffer(size)
        self.c.shufflenet_device_kernels(model, batch, text, size)
        return json.loads(text.value)

    def close(self, model):
        self.c.shufflenet_device_close(model)


def graphed(torch, call, x):
    """The call as a CUDA graph, as PyTorch's manual has it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call(x)
    return graph.replay


def torch_sides(torch, model, x):
    """PyTorch's ways to run it, as (name, a function without arguments)."""
    for tf32 in (False, True):
        precision = "TF32" if tf32 else "fp32"

        def set_precision(allow=tf32):
            torch.backends.cuda.matmul.allow_tf32 = allow
            torch.backends.cudnn.allow_tf32 = allow

        for layout in ("nchw", "nhwc"):
            form = torch.channels_last if layout == "nhwc" else torch.contiguous_format
            net, images = copy.deepcopy(model).to(memory_format=form), x.to(memory_format=form)

            def eager(net=net, images=images, ready=set_precision):
                ready()
                return net(images)

            yield f"PyTorch {precision} {layout} eager", eager
            set_precision()
            yield f"PyTorch {precision} {layout} graph", graphed(torch, net, images)
            try:
                compiled = torch.compile(net, mode="max-autotune")
                for _ in range(3):
                    compiled(images)
            except Exception as error:  # The compiler needs more than PyTorch: say what, and go on.
                print(f"torch.compile: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            yield f"PyTorch {precision} {layout} compile", lambda compiled=compiled, images=images: compiled(images)
    try:
        import torch_tensorrt
    except ImportError:
        print("no torch_tensorrt: TensorRT is not compared with", file=sys.stderr)
        return
    engine = torch_tensorrt.compile(model, inputs=[x])
    yield "TensorRT", lambda: engine(x)


def milliseconds(torch, call, calls):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / calls


def compare(torch, sides, rounds):
    """Medians of every side's milliseconds, all sides in turn."""
    calls = {}
    for name, call in sides.items():
        milliseconds(torch, call, 3)
        calls[name] = max(3, min(500, int(20 / milliseconds(torch, call, 3))))
    times = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            times[name].append(milliseconds(torch, call, calls[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def device_limits(torch):
    """Bytes and multiply-adds a second: measured by a copy, and computed from the highest clock."""
    properties = torch.cuda.get_device_properties(0)
    big = torch.empty(1 << 28, device="cuda")
    other = torch.empty_like(big)
    copy = min(milliseconds(torch, lambda: other.copy_(big), 5) for _ in range(3))
    query = ["nvidia-smi", "--id=0", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"]
    clock = 1e6 * float(subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return {"bytes": 2 * 4 * big.numel() / copy * 1e3, "multiply_adds": properties.multi_processor_count * 128 * clock}


def kernel_times(torch, library, model, kernels, source, batch, target):
    """Microseconds of each launch, by PyTorch's profiler, which sees the whole process."""
    runs = 20
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(runs):
            library.enqueue(model, source, batch, target)
        torch.cuda.synchronize()
    events = [e for e in profile.events() if e.name.startswith("_kernel_")]
    events.sort(key=lambda e: e.time_range.start)
    if len(events) != runs * len(kernels):
        raise SystemExit(f"profiler: expected {runs * len(kernels)} kernels, found {len(events)}")
    return [statistics.median(events[r * len(kernels) + i].time_range.elapsed_us() for r in range(runs))
            for i in range(len(kernels))]


def bench(options, torch, library):
    # It needs PyTorch.
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "networks"))
    from make_models import random_model, weight_arrays, write_safetensors
    limits = device_limits(torch)
    stream = torch.cuda.Stream()
    result = {"device": torch.cuda.get_device_name(0), "torch": torch.__version__, "limits": limits, "runs": [],
              "kernels": []}
    for network in options.networks:
        model = random_model(network)
        weights = options.output / f"{network}.safetensors"
        write_safetensors(weights, weight_arrays(model))
        model = model.cuda()
        for batch in options.batches:
            x = torch.randn(batch, 3, 224, 224, device="cuda")
            y = torch.empty(batch, CLASSES, device="cuda")
            with torch.inference_mode(), torch.cuda.stream(stream):
                expected = copy.deepcopy(model).double()(x.double())
                sides, opened = {}, []
                for name, graph in (("ours graph", True), ("ours launches", False)):
                    ours = library.open(network, weights, batch, stream.cuda_stream, graph)
                    opened.append(ours)
                    library.enqueue(ours, x.data_ptr(), batch, y.data_ptr())
                    torch.cuda.synchronize()
                    error = float((y - expected).abs().max() / (expected.max() - expected.min()))
                    if not error <= TOLERANCE:
                        raise SystemExit(f"{network}, batch {batch}, {name}: wrong by {error} of the range")
                    sides[name] = lambda m=ours: library.enqueue(m, x.data_ptr(), batch, y.data_ptr())
                sides |= dict(torch_sides(torch, model, x))
                times = compare(torch, sides, options.rounds)
                kernels = library.kernels(opened[1], batch)
                measured = kernel_times(torch, library, opened[1], kernels, x.data_ptr(), batch, y.data_ptr())
            for name, value in times.items():
                result["runs"].append({"network": network, "batch": batch, "side": name, "milliseconds": value})
            for kernel, value in zip(kernels, measured):
                limit = max(kernel["bytes"] / limits["bytes"], kernel["multiply_adds"] / limits["multiply_adds"]) * 1e6
                result["kernels"].append({"network": network, "batch": batch, **kernel, "microseconds": value,
                                          "limit_microseconds": limit})
            for ours in opened:
                library.close(ours)
            print(f"{network} batch {batch}: " + ", ".join(f"{n} {t:.3f}" for n, t in times.items()), flush=True)
    return result


def markdown(result):
    lines = [f"{result['device']}, PyTorch {result['torch']}; milliseconds of a run, medians, device memory to device "
             "memory.", ""]
    sides = list(dict.fromkeys(run["side"] for run in result["runs"]))
    lines += ["| network | batch | " + " | ".join(sides) + " |", "|---|" + "--:|" * (1 + len(sides))]
    rows = {}
    for run in result["runs"]:
        rows.setdefault((run["network"], run["batch"]), {})[run["side"]] = f"{run['milliseconds']:.3f}"
    for (network, batch), row in rows.items():
        lines.append(f"| {network} | {batch} | " + " | ".join(row.get(side, "") for side in sides) + " |")
    lines += ["", "Microseconds of each kernel beside its limit, by bytes or by multiply-adds.", "",
              "| network | batch | kernel | time | limit | share |", "|---|--:|---|--:|--:|--:|"]
    for k in result["kernels"]:
        share = k["limit_microseconds"] / k["microseconds"]
        lines.append(f"| {k['network']} | {k['batch']} | {k['id']} | {k['microseconds']:.2f} | "
                     f"{k['limit_microseconds']:.2f} | {share:.0%} |")
    return "\n".join(lines) + "\n"


def check(options, library):
    """What can be seen without a GPU's time: every model loads, and its runs have these kernels."""
    for network in options.networks:
        weights = options.output / f"{network}.safetensors"
        for batch in options.batches:
            model = library.open(network, weights, batch, None, True)
            library.enqueue(model, library.c.shufflenet_device_own_input(model), batch,
                            library.c.shufflenet_device_own_output(model))
            kernels = library.kernels(model, batch)
            total = sum(k["multiply_adds"] for k in kernels)
            print(f"{network} batch {batch}: {len(kernels)} kernels, {total} multiply-adds")
            library.close(model)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, type=pathlib.Path, help="build folder of the preset cuda")
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--check", action="store_true", help="with weights NETWORK.safetensors in the output folder")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    library = Library(options.build / "lib/libshufflenet_device.so")
    if options.check:
        check(options, library)
        return
    try:
        import torch
        import torchvision  # noqa: F401 - make_models has its networks
    except ImportError as error:
        raise SystemExit(f"{error}: this comparison needs PyTorch and torchvision") from error
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no CUDA device")
    result = bench(options, torch, library)
    for name, text in (("gpu.json", json.dumps(result, indent=1) + "\n"), ("gpu.md", markdown(result))):
        write_text(options.output / name, text)
    print(options.output / "gpu.md")


if __name__ == "__main__":
    main()
