"""Golden outputs of the comparison networks in PyTorch (MobileNetV2: torchvision's), written to comparison.json next to
this file. As make_golden.py."""

import json
import pathlib
import sys

import numpy as np
import torch
import torchvision
from make_golden import float32, rows
from random_weights import random_input, random_state_dict

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "reference"))
import comparison_torch

CLASSES = 10

# network, height, width, seed
CASES = [
    ("mobilenet_v1_x0_25", 65, 96, 1),
    ("mobilenet_v2_x1_0", 96, 64, 2),
    ("mobilenet_v2_x0_15", 64, 64, 3),
    ("mobilenet_v2_x0_6", 64, 64, 4),
    ("shufflenet_v1_x0_5", 96, 97, 5),
    ("shufflenet_v1_x1_0", 64, 64, 6),
    ("xception_x0_5", 64, 96, 7),
]


def after_relu(name):
    """Whether a convolution reads what went through a ReLU."""
    if name in ("features.0.0.weight", "first_conv.0.weight", "features.18.0.weight") or "branch_main_2" in name:
        return False
    # The first of a MobileNetV2 unit's convolutions: but the first unit's is depthwise, and reads the stem.
    return not name.endswith(".conv.0.0.weight") or name.startswith("features.1.")


def run(network, height, width, seed):
    model = comparison_torch.make(network, CLASSES).double().eval()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    last = next(name for name in reversed(shapes) if name.endswith(".weight")).removesuffix(".weight")
    state_dict = random_state_dict(shapes, seed, after_relu, last)
    model.load_state_dict({name: torch.from_numpy(np.asarray(array)) for name, array in state_dict.items()})
    with torch.no_grad():
        logits = model(torch.from_numpy(random_input(seed, height, width)).double())
    return {
        "network": network,
        "height": height,
        "width": width,
        "seed": seed,
        "tensors": [[name, list(shape)] for name, shape in shapes.items()],
        "logits": [float32(value) for value in logits[0]],
    }


def main():
    torch.set_num_threads(1)
    cases = [run(*case) for case in CASES]
    versions = json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__})
    text = f'{{"made_with":{versions},\n"cases":[\n{rows(cases)}]}}\n'
    path = pathlib.Path(__file__).with_name("comparison.json")
    path.write_text(text, encoding="utf-8")
    print(f"{path.name}: {len(text)} bytes")


if __name__ == "__main__":
    main()
