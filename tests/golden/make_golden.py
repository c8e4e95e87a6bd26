"""Golden outputs of torchvision's ShuffleNetV2, written to golden.json next to this file.

Weights and inputs are random, and are not in the file: random_weights.py generates them from a seed, and
reference/random_weights.h the same bits in C++, which says how. torch runs in double precision, so a golden value is exact but for its rounding to float32.
Sampled elements are enough to compare: any mistake in a layer moves most of its outputs.
"""

import json
import pathlib

import numpy as np
import torch
import torchvision
from random_weights import Stream, random_input, random_state_dict
from torchvision.models import ShuffleNetV2

SAMPLES = 160
FEATURES = ("stage2", "stage3", "stage4", "conv5")

NETWORKS = {
    "shufflenet_v2_x0_5": torchvision.models.shufflenet_v2_x0_5,
    "shufflenet_v2_x1_0": torchvision.models.shufflenet_v2_x1_0,
    "shufflenet_v2_x1_5": torchvision.models.shufflenet_v2_x1_5,
    "shufflenet_v2_x2_0": torchvision.models.shufflenet_v2_x2_0,
    # The test rows of networks/families/shufflenet_v2.cc
    "test_prime": lambda num_classes: ShuffleNetV2([2, 3, 1], [7, 26, 34, 58, 61], num_classes),
    "test_tiny": lambda num_classes: ShuffleNetV2([1, 1, 2], [1, 2, 2, 6, 3], num_classes),
    "test_deep": lambda num_classes: ShuffleNetV2([9, 2, 12], [5, 10, 62, 74, 37], num_classes),
}

# network, height, width, classes, seed (test_tiny's: with one channel, most seeds end in zeros)
CASES = [
    ("shufflenet_v2_x0_5", 224, 224, 1000, 1),
    ("shufflenet_v2_x1_0", 224, 224, 1000, 2),
    ("shufflenet_v2_x1_5", 224, 224, 1000, 3),
    ("shufflenet_v2_x2_0", 224, 224, 1000, 4),
    ("shufflenet_v2_x0_5", 33, 47, 1000, 5),
    ("shufflenet_v2_x0_5", 97, 64, 1000, 6),
    ("shufflenet_v2_x0_5", 225, 225, 1000, 7),
    ("shufflenet_v2_x0_5", 64, 64, 10, 8),
    ("test_prime", 40, 33, 7, 9),
    ("test_tiny", 32, 32, 2, 15028),
    ("test_deep", 64, 48, 11, 10),
]


def checksum(arrays):
    """Sum of (2i + 1) * bits of the i-th float: tells wrong weights or inputs from wrong arithmetic."""
    bits = np.concatenate([array.ravel() for array in arrays]).view(np.uint32).astype(np.uint64)
    return int(((2 * np.arange(bits.size, dtype=np.uint64) + np.uint64(1)) * bits).sum(dtype=np.uint64))


def float32(value):
    """The shortest decimal number that reads as the float32 nearest to `value`."""
    return float(str(np.float32(value)))


def describe(seed, name, tensor):
    flat = tensor.detach().numpy()[0].ravel()
    indices = [int(bits % np.uint64(flat.size)) for bits in Stream(seed, f"sample.{name}", SAMPLES).bits]
    indices = sorted(set(indices))
    return {
        "name": name,
        "shape": list(tensor.shape[1:]),
        "min": float32(flat.min()),
        "max": float32(flat.max()),
        "mean": float32(flat.mean()),
        "rms": float32(np.sqrt(np.mean(flat * flat))),
        "indices": indices,
        "values": [float32(flat[i]) for i in indices],
    }


def keep_outputs(model):
    """A dictionary that the model's next run fills with its features."""
    outputs = {}

    def keep(name):
        def hook(_module, _inputs, output):
            outputs[name] = output.clone()

        return hook

    for name in FEATURES:
        getattr(model, name).register_forward_hook(keep(name))
    return outputs


def run(network, height, width, classes, seed):
    model = NETWORKS[network](num_classes=classes).double().eval()
    state_dict = random_state_dict({name: tuple(value.shape) for name, value in model.state_dict().items()}, seed)
    model.load_state_dict({name: torch.from_numpy(np.asarray(array)) for name, array in state_dict.items()})
    outputs = keep_outputs(model)
    image = random_input(seed, height, width)
    with torch.no_grad():
        logits = model(torch.from_numpy(image).double())
    return {
        "name": f"{network}_{height}x{width}_{classes}",
        "network": network,
        "height": height,
        "width": width,
        "classes": classes,
        "seed": seed,
        "weights_checksum": checksum(state_dict.values()),
        "input_checksum": checksum([image]),
        "features": [describe(seed, name, outputs[name]) for name in FEATURES],
        "logits": [float32(value) for value in logits[0]],
    }


def state_dict_shapes(network):
    return {name: list(tensor.shape) for name, tensor in NETWORKS[network](num_classes=1000).state_dict().items()}


def rows(items):
    return ",\n".join(json.dumps(item, separators=(",", ":")) for item in items)


def main():
    torch.set_num_threads(1)
    cases = [run(*case) for case in CASES]
    shapes = [{"network": network, "tensors": list(state_dict_shapes(network).items())} for network in NETWORKS]
    versions = json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__})
    text = f'{{"made_with":{versions},\n"state_dicts":[\n{rows(shapes)}],\n"cases":[\n{rows(cases)}]}}\n'
    path = pathlib.Path(__file__).with_name("golden.json")
    path.write_text(text, encoding="utf-8")
    print(f"{path.name}: {len(text)} bytes")


if __name__ == "__main__":
    main()
