#!/usr/bin/env python3
"""examples/pth_to_safetensors.py, which the error about a .pth file names, on what PyTorch and its users write.

    /usr/bin/python3 tests/pth_test.py --shufflenet build/x86/bin/shufflenet [unittest arguments]

Needs PyTorch and torchvision to make the files; without them only damaged ones are tried.
"""

import argparse
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import unittest
import warnings
import zipfile

from commands import run

try:
    import torch
    import torchvision
except ImportError:
    torch = None

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARGUMENTS = argparse.Namespace(shared="")


class Surprise:
    """A pickle of it makes a file where it is executed."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class PthTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="shufflenet-pth-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def advice(self, path):
        """The command that the error about a PyTorch file names."""
        text = run(ARGUMENTS.shufflenet, "convert", path, self.folder / "no", status=1)
        self.assertIn("a PyTorch file, whose pickle is not executed here: python3 ", text)
        return text.split("executed here: ")[1].split()

    def follow_advice(self, path, *options):
        words = {"python3": sys.executable, "IN.pth": path, "OUT.safetensors": self.folder / "out.safetensors"}
        run(*[words.get(word, word) for word in self.advice(path)], *options, cwd=ROOT)
        return self.folder / "out.safetensors"

    def converted(self, path, *options):
        """What it holds, as this project writes it."""
        run(ARGUMENTS.shufflenet, "convert", "--f32", self.follow_advice(path, *options), self.folder / "canonical")
        return (self.folder / "canonical").read_bytes()

    def fails(self, path, *words):
        text = run(sys.executable, ROOT / "examples/pth_to_safetensors.py", path, self.folder / "bad", status=1)
        self.assertEqual(text.count("\n"), 1, text)
        for word in (str(path), *words):
            self.assertIn(word, text)
        self.assertFalse((self.folder / "bad").exists())

    @unittest.skipIf(torch is None, "python3-torch and python3-torchvision are not installed")
    def test_what_people_have(self):
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        model = torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=3).eval()
        other = torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=3).state_dict()
        for tensor in model.state_dict().values():  # Exact in every type.
            tensor.copy_(tensor.to(torch.bfloat16).to(tensor.dtype))
        state = model.state_dict()
        averaged = torch.optim.swa_utils.AveragedModel(model)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9).state_dict()
        behind = lambda prefix, tensors: {prefix + name: tensor for name, tensor in tensors.items()}
        turned = {name: tensor.transpose(0, -1).contiguous().transpose(0, -1) for name, tensor in state.items()}
        files = {
            "state_dict": (state, []),
            "epoch": ({"epoch": 3, "best": 0.7, "state_dict": state, "optimizer": optimizer}, []),
            "model": ({"model": state, "args": argparse.Namespace(rate=0.1)}, []),
            "model_state_dict": ({"model_state_dict": state}, []),
            "averaged": ({"model": other, "model_ema": averaged.state_dict()}, []),
            "timm": ({"state_dict": other, "state_dict_ema": state}, []),
            "not averaged": ({"state_dict": state, "state_dict_ema": other}, ["--key", "state_dict"]),
            "parallel": (torch.nn.DataParallel(model).state_dict(), []),
            "lightning": ({"state_dict": behind("model.", state), "hyper_parameters": {}}, []),
            "pair": ({**behind("model.", other), **behind("model_ema.", state)}, ["--prefix", "model_ema."]),
            "whole": (model, []),
            "whole in a checkpoint": ({"epoch": 3, "model": model}, []),
            "not contiguous": (turned, []),
            "parameters": (dict(model.named_parameters(), **dict(model.named_buffers())), []),
            "double": ({name: tensor.double() for name, tensor in state.items()}, []),
            "bfloat16": ({name: tensor.bfloat16() for name, tensor in state.items()}, []),
        }
        path = self.folder / "in.pth"
        torch.save(state, path)
        expected = self.converted(path)
        for name, (value, options) in files.items():
            for old in (False, True):
                with self.subTest(name, old=old):
                    torch.save(value, path, _use_new_zipfile_serialization=not old)
                    self.assertEqual(self.converted(path, *options), expected)
        for name, archive in (("script", torch.jit.script(model)),
                              ("trace", torch.jit.trace(model, torch.zeros(1, 3, 64, 64)))):
            with self.subTest(name):
                archive.save(str(path))
                self.assertEqual(self.converted(path), expected)

    def test_a_published_file(self):
        path = pathlib.Path(ARGUMENTS.shared, "../models/person_x0_5/shufflenet_v2_x0_5.pth")
        if not ARGUMENTS.shared or not path.exists():
            self.skipTest(f"no {path}")
        text = run(ARGUMENTS.shufflenet, "convert", self.follow_advice(path), self.folder / "canonical")
        self.assertIn("shufflenet_v2_x0_5, 2 classes, 282 tensors", text)

    def archive(self, value):
        path = self.folder / "in.pth"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", value if isinstance(value, bytes) else pickle.dumps(value, 2))
        return path

    def test_nothing_is_executed(self):
        trap = self.folder / "trap"
        self.fails(self.archive({"state_dict": {}, "x": Surprise(trap)}), "found none")
        old = self.folder / "old.pth"
        old.write_bytes(b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}, Surprise(trap))))
        self.fails(old)
        self.assertFalse(trap.exists())

    def test_other_files(self):
        other = self.folder / "in.pth"
        with zipfile.ZipFile(other, "w") as file:
            file.writestr("photo.jpg", b"")
        self.fails(other, "another zip archive")
        for content, word in ((pickle.dumps({"a": 1}), "another pickle"), (b"", ""), (b"text", "")):
            other.write_bytes(content)
            self.fails(other, word)
        self.fails(self.archive(b"\x80\x02}"), "")
        self.fails(self.archive([1, 2]), "expected a state_dict, found list")
        self.fails(self.folder / "absent.pth", "No such file")

    def test_damage(self):
        whole = self.archive({"state_dict": {}}).read_bytes()
        damaged = self.folder / "damaged.pth"
        for i in range(0, len(whole), 7):
            damaged.write_bytes(whole[:i] + bytes([whole[i] ^ 255]) + whole[i + 1:])
            result = subprocess.run([sys.executable, ROOT / "examples/pth_to_safetensors.py", damaged, self.folder / "bad"],
                                    stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, timeout=600)
            self.assertEqual((result.returncode, result.stderr.count(b"\n")), (1, 1), result.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shufflenet", required=True, help="the program")
    parser.add_argument("--shared", default="", help="the folder data/ beside which lies models/")
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    ARGUMENTS.shufflenet = os.path.abspath(ARGUMENTS.shufflenet)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
