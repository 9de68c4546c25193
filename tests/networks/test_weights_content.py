"""What is no file of weights is refused in one line that says what it is, and no code in it runs."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_diffclf.networks import load_weights
from monai_diffclf.networks.weights_content import read_tensors, read_torch_file


class Evil:
    """A pickle of it would run a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def saved(path: Path, content: object, **options) -> bytes:
    torch.save(content, path, **options)
    data = path.read_bytes()
    path.unlink()
    return data


def zipped(path: Path, **files: str) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    data = path.read_bytes()
    path.unlink()
    return data


def program(path: Path) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1, 1)), path)
    return path.read_bytes()


def picture(path: Path) -> bytes:
    Image.new("L", (8, 8)).save(path, format="PNG")
    return path.read_bytes()


def numbers(path: Path) -> bytes:
    np.savez(path.with_suffix(".npz"), x=np.zeros(3))
    return path.with_suffix(".npz").read_bytes()


STATE = torch.nn.Linear(3, 2).state_dict()
FILES = {
    "empty": (lambda p: b"", "is empty"),
    "text": (lambda p: b"some words\n", "is a text file"),
    "latin": (lambda p: "süß\n".encode("latin-1"), "is of an unknown kind or damaged"),
    "json": (lambda p: json.dumps({"a": 1}).encode(), "is a text file"),
    "lfs": (
        lambda p: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "is a Git LFS pointer, .* run 'git lfs pull'",
    ),
    "html": (lambda p: b"\n<!DOCTYPE html><html><body>404</body></html>", "is a web page"),
    "pickle": (lambda p: pickle.dumps({"a": 1}), "is a pickle that holds more than weights or is cut"),
    "evil pickle": (lambda p: pickle.dumps(Evil(p.with_name("ran"))), "was not opened"),
    "evil torch": (lambda p: saved(p, {"a": Evil(p.with_name("ran"))}), "was not opened"),
    "whole network": (lambda p: saved(p, torch.nn.Linear(1, 1)), r"save the network's state_dict\(\)"),
    "cut": (lambda p: saved(p, STATE)[:700], "is a cut or damaged zip file"),
    "cut late": (lambda p: saved(p, STATE)[:-30], "is a cut or damaged zip file"),
    "cut legacy": (lambda p: saved(p, STATE, _use_new_zipfile_serialization=False)[:300], "or is cut"),
    "zip": (lambda p: zipped(p, **{"a.txt": "words"}), "is a zip file of something else, such as 'a.txt'"),
    "npz": (numbers, "is a zip file of something else, such as 'x.npy'"),
    "npy": (lambda p: b"\x93NUMPY" + bytes(100), "is a NumPy array"),
    "program": (program, "is a TorchScript program"),
    "gzip": (lambda p: gzip.compress(b"x" * 100), "is a gzip file"),
    "picture": (picture, "is a picture"),
    "hdf5": (lambda p: b"\x89HDF\r\n\x1a\n" + bytes(64), "is an HDF5 file"),
    "zeros": (lambda p: bytes(5000), "is nothing but zeros"),
    "noise": (lambda p: b"\xff\xfe\x00\xd8" * 50, "is of an unknown kind"),
    "list": (lambda p: saved(p, [torch.zeros(1)]), "expected a state dict, names with tensors, got list"),
    "tensor": (lambda p: saved(p, torch.zeros(3)), "expected a state dict, names with tensors, got Tensor"),
    "nothing": (lambda p: saved(p, {}), "expected a state dict, names with tensors, got nothing"),
    "numbers": (lambda p: saved(p, {"a": 1}), "got 'a' with int"),
    "checkpoint": (
        lambda p: saved(p, {"network": STATE, "optimizer": {"state": {}}, "trainer": {"iteration": 3}}),
        r"is a whole training checkpoint \(trainer, optimizer, network\); take the model.pt",
    ),
    "lightning": (lambda p: saved(p, {"state_dict": STATE, "epoch": 3}), "is a whole training checkpoint"),
    "all zero": (
        lambda p: saved(p, {"w": torch.zeros(20, 20), "n": torch.ones(3, dtype=torch.int64)}),
        "but zeros; copy",
    ),
    "nan": (lambda p: saved(p, {"w": torch.tensor([1.0, float("nan")])}), "expected finite weights .* infinity in w"),
}


@pytest.mark.parametrize("kind", FILES)
def test_is_refused_in_one_line(kind, tmp_path):
    make, message = FILES[kind]
    path = tmp_path / "model.pt"
    path.write_bytes(make(path))
    with pytest.raises(ValueError, match=message) as caught:
        load_weights(torch.nn.Linear(3, 2), path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    assert "weights_only" not in text and caught.value.__suppress_context__ | (caught.value.__context__ is None)
    assert not (tmp_path / "ran").exists()


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"but .*model.pt does not exist; train first, or name another"):
        read_tensors(tmp_path / "model.pt")
    (tmp_path / "models").mkdir()
    torch.save(STATE, tmp_path / "models" / "model.pt")
    with pytest.raises(ValueError, match=r"is a folder; name the file in it, .*models/model.pt"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("zipped_format", [True, False])
def test_weights_are_read(tmp_path, zipped_format):
    torch.save(STATE, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped_format)
    found = read_tensors(tmp_path / "model.pt")
    assert all(torch.equal(found[name], value) for name, value in STATE.items())
    assert read_torch_file(tmp_path / "model.pt").keys() == STATE.keys()


def safetensors_of(tensors: dict[str, torch.Tensor]) -> bytes:
    """A safetensors file, from its specification."""
    header, data = {}, b""
    for name, value in tensors.items():
        content = value.numpy().tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(value.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_safetensors(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_of(STATE))
    loaded = load_weights(torch.nn.Linear(3, 2), path)
    assert torch.equal(loaded.weight, STATE["weight"])
    path.write_bytes(safetensors_of(STATE)[:-4])
    with pytest.raises(ValueError, match="is a safetensors file that is cut or damaged"):
        read_tensors(path)


def test_safetensors_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_diffclf.networks.weights_content.util.find_spec", lambda name: None)
    (tmp_path / "model.pt").write_bytes(safetensors_of(STATE))
    with pytest.raises(ValueError, match="model.pt is a safetensors file; install the package safetensors"):
        read_tensors(tmp_path / "model.pt")
