#!/usr/bin/env python3
"""Tuned numbers by model, <folder>/<target>/<model>.json, become those by kernel: <folder>/<target>.json.

    python3 schedules/convert_tuned.py --compile build/x86/bin/shufflenet_compile FOLDER [--remove]

A model's kernels were called after their place in it; now each has a key, which equal kernels of all models share. The
keys come from shufflenet_compile --list-kernels. --remove: removes the files by model. Needs Python's standard library
only.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys


def old_name(call):
    """What a kernel was called that is now used by the call of this id; None: it had none."""
    unit = re.fullmatch(r"(stage\d+)_unit(\d+)_(branch[12])", call)
    if unit is None:
        return call if call in ("stem", "conv5_pool", "fc") else None
    stage, number, branch = unit.groups()
    return f"{stage}_down_{branch}" if number == "0" else f"{stage}_basic"


def keys_by_old_name(program, network, size):
    """{"stage2_basic": ["unit_28x28_…", …]}"""
    lines = subprocess.run([program, "--list-kernels", "--network", network, "--input", ",".join(map(str, size))],
                           stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    keys = {}
    for line in lines:
        key, *calls = line.split()
        for name in {old_name(call) for call in calls} - {None}:
            keys.setdefault(name, []).append(key)
    return keys


def add_model(program, path, merged):
    """Adds a file by model to {"kernels": …, …} of its target."""
    old = json.loads(path.read_text())
    if "batches" in old:
        sys.exit(f"{path}: batches: numbers of a device have no key")
    keys = keys_by_old_name(program, old["network"], old["input"])
    merged.setdefault("target", old["target"])
    if merged.setdefault("machine", old["machine"]) != old["machine"]:
        sys.exit(f"{path}: machine: expected that of the target's other files, {merged['machine']}, found {old['machine']}")
    for name in sorted(set(old["kernels"]) | set(old["microseconds"])):
        if name not in keys:
            sys.exit(f"{path}: {name}: no kernel of {old['network']} is what this was")
        for key in keys[name]:
            if key in merged["microseconds"]:
                continue  # The same kernel in another model: one search is as good as the other.
            if name in old["kernels"]:
                merged["kernels"][key] = old["kernels"][name]
            if name in old["microseconds"]:
                merged["microseconds"][key] = old["microseconds"][name]


def text_of(merged):
    """One kernel a line, so that changes are easy to read."""
    def rows(values):
        return ",\n".join(f"    {json.dumps(key)}: {json.dumps(values[key], sort_keys=True)}" for key in sorted(values))
    return (f'{{\n  "target": {json.dumps(merged["target"])},\n  "kernels": {{\n{rows(merged["kernels"])}\n  }},\n'
            f'  "machine": {json.dumps(merged["machine"])},\n  "microseconds": {{\n{rows(merged["microseconds"])}\n  }}\n}}\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile", required=True, help="path of shufflenet_compile")
    parser.add_argument("--remove", action="store_true", help="remove the files by model")
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args()
    for target in sorted(path for path in arguments.folder.iterdir() if path.is_dir()):
        merged = {"kernels": {}, "microseconds": {}}
        for path in sorted(target.glob("*.json")):
            add_model(arguments.compile, path, merged)
        (arguments.folder / f"{target.name}.json").write_text(text_of(merged))
        if arguments.remove:
            shutil.rmtree(target)


if __name__ == "__main__":
    main()
