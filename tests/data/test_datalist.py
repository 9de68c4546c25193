"""load_datalist recognises what it is given."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.data import load_datalist
from monai_diffclf.data import pneumonia_mnist as module

CLASSES = ["normal", "pneumonia"]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "mine"
    for split in ("train", "test"):
        for n, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            Image.fromarray(np.full((2, 2), n, dtype=np.uint8)).save(root / split / name / "a.png")
    return root


def test_folder_and_table(folder):
    items = load_datalist(folder, "train", classes=CLASSES)
    assert [item["key"] for item in items] == ["train/normal/a.png", "train/pneumonia/a.png"]
    table = folder / "t.csv"
    table.write_text("file,label,split\ntest/normal/a.png,pneumonia,train\n")
    items = load_datalist(table, "train", classes=CLASSES, image_column="file")
    assert [(item["key"], item["label"]) for item in items] == [("test/normal/a.png", 1)]
    table.write_text("image,label,split\na.png,1,train\n")
    items = load_datalist(table, "train", classes=CLASSES, root=folder / "test" / "normal")
    assert items[0]["image"] == str(folder / "test" / "normal" / "a.png")
    with pytest.raises(ValueError, match=r"root: only a CSV table has one, but source .* is a folder"):
        load_datalist(folder, "train", classes=CLASSES, root=folder)


def test_pneumonia_mnist(dataset):
    root = dataset("pneumoniamnist_28")
    for source in (root, root / "pneumoniamnist.npz"):
        assert len(load_datalist(source, "test", classes=["Normal", "Pneumonia"])) == 624
    with pytest.raises(ValueError, match=r"classes: expected \['normal', 'pneumonia'\] .* in this order, got \['pneu"):
        load_datalist(root, "test", classes=["pneumonia", "normal"])
    with pytest.raises(ValueError, match="patients: split 'train' is made by patient"):
        load_datalist(root, "train", classes=CLASSES)


def test_nothing_there(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("text")
    for name, message in (
        ("none", "none does not exist; expected a folder with pneumoniamnist.npz"),
        ("none.csv", r"none\.csv does not exist"),
        ("none.npz", r"none\.npz does not exist"),
        ("empty", "empty is an empty folder; expected"),
        (
            "a.txt",
            r"a\.txt is a file of an unknown kind; expected .* a CSV table with the columns image, label and split",
        ),
    ):
        with pytest.raises(ValueError, match=f"source: .*{message}"):
            load_datalist(tmp_path / name, "train", classes=CLASSES)


def test_download_only_when_asked_and_nothing_is_there(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(module, "URL", (tmp_path / "nowhere").as_uri())
    for name in ("new", "new/pneumoniamnist.npz"):
        with pytest.raises(RuntimeError, match="PneumoniaMNIST: the download failed"):
            load_datalist(tmp_path / name, "test", classes=CLASSES, download="pneumoniamnist")
    assert load_datalist(folder, "test", classes=CLASSES, download="pneumoniamnist")
    with pytest.raises(ValueError, match=r"none\.csv does not exist"):
        load_datalist(tmp_path / "none.csv", "test", classes=CLASSES, download="pneumoniamnist")
    with pytest.raises(ValueError, match="download: expected None or 'pneumoniamnist', got 'mnist'"):
        load_datalist(tmp_path / "new", "test", classes=CLASSES, download="mnist")
