#!/usr/bin/env python3
"""Writes seeds/: for each fuzzer, small good files that between them use every feature of the format.

    python3 tests/fuzz/make_seeds.py

Inputs that once failed lie there too, under other names; this script leaves them alone. Needs Pillow and NumPy.
"""

import io
import json
import pathlib
import struct
import sys

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
SEEDS = HERE / "seeds"
sys.path.insert(0, str(HERE.parent))
import onnx_test  # noqa: E402
from random_weights import random_state_dict  # noqa: E402


def write(fuzzer, name, content):
    folder = SEEDS / fuzzer
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def safetensors(header, data=b""):
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def weights():
    tensor = lambda dtype, shape, begin, end: {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    write("safetensors", "empty", safetensors({}))
    write("safetensors", "two", safetensors({"__metadata__": {"format": "pt"}, "a": tensor("F32", [2, 1], 0, 8),
                                             "b": tensor("F16", [], 8, 10), "c": tensor("I64", [0, 3], 10, 10)},
                                            bytes(10)))
    write("safetensors", "prefix", safetensors({"module.a": tensor("BF16", [2], 0, 4),
                                                "n_averaged": tensor("I64", [], 12, 20),
                                                "module.b": tensor("F64", [1], 4, 12)}, bytes(20)))
    write("safetensors", "escaped", safetensors({"\u00e9\n\"": tensor("BOOL", [1], 0, 1)}, b"\1"))
    write("checkpoint", "unharmed", b"")
    write("checkpoint", "length", struct.pack("<IB", 0, 8) + struct.pack("<Q", 9))
    write("checkpoint", "header", struct.pack("<IB", 20, 3) + b"F16")
    # Values lie behind the header: not a number, infinite, too large once folded, a negative variance.
    for name, value in (("nan", np.nan), ("infinite", np.inf), ("large", 3e38), ("negative", -1)):
        pieces = (struct.pack("<IBf", place, 4, value) for place in range(14000, 14600, 4))
        write("checkpoint", name, b"".join(pieces)[:600])


def arrays():
    for name, values in (("matrix", np.ones((2, 3), "<f4")), ("scalar", np.float32(1)), ("empty", np.ones((0, 2), "<f4")),
                         ("image", np.zeros((1, 3, 2, 2), "<f4")), ("double", np.ones(2)),
                         ("fortran", np.asfortranarray(np.ones((2, 3), "<f4"))), ("big", np.ones(2, ">f4"))):
        file = io.BytesIO()
        np.save(file, values)
        write("npy", name, file.getvalue())
    for version in (2, 3):
        file = io.BytesIO()
        np.lib.format.write_array(file, np.ones((2,), "<f4"), (version, 0))
        write("npy", f"version{version}", file.getvalue())


def tiny_state_dict():
    """test_tiny of networks/network.h, with three classes."""
    units, stem, stages, conv5 = (1, 1, 2), 1, (2, 2, 6), 3
    shapes = {}

    def conv(name, index, out, inputs, kernel):
        shapes[f"{name}.{index}.weight"] = (out, inputs, kernel, kernel)
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{index + 1}.{key}"] = (out,)

    conv("conv1", 0, stem, 3, 3)
    before = stem
    for stage, (count, channels) in enumerate(zip(units, stages), start=2):
        half = channels // 2
        for unit in range(count):
            name, inputs = f"stage{stage}.{unit}", before if unit == 0 else half
            if unit == 0:
                conv(name + ".branch1", 0, inputs, 1, 3)
                conv(name + ".branch1", 2, half, inputs, 1)
            conv(name + ".branch2", 0, half, inputs, 1)
            conv(name + ".branch2", 3, half, 1, 3)
            conv(name + ".branch2", 5, half, half, 1)
        before = channels
    conv("conv5", 0, conv5, before, 1)
    shapes.update({"fc.weight": (3, conv5), "fc.bias": (3,)})
    return random_state_dict(shapes, 1), units, (stem, *stages, conv5)


def graphs():
    state, onnx_test.UNITS, channels = tiny_state_dict()
    onnx_test.SIZE = 32
    size = (32, 32)
    styles = {
        "plain": onnx_test.Style(size=size),
        "folded": onnx_test.Style(size=size, folded=True, split="slice", shuffle="gather", pool="global_flatten",
                                  linear="matmul", opset=9),
        "computed": onnx_test.Style(size=size, split="computed", shuffle="computed", constants="node", batch="N",
                                    pool="average_squeeze", linear="matmul_transpose", in_fields=True),
        "half": onnx_test.Style(size=size, dtype="float16", cast=True, split="gather", shuffle="flat", opset=18,
                                pool="global_reshape", linear="gemm_plain"),
    }
    for name, style in styles.items():
        write("onnx", name, onnx_test.Writer(state, style, channels).finish().bytes())


def texts():
    write("labels", "lf", "cat\ndog\n\n")
    write("labels", "crlf", b"\xef\xbb\xbfcat\r\n\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x88\r\n")
    write("labels", "bad", b"cat\n\xed\xa0\x80\n\x1b[0m\n")
    good = {"network": "shufflenet_v2_x0_5", "input": [64, 32], "resize": 72, "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225]}
    write("metadata", "plain", json.dumps(good))
    write("metadata", "labels", json.dumps({**good, "labels": ["cat", "\u00e9\n"], "author": {"name": [None, True]}}))
    write("metadata", "limits", json.dumps({**good, "resize": 4096, "mean": [0, 1, 0.5], "std": [1e-6, 1, 0.5]}))
    write("metadata", "bytes", json.dumps({**good, "mean": [123.675, 116.28, 103.53]}))
    write("metadata", "marked", "\ufeff" + json.dumps(good, indent=1).replace("\n", "\r\n"))
    numbers = {"tile_pixels": 7, "tile_vectors": 4, "tail_pixels": 8, "order": 2, "block_rows": 1, "strip_rows": 2,
               "depthwise_columns": 4}
    write("tuning", "full", json.dumps({"input": [64, 64], "kernels": {"stage2_basic": numbers, "fc": {}}}))
    write("tuning", "none", json.dumps({"kernels": {}}))
    write("tuning", "control", json.dumps({"kernels": {"stage2_basic": {"\x7f": 1}}}, ensure_ascii=False))
    write("tuning", "wrong", json.dumps({"kernels": {"stage2_basic": {"order": "\ud800"}}}))


def picture(mode, size=(9, 5)):
    levels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 4), np.uint8)
    rgba = Image.fromarray(levels, "RGBA")
    return rgba.convert("RGB").convert(mode) if mode not in ("RGBA", "LA") else rgba.convert(mode)


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def exif(orientation, order, entries=2):
    """order: ">" big-endian, "<" little-endian."""
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, entries)
    return head + struct.pack(order + "HHIHHHHIHH", 0x0103, 3, 1, 6, 0, 0x0112, 3, 1, orientation, 0)


