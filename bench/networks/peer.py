#!/usr/bin/python3
"""A framework as one side of a comparison; speaks as bench_peer does.

peer.py FRAMEWORK fp32|default MODEL BATCH THREADS INPUT.f32 OUTPUT.f32

MODEL is a network of make_models.py: its files' path up to and with the network's name. `default` is the precision that
the framework takes by itself on this processor. What is timed is the call that runs the network: its input is in the
framework's own tensor, and its output stays in one.
"""
import importlib.util
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import numpy


class Framework:
    """`exact`: in single precision. The constructor loads the network; `precision` is what it then computes in."""

    precision = "fp32"

    def refill(self):
        """What a run needs again of its input, untimed."""


class OnnxRuntime(Framework):
    def __init__(self, model, images, threads, exact):
        import onnxruntime

        self.version = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(onnx_file(model, images), options, ["CPUExecutionProvider"])
        (source,), (result,) = self.session.get_inputs(), self.session.get_outputs()
        self.result = onnxruntime.OrtValue.ortvalue_from_numpy(numpy.zeros(result.shape, numpy.float32))
        self.binding = self.session.io_binding()
        self.binding.bind_ortvalue_input(source.name, onnxruntime.OrtValue.ortvalue_from_numpy(images))
        self.binding.bind_ortvalue_output(result.name, self.result)

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def output(self):
        return self.result.numpy()


class OpenVino(Framework):
    def __init__(self, model, images, threads, exact):
        import openvino

        self.version = openvino.__version__.split("-")[0]
        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        if exact:
            options["INFERENCE_PRECISION_HINT"] = "f32"
        compiled = openvino.Core().compile_model(onnx_file(model, images), "CPU", options)
        kind = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.precision = {"f32": "fp32", "f16": "fp16"}.get(kind, kind)
        self.request = compiled.create_infer_request()
        self.request.set_input_tensor(openvino.Tensor(images))

    def run(self):
        self.request.infer()

    def output(self):
        return self.request.get_output_tensor().data


class Ncnn(Framework):
    def __init__(self, model, images, threads, exact):
        import ncnn

        self.version = ncnn.__version__
        self.net = ncnn.Net()
        self.net.opt.num_threads = threads
        if exact:
            for option in dir(self.net.opt):
                if option.startswith(("use_fp16_", "use_bf16_")):
                    setattr(self.net.opt, option, False)
        else:
            # On x86 these are the weights of fully connected layers; it computes in single precision.
            self.precision = "fp16 weights" if platform.machine() == "x86_64" else "fp16"
        program = pathlib.Path(importlib.util.find_spec("pnnx").origin).with_name("pnnx")
        height, width = images.shape[2:]
        with tempfile.TemporaryDirectory() as folder:
            # It writes a dozen files beside its input.
            source = pathlib.Path(folder, "net.onnx")
            source.symlink_to(pathlib.Path(onnx_file(model, images[:1])).resolve())
            subprocess.run([program, source.name, f"inputshape=[1,3,{height},{width}]", "fp16=0"], cwd=folder, check=True,
                           stdout=subprocess.DEVNULL)
            if self.net.load_param(f"{folder}/net.ncnn.param") != 0 or self.net.load_model(f"{folder}/net.ncnn.bin") != 0:
                raise RuntimeError(f"{model}: ncnn cannot load what pnnx makes of it")
        self.images = [ncnn.Mat(image).clone() for image in images]

    def run(self):
        """An extractor takes one image; pnnx names inputs and outputs in0, out0."""
        self.outputs = []
        for image in self.images:
            extractor = self.net.create_extractor()
            extractor.input("in0", image)
            status, output = extractor.extract("out0")
            if status != 0:
                raise RuntimeError(f"ncnn fails with {status}")
            self.outputs.append(output)

    def output(self):
        return numpy.concatenate([numpy.array(output) for output in self.outputs])


