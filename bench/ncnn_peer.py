#!/usr/bin/python3
"""ncnn as one side of a comparison; speaks as bench_peer does. In single precision, as all others are.

ncnn_peer.py MODEL.ncnn.param MODEL.ncnn.bin BATCH THREADS INPUT.f32 OUTPUT.f32
"""
import json
import sys
import time

import ncnn
import numpy


def main():
    param, weights, batch, threads, input_path, output_path = sys.argv[1:]
    net = ncnn.Net()
    net.opt.num_threads = int(threads)
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(param) != 0 or net.load_model(weights) != 0:
        sys.exit(f"{param}: ncnn cannot load it")
    images = [ncnn.Mat(image) for image in
              numpy.fromfile(input_path, dtype=numpy.float32).reshape(int(batch), 3, 224, 224)]

    def run():
        """An extractor takes one image; pnnx names inputs and outputs in0, out0."""
        outputs = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input("in0", image)
            status, output = extractor.extract("out0")
            if status != 0:
                sys.exit(f"{param}: ncnn fails with {status}")
            outputs.append(numpy.array(output))
            extractor.clear()
        return outputs

    for _ in range(3):
        outputs = run()
    numpy.concatenate(outputs).astype(numpy.float32).tofile(output_path)
    print(json.dumps({"name": "ncnn", "version": getattr(ncnn, "__version__", "unknown")}), flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e6)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
