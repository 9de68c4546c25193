"""NoduleMNIST3D and AdrenalMNIST3D: files in the official format, found, checked and downloaded."""

from __future__ import annotations

import urllib.error
from pathlib import Path

import numpy as np
import pytest

from monai_diffclf.data import download as download_module
from monai_diffclf.data import find_medmnist3d, load_medmnist3d
from monai_diffclf.data import medmnist3d as module
from tests.data.medmnist3d_files import COUNTS, medmnist3d_arrays, write_medmnist3d


@pytest.mark.parametrize("size", [28, 64])
@pytest.mark.parametrize("name", ["nodulemnist3d", "adrenalmnist3d"])
def test_official_splits(name, size, tmp_path, monkeypatch):
    write_medmnist3d(tmp_path, monkeypatch, name, size)
    arrays, keys = medmnist3d_arrays(size), set()
    for split, official, count in zip(("train", "validation", "test"), ("train", "val", "test"), COUNTS, strict=True):
        items = load_medmnist3d(tmp_path, split, name=name, size=size)
        assert len(items) == count
        np.testing.assert_array_equal([item["image"] for item in items], arrays[f"{official}_images"])
        assert [item["label"] for item in items] == [i % 2 for i in range(count)]
        keys |= {item["key"] for item in items}
    assert len(keys) == sum(COUNTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_labels": np.zeros((7, 1), np.uint8)}, r"uint8 \[8, 28, 28, 28\] with 7 labels"),
        ({"val_images": np.zeros((8, 28, 28), np.uint8)}, r"val_images uint8 \[N, 28, 28, 28\] with N labels, got"),
        ({"val_images": np.zeros((8, 28, 28, 28), np.float32)}, "got float32"),
        ({"val_labels": np.full((8, 1), 2, np.uint8)}, r"expected labels 0 to 1 in val_labels, got \[2\]"),
        (
            {"val_images": np.zeros((9, 28, 28, 28), np.uint8), "val_labels": np.zeros((9, 1), np.uint8)},
            "expected 8 volumes in validation, got 9",
        ),
    ],
)
def test_another_layout_is_refused(changes, message, tmp_path, monkeypatch):
    write_medmnist3d(tmp_path, monkeypatch, "nodulemnist3d", **changes)
    with pytest.raises(ValueError, match=message):
        load_medmnist3d(tmp_path, "validation", name="nodulemnist3d")


def test_another_file_is_refused_by_its_checksum(tmp_path, monkeypatch):
    path = write_medmnist3d(tmp_path, monkeypatch, "nodulemnist3d")
    assert find_medmnist3d(path, "nodulemnist3d") == path
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ValueError, match=r"nodulemnist3d\.npz: has MD5 \w{32}, expected \w{32} of nodulemnist3d of 28"):
        find_medmnist3d(tmp_path, "nodulemnist3d")


def test_absent_without_download(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"adrenalmnist3d_64\.npz, which does not exist; download https://zenodo"
    ):
        load_medmnist3d(tmp_path, "train", name="adrenalmnist3d", size=64)
    with pytest.raises(FileNotFoundError, match="expected a folder to download nodulemnist3d into, but .*nowhere"):
        load_medmnist3d(tmp_path / "nowhere", "train", name="nodulemnist3d", download=True)


def test_no_network_is_one_clear_line(tmp_path, monkeypatch):
    def refuse(*_args, **_settings):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(download_module.urllib.request, "urlopen", refuse)
    with pytest.raises(
        RuntimeError, match=r"nodulemnist3d: the download failed \(.*no route.*\); download https://zenodo"
    ):
        load_medmnist3d(tmp_path, "train", name="nodulemnist3d", download=True, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_download(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    path = write_medmnist3d(source, monkeypatch, "nodulemnist3d")
    monkeypatch.setattr(module, "_ADDRESS", source.as_uri() + "/{}")
    target = tmp_path / "target"
    target.mkdir()
    found = find_medmnist3d(target, "nodulemnist3d", download=True, progress=False)
    assert found.read_bytes() == path.read_bytes()
    found.unlink()
    path.write_bytes(b"something else")
    with pytest.raises(RuntimeError, match="nodulemnist3d: the download from file://.* has MD5"):
        find_medmnist3d(target, "nodulemnist3d", download=True, progress=False)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "organmnist3d"}, "name: expected one of nodulemnist3d, adrenalmnist3d, got 'organmnist3d'"),
        ({"name": "nodulemnist3d", "size": 32}, "size: expected 28 or 64 voxels a side, got 32"),
        ({"name": "nodulemnist3d", "split": "val"}, "split: expected one of train, validation, test, got 'val'"),
    ],
)
def test_bad_arguments_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        load_medmnist3d(Path(), **{"split": "train"} | settings)
