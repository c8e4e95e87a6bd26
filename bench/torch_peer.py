#!/usr/bin/python3
"""PyTorch as one side of a comparison; speaks as bench_peer does.

torch_peer.py NETWORK STATE_DICT.pt BATCH THREADS INPUT.f32 OUTPUT.f32
"""
import json
import sys
import time

import numpy
import torch
from make_models import make


def main():
    network, state_dict, batch, threads, input_path, output_path = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = make(network).eval()
    model.load_state_dict(torch.load(state_dict))
    flat = numpy.fromfile(input_path, dtype=numpy.float32)
    side = round((flat.size / int(batch) / 3) ** 0.5)
    x = torch.from_numpy(flat.reshape(int(batch), 3, side, side))
    x = x.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        traced = torch.jit.trace(model.to(memory_format=torch.channels_last), x)
        frozen = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
        for _ in range(3):
            y = frozen(x)
        y.numpy().tofile(output_path)
        print(json.dumps({"name": "pytorch", "version": torch.__version__}), flush=True)
        for line in sys.stdin:
            times = []
            for _ in range(int(line)):
                start = time.perf_counter()
                frozen(x)
                times.append((time.perf_counter() - start) * 1e6)
            print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
