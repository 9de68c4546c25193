"""load_datalist recognises what it is given."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.data import cbis_ddsm, inbreast, load_datalist, vindr_mammo
from monai_diffclf.data import pneumonia_mnist as module
from tests.data import mammography_trees as trees

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
    table.write_text("image,label_index,split\na.png,1,train\n")
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
    (tmp_path / "new").mkdir()
    for name in ("new", "new/pneumoniamnist.npz"):
        with pytest.raises(RuntimeError, match="PneumoniaMNIST: the download failed"):
            load_datalist(tmp_path / name, "test", classes=CLASSES, download="pneumoniamnist")
    for name in ("mistyped", "mistyped/pneumoniamnist.npz"):
        with pytest.raises(
            ValueError, match=r"mistyped.* does not exist, and nothing is downloaded into a folder that"
        ):
            load_datalist(tmp_path / name, "test", classes=CLASSES, download="pneumoniamnist")
        with pytest.raises(ValueError, match=r"mistyped.* does not exist; .*; --download pneumoniamnist fetches"):
            load_datalist(tmp_path / name, "test", classes=CLASSES)
        assert not (tmp_path / "mistyped").exists()
    assert load_datalist(folder, "test", classes=CLASSES, download="pneumoniamnist")
    with pytest.raises(ValueError, match=r"none\.csv does not exist"):
        load_datalist(tmp_path / "none.csv", "test", classes=CLASSES, download="pneumoniamnist")
    with pytest.raises(ValueError, match="download: expected None or 'pneumoniamnist', got 'mnist'"):
        load_datalist(tmp_path / "new", "test", classes=CLASSES, download="mnist")


def test_mammography_is_recognised_by_its_tables(tmp_path):
    cbis = trees.cbis_tables(tmp_path / "cbis")
    trees.cbis_images(cbis)
    (patient,) = trees.patients_of("test", inbreast.split_of_patient, "p{}", 1)
    release = tmp_path / "in" / "INbreast Release 1.0"
    trees.inbreast_tree(release, [("7", patient, "L_CC", "2", "5")])
    vindr = trees.vindr_tree(tmp_path / "vindr", [trees.vindr_row("study", "image", split="test")])
    classes = ["benign", "malignant"]
    for root, load in (
        (cbis, cbis_ddsm.load_cbis_ddsm),
        (tmp_path / "in", inbreast.load_inbreast),
        (release, inbreast.load_inbreast),
        (vindr, vindr_mammo.load_vindr_mammo),
    ):
        assert load_datalist(root, "test", classes=classes) == load(root, "test")
        with pytest.raises(ValueError, match=r"classes: expected \['benign', 'malignant'\] for (CBIS|INb|Vin).*order"):
            load_datalist(root, "test", classes=classes[::-1])


def test_a_folder_of_nothing_known_names_all_that_is_known(tmp_path, folder):
    with pytest.raises(
        ValueError, match=r"source: .*none of the class folders .*CheXpert, ISIC 2017 to 2020, CBIS-DDSM, INbreast or"
    ):
        load_datalist(folder, "train", classes=["a", "b"])
    for root in (tmp_path / "none", folder):
        with pytest.raises(ValueError) as error:
            load_datalist(root, "train", classes=["benign", "malignant"])
        for reader in (cbis_ddsm, inbreast, vindr_mammo):
            assert f"{reader.ADDRESS} ({reader.TERMS})" in str(error.value)


def test_one_class_in_a_table(folder):
    table = folder / "t.csv"
    rows = [f"{split}/normal/a.png,normal,{split}" for split in ("train", "test")]
    table.write_text("file,label,split\n" + "\n".join([*rows, "test/pneumonia/a.png,Normal,train"]))
    with pytest.raises(
        ValueError, match=r"t\.csv: .*every class in 'train', got one class only: 2 of 'normal', none of"
    ):
        load_datalist(table, "train", classes=CLASSES)
    assert len(load_datalist(table, "test", classes=CLASSES)) == 1


def test_folders_match_in_other_case(folder):
    (folder / "train" / "normal").rename(folder / "train" / "NORMAL")
    items = load_datalist(folder, "train", classes=["Pneumonia", "normal"])
    assert [(item["key"], item["label"]) for item in items] == [("train/NORMAL/a.png", 1), ("train/pneumonia/a.png", 0)]
