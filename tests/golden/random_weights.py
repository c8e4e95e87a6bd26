"""Random networks and inputs in numpy, the same bits as reference/random_weights.h makes, which says how."""

import numpy as np


def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


class Stream:
    """The random numbers of one tensor, as `Stream` in random_weights.h."""

    def __init__(self, seed, name, elements):
        start = mix(np.array([(seed + fnv1a(name)) % 2**64], np.uint64))
        steps = np.arange(1, elements + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self.bits = mix(start + steps)

    def uniform(self):
        return (self.bits >> np.uint64(48)).astype(np.float64) / 65536

    def normal(self, variance):
        parts = [(self.bits >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32, 48)]
        total = sum(parts).astype(np.int64) - 2 * 0xFFFF
        return total.astype(np.float64) * (np.sqrt(3 * variance) / 65536)


def row_scale(seed, norm, rows):
    exponents = (Stream(seed, norm + ".running_var", rows).bits & np.uint64(7)).astype(np.int64)
    return np.ldexp(1.0, -exponents)


def row_variance(seed, norm, rows):
    scale = row_scale(seed, norm, rows)
    return (0.5 + Stream(seed, norm + ".running_var", rows).uniform()) * scale * scale


def norm_tensor(seed, norm, field, rows):
    uniform = Stream(seed, f"{norm}.{field}", rows).uniform()
    if field == "weight":
        return 0.75 + uniform / 2
    if field == "bias":
        return uniform - 0.5
    if field == "running_mean":
        return (uniform - 0.5) * row_scale(seed, norm, rows)
    assert field == "running_var"
    return row_variance(seed, norm, rows)


def after_relu(name):
    """No ReLU before the stem and between a depthwise convolution and the pointwise one after it."""
    return not (name.startswith("conv1.") or name.endswith(("branch1.2.weight", "branch2.5.weight")))


def convolution(seed, name, norm, shape, relu):
    rows, fan_in = shape[0], int(np.prod(shape[1:]))
    variance = (2.0 if relu else 1.0) * row_variance(seed, norm, rows) / fan_in
    return Stream(seed, name, rows * fan_in).normal(np.repeat(variance, fan_in)).reshape(shape)


def random_state_dict(shapes, seed, after_relu=after_relu, last="fc"):
    """`shapes`: what model.state_dict() lists, name to shape. `after_relu`: whether a convolution's input went through
    ReLU. `last`: the fully connected layer."""
    norms = [name.removesuffix(".running_var") for name in shapes if name.endswith(".running_var")]
    values = {}
    for norm in norms:
        path, index = norm.rsplit(".", 1)
        weight = f"{path}.{int(index) - 1}.weight"
        values[weight] = convolution(seed, weight, norm, shapes[weight], after_relu(weight))
        for field in ("weight", "bias", "running_mean", "running_var"):
            values[f"{norm}.{field}"] = norm_tensor(seed, norm, field, *shapes[f"{norm}.{field}"])
        values[f"{norm}.num_batches_tracked"] = np.array(1000)
    classes, features = shapes[f"{last}.weight"]
    random = Stream(seed, f"{last}.weight", classes * features)
    values[f"{last}.weight"] = random.normal(2.0 / features).reshape(classes, -1)
    values[f"{last}.bias"] = Stream(seed, f"{last}.bias", classes).uniform() - 0.5
    return {name: values[name].astype(np.float32) for name in shapes}


def random_input(seed, height, width):
    """One image, (1, 3, height, width)."""
    return Stream(seed, "input", 3 * height * width).normal(1.0).astype(np.float32).reshape(1, 3, height, width)