class Mnn(Framework):
    def __init__(self, model, images, threads, exact):
        import MNN
        import _tools  # MNN's; its program mnnconvert reports to its makers what it converts.

        self.version = MNN.version()
        if not exact:
            self.precision = "normal"
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/net.mnn"
            _tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", onnx_file(model, images), "--MNNModel", path,
                               "--bizCode", "none"])
            self.net = MNN.Interpreter(path)
        self.session = self.net.createSession({"backend": "CPU", "numThread": threads,
                                               "precision": "high" if exact else "normal"})
        self.kind = MNN.Halide_Type_Float, MNN.Tensor_DimensionType_Caffe
        self.tensor = MNN.Tensor
        self.images = self.wrap(images)
        self.input = self.net.getSessionInput(self.session)

    def wrap(self, array):
        kind, order = self.kind
        return self.tensor(array.shape, kind, array, order)

    def refill(self):
        """A run overwrites it."""
        self.input.copyFrom(self.images)

    def run(self):
        self.net.runSession(self.session)

    def output(self):
        output = self.net.getSessionOutput(self.session)
        result = self.wrap(numpy.zeros(output.getShape(), numpy.float32))
        output.copyToHostTensor(result)
        return numpy.array(result.getData(), numpy.float32)


class PyTorch(Framework):
    def __init__(self, model, images, threads, exact):
        import torch
        from make_models import make

        self.version = torch.__version__
        torch.set_num_threads(threads)
        path = pathlib.Path(f"{model}.pt")
        net = make(path.stem).eval()
        net.load_state_dict(torch.load(path))
        net = net.to(memory_format=torch.channels_last)
        self.images = torch.from_numpy(images).to(memory_format=torch.channels_last)
        torch.inference_mode().__enter__()  # For the rest of the process.
        self.net = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, self.images)))

    def run(self):
        self.result = self.net(self.images)

    def output(self):
        return self.result.numpy()


FRAMEWORKS = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "ncnn": Ncnn, "mnn": Mnn, "pytorch": PyTorch}


def onnx_file(model, images):
    path = f"{model}_b{len(images)}.onnx"
    if not os.path.exists(path):
        raise RuntimeError(f"{path}: no such file; bench/networks/make_models.py makes it")
    return path


def read_images(path, batch):
    flat = numpy.fromfile(path, dtype=numpy.float32)
    side = math.isqrt(flat.size // (3 * batch))
    if flat.size == 0 or flat.size != batch * 3 * side * side:
        raise RuntimeError(f"{path}: expected floats of {batch} square images")
    return flat.reshape(batch, 3, side, side)


def serve(protocol, name, precision, model, batch, threads, input_path, output_path):
    side = FRAMEWORKS[name](model, read_images(input_path, int(batch)), int(threads), precision == "fp32")

    def run():
        side.refill()
        start = time.perf_counter()
        side.run()
        return (time.perf_counter() - start) * 1e6

    for _ in range(3):
        run()
    numpy.asarray(side.output(), numpy.float32).tofile(output_path)
    print(json.dumps({"name": name, "version": side.version, "precision": side.precision}), file=protocol, flush=True)
    for line in sys.stdin:
        print(json.dumps([run() for _ in range(int(line))]), file=protocol, flush=True)


def main():
    arguments = sys.argv[1:]
    if len(arguments) != 7 or arguments[0] not in FRAMEWORKS or arguments[1] not in ("fp32", "default"):
        sys.exit(f"peer.py: error: expected {'|'.join(FRAMEWORKS)} fp32|default MODEL BATCH THREADS INPUT.f32 OUTPUT.f32")
    # Frameworks print too: to standard error, then.
    protocol = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        serve(protocol, *arguments)
    except ModuleNotFoundError as error:
        sys.exit(f"peer.py: error: {error.name} is not installed: ./dev peers")
    except Exception as error:
        sys.exit(f"peer.py: error: {(str(error).strip() or type(error).__name__).splitlines()[0]}")


if __name__ == "__main__":
    main()
