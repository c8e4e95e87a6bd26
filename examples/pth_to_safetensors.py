#!/usr/bin/env python3
"""Weights out of a PyTorch file (.pth, .pt, .ckpt) as safetensors.

    python3 pth_to_safetensors.py IN.pth OUT.safetensors [--key state_dict] [--prefix model.]

Takes a state_dict, a checkpoint that has one among other things (averaged weights first, as "model_ema"), a module that
was pickled whole, and a TorchScript archive. A pickle is a program; of what it asks for, only tensors and dictionaries
are made here, and everything else is an empty object. Needs Python's standard library only.
"""

import argparse
import collections
import json
import math
import pickle
import struct
import sys
import zipfile

# Where checkpoints keep weights; the first that is there is taken.
KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict", "model_state",
        "model", "net", "network", "weights", "params")
COUNTS = ("num_batches_tracked", "n_averaged")

# PyTorch's types as safetensors calls them, and their bytes.
DTYPES = {"Float": ("F32", 4), "Half": ("F16", 2), "BFloat16": ("BF16", 2), "Double": ("F64", 8), "Long": ("I64", 8),
          "Int": ("I32", 4), "Short": ("I16", 2), "Char": ("I8", 1), "Byte": ("U8", 1), "Bool": ("BOOL", 1)}
MAGIC = 0x1950A86A20F9469CFC6C


class Storage:
    def __init__(self, dtype, data=b""):
        self.dtype, self.data = dtype, data


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.storage, self.offset, self.shape, self.strides = storage, offset, tuple(shape), tuple(strides)

    def bytes(self):
        width = self.storage.dtype[1]
        contiguous = tuple(math.prod(self.shape[i + 1:]) for i in range(len(self.shape)))
        count = math.prod(self.shape)
        if all(n == 1 or a == b for n, a, b in zip(self.shape, self.strides, contiguous)):
            data = self.storage.data[self.offset * width:(self.offset + count) * width]
        else:
            places = [self.offset]
            for n, stride in zip(self.shape, self.strides):
                places = [place + i * stride for place in places for i in range(n)]
            data = b"".join(self.storage.data[p * width:(p + 1) * width] for p in places)
        if len(data) != count * width:
            raise ValueError("a tensor is larger than its data")
        return data


class Empty(dict):
    """In place of any other class: takes whatever it is given, and keeps its state."""

    __hash__ = object.__hash__

    def __init__(self, *_, **__):
        super().__init__()
        self.state = {}

    def __setstate__(self, state):
        self.state = state if isinstance(state, dict) else {}

    def append(self, item):
        pass

    def extend(self, items):
        pass


def rebuild_tensor(storage, offset, shape, strides, *_):
    return Tensor(storage, offset, shape, strides)


CLASSES = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    ("torch._tensor", "_rebuild_from_type_v2"): lambda rebuild, kind, arguments, state: rebuild(*arguments),
}


class Unpickler(pickle.Unpickler):
    """`storage_of(key, dtype, elements)` gives the data of tensors."""

    def __init__(self, file, storage_of=None):
        super().__init__(file)
        self.storage_of = storage_of

    def find_class(self, module, name):
        dtype = DTYPES.get(name.removesuffix("Storage")) if module.startswith("torch") else None
        return dtype or CLASSES.get((module, name), Empty)

    def persistent_load(self, identity):
        if identity[0] != "storage":
            return identity[1]  # A class and its source, of a module that was pickled whole.
        _, dtype, key, _, elements = identity[:5]
        if not isinstance(dtype, tuple):
            raise ValueError("a tensor of a type that is not known")
        return self.storage_of(key, dtype, elements)


def load_archive(archive):
    """As torch.save() has written since version 1.6, and torch.jit.save()."""
    pickled = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
    if pickled is None:
        raise ValueError("expected a PyTorch file, found another zip archive")
    folder = pickled.removesuffix("data.pkl")
    storages = {}

    def storage_of(key, dtype, _):
        if key not in storages:
            storages[key] = Storage(dtype, archive.read(f"{folder}data/{key}"))
        return storages[key]

    with archive.open(pickled) as file:
        return Unpickler(file, storage_of).load()


def load_old(file):
    """As before: pickles one after another, and the data behind them."""
    if Unpickler(file).load() != MAGIC:
        raise ValueError("expected a PyTorch file, found another pickle")
    storages = {}

    def storage_of(key, dtype, _):
        return storages.setdefault(key, Storage(dtype))

    for _ in range(2):  # A version, and the machine that wrote it.
        Unpickler(file).load()
    value = Unpickler(file, storage_of).load()
    for key in Unpickler(file).load():
        (elements,) = struct.unpack("<q", file.read(8))
        storages[key].data = file.read(elements * storages[key].dtype[1])
    return value


def load(path):
    with open(path, "rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                return load_archive(archive)
        file.seek(0)
        return load_old(file)


def module_tensors(module, prefix=""):
    """The state_dict of a module; TorchScript's have no _parameters, _buffers and _modules, but all of their items."""
    state = module.state
    groups = [state[name] for name in ("_parameters", "_buffers", "_modules") if isinstance(state.get(name), dict)]
    left_out = state.get("_non_persistent_buffers_set", ())
    tensors = {}
    for group in groups or [state]:
        for name, item in group.items():
            if isinstance(item, Tensor) and name not in left_out:
                tensors[prefix + name] = item
            elif isinstance(item, Empty):
                tensors.update(module_tensors(item, f"{prefix}{name}."))
    return tensors


def tensors_of(value, key):
    """The state_dict in what was loaded, and what it is called there."""
    if isinstance(value, Empty):
        return module_tensors(value), ""
    if not isinstance(value, dict):
        raise ValueError(f"expected a state_dict, found {type(value).__name__}")
    inner = next((k for k in ([key] if key else KEYS) if isinstance(value.get(k), dict)), None)
    if inner is not None:
        return tensors_of(value[inner], None)[0], f" of {inner}"
    if key:
        raise ValueError(f"expected the key {key}, found {', '.join(map(str, value))}")
    return {name: tensor for name, tensor in value.items() if isinstance(tensor, Tensor)}, ""


def safetensors(tensors):
    header, data, end = {}, [], 0
    for name, tensor in sorted(tensors.items()):
        content = tensor.bytes()
        header[name] = {"dtype": tensor.storage.dtype[0], "shape": list(tensor.shape),
                        "data_offsets": [end, end + len(content)]}
        end += len(content)
        data.append(content)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data)


def convert(arguments):
    tensors, where = tensors_of(load(arguments.input), arguments.key)
    tensors = {name[len(arguments.prefix):]: tensor for name, tensor in tensors.items()
               if name.startswith(arguments.prefix) and name.split(".")[-1] not in COUNTS}
    if not tensors:
        raise ValueError("expected tensors, found none")
    content = safetensors(tensors)
    with open(arguments.output, "wb") as file:
        file.write(content)
    print(f"{arguments.output}: {len(tensors)} tensors{where}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="what torch.save() or torch.jit.save() wrote")
    parser.add_argument("output", help="a safetensors file")
    parser.add_argument("--key", help="where the checkpoint has the weights")
    parser.add_argument("--prefix", default="", help="take the tensors whose names begin so, without it")
    arguments = parser.parse_args()
    try:
        convert(arguments)
    except Exception as error:  # Damaged bytes can make any.
        sys.exit(f"{arguments.input}: {(str(error) or type(error).__name__).splitlines()[0]}")


if __name__ == "__main__":
    main()