def jpegs():
    for mode in ("L", "RGB", "CMYK"):
        write("jpeg", mode.lower(), saved(picture(mode), "JPEG", quality=30))
    write("jpeg", "progressive", saved(picture("RGB", (17, 17)), "JPEG", quality=20, progressive=True))
    write("jpeg", "sampled444", saved(picture("RGB"), "JPEG", quality=20, subsampling=0))
    whole = saved(picture("RGB"), "JPEG", quality=30)
    write("jpeg", "cut", whole[: len(whole) - 20])
    for name, data in (("turned", exif(6, "<")), ("mirrored", exif(7, ">")), ("broken_exif", exif(9, "<", 65535)[:-3])):
        write("jpeg", name, saved(picture("RGB"), "JPEG", quality=30, exif=b"Exif\0\0" + data))


def pngs():
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = picture("L").convert("I").convert("I;16") if mode == "I;16" else picture(mode)
        write("png", mode.lower().replace(";", "_"), saved(image, "PNG"))
    for bits in (1, 2, 4):
        write("png", f"palette{bits}", saved(picture("RGB").quantize(1 << bits), "PNG", bits=bits))
    whole = saved(picture("RGB"), "PNG")
    write("png", "cut", whole[: len(whole) - 20])
    write("png", "turned", saved(picture("RGB"), "PNG", exif=exif(8, ">")))


def bmp(width, height, bits, data, compression=0, palette=b"", masks=b"", header=40):
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, len(palette) // 4, 0)
    start = 14 + len(info) + len(masks) + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + info + masks + palette + data


def bmps():
    for bits in (1, 4, 8):
        row = (3 * bits + 31) // 32 * 4
        write("bmp", f"palette{bits}", bmp(3, 2, bits, bytes(range(2 * row)), palette=bytes(range(8))))
    write("bmp", "core", bmp(3, 2, 8, bytes(8), palette=bytes(range(240)) * 4, header=12)[:200])
    write("bmp", "rgb555", bmp(3, 2, 16, bytes(range(16))))
    write("bmp", "rgb565", bmp(3, 2, 16, bytes(range(16)), 3, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F)))
    write("bmp", "rgb", bmp(3, 2, 24, bytes(range(24))))
    write("bmp", "top_down", bmp(3, -2, 32, bytes(range(24))))
    write("bmp", "masks", bmp(3, 2, 32, bytes(range(24)), 3, masks=struct.pack("<III", 0xFF, 0xFF00, 0xFF0000)))
    write("bmp", "run_lengths", bmp(3, 2, 8, bytes(8), 1, palette=bytes(8)))


def pnms():
    write("pnm", "grey", b"P5 3 2 255\n" + bytes(range(6)))
    write("pnm", "rgb", b"P6\n# a comment\n3 2\n255\n" + bytes(range(18)))
    write("pnm", "wide", b"P6 2 1 65535\n" + bytes(range(12)))
    write("pnm", "low", b"P5 3 2 7\n" + bytes(range(6)))
    write("pnm", "plain", b"P3 1 1 255\n1 2 3\n")


def transforms():
    write("transform", "any", bytes(range(64)))
    write("transform", "other", bytes(range(255, 0, -3)) * 20)


if __name__ == "__main__":
    for make in (weights, arrays, graphs, texts, jpegs, pngs, bmps, pnms, transforms):
        make()
