#!/usr/bin/python3
"""The same random network for all sides: make_models.py FOLDER BATCH... [NETWORK...] writes, for each network and batch,
NETWORK.safetensors, NETWORK.pt and NETWORK_bN.onnx. Files that are there are kept."""
import json
import pathlib
import struct
import sys

import torch
import torchvision

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "reference"), str(ROOT / "bench/common")]

import comparison_torch
from files import write_whole

NETWORKS = ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"]


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            file.write(value.tobytes())


def make(network):
    if network in comparison_torch.NAMES:
        return comparison_torch.make(network)
    return getattr(torchvision.models, network)(weights=None)


def crop_of(network):
    return comparison_torch.crop_of(network)


def random_model(network):
    """Weights as trained ones are: batch normalisation that does something, activations that stay in range."""
    torch.manual_seed(7)
    model = make(network)
    model.train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.2, 0.2)
        for _ in range(4):
            model(torch.randn(4, 3, crop_of(network), crop_of(network)))
    return model.eval()


def weight_arrays(model):
    """What a weight file has of a model: every tensor by its name."""
    return {k: v.numpy() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    batches = [int(text) for text in sys.argv[2:] if text.isdigit()]
    for network in [text for text in sys.argv[2:] if not text.isdigit()] or NETWORKS:
        wanted = [folder / f"{network}_b{batch}.onnx" for batch in batches]
        weights = [folder / f"{network}.safetensors", folder / f"{network}.pt"]
        if all(path.exists() for path in wanted + weights):
            continue
        model = random_model(network)
        write_whole(weights[0], lambda path: write_safetensors(path, weight_arrays(model)))
        write_whole(weights[1], lambda path: torch.save(model.state_dict(), path))
        for batch, path in zip(batches, wanted):
            image = torch.randn(batch, 3, crop_of(network), crop_of(network))
            write_whole(path, lambda path: torch.onnx.export(model, image, str(path), opset_version=13))


if __name__ == "__main__":
    main()
