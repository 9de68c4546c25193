"""NIH ChestX-ray14, from files as distributed to datalists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_diffclf.data import NoSplitError, load_nih_chest_xray14
from monai_diffclf.data.nih_chest_xray14 import FINDINGS, is_nih_chest_xray14
from tests.data import finding_trees as trees

SPLITS = ("train", "validation", "test")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return trees.nih(tmp_path)


@pytest.mark.parametrize("folders", ["images_{:03}/images", "images_{:03}", "images"])
def test_from_files_to_datalists(folders, tmp_path):
    root = trees.nih(tmp_path, folders=folders)
    assert is_nih_chest_xray14(root) and not is_nih_chest_xray14(tmp_path / "none")
    items = {split: load_nih_chest_xray14(root, split) for split in SPLITS}
    assert [len(items[split]) for split in SPLITS] == [60, 30, 30]
    found = [{item["patient"] for item in each} for each in items.values()]
    assert len(set.union(*found)) == sum(map(len, found)) == 60  # every patient in one split
    assert all(Path(item["image"]).is_file() for each in items.values() for item in each)
    listed = set((root / "test_list.txt").read_text().split())
    assert {item["key"] for item in items["test"]} == listed
    first, second = (next(item for item in items["test"] if item["key"] == f"00030003_00{n}.png") for n in (0, 1))
    assert np.flatnonzero(first["label"]).tolist() == [3]
    assert np.flatnonzero(second["label"]).tolist() == [3, 4]
    assert first["label"].dtype == np.int64
    assert {name: first[name] for name in ("patient", "sex", "age", "view")} == {
        "patient": "30003",
        "sex": "m",
        "age": "58",
        "view": "PA",
    }


def test_findings_in_another_order(root):
    items = load_nih_chest_xray14(root, "test", findings=["Hernia", "Infiltration"])
    found = {item["key"]: item["label"].tolist() for item in items}
    assert found["00030003_000.png"] == [0, 1] and found["00030013_000.png"] == [1, 0]


def test_finding_that_is_never_there(root, tmp_path_factory):
    with pytest.warns(UserWarning, match=r"train_val_list.txt: expected .* got no image with Hernia; there is"):
        load_nih_chest_xray14(trees.nih(tmp_path_factory.mktemp("none"), absent="Hernia"), "validation")
    table = root / "Data_Entry_2017.csv"
    table.write_text(table.read_text().replace("Mass", "Nodule"))
    with pytest.raises(ValueError, match="got no image with Mass; choose other findings"):
        load_nih_chest_xray14(root, "train")


def test_images_that_are_not_there_are_counted_and_listed(root):
    for item in load_nih_chest_xray14(root, "test", findings=["Mass"])[:6]:
        Path(item["image"]).unlink()
    with pytest.raises(
        ValueError, match=r"test_list.txt: 6 of 30 images are not there: .* and 1 more; .*nihcc"
    ) as said:
        load_nih_chest_xray14(root, "test", findings=["Mass"])
    assert "00030000_000.png" in str(said.value)
    with pytest.warns(UserWarning, match="6 of 30 images are not there"):
        assert len(load_nih_chest_xray14(root, "test", findings=["Mass"], allow_missing=True)) == 24


def test_lists_that_do_not_fit_the_table(root):
    lists = {name: (root / name).read_text() for name in ("train_val_list.txt", "test_list.txt")}
    (root / "test_list.txt").write_text(lists["test_list.txt"] + "00040000_000.png\n")
    with pytest.raises(
        ValueError, match="row for every image of test_list.txt, got none for 1 of 31: 00040000_000.png"
    ):
        load_nih_chest_xray14(root, "test")
    (root / "test_list.txt").write_text(lists["test_list.txt"] + lists["train_val_list.txt"].split()[0])
    with pytest.raises(ValueError, match="expected no patient in both lists, got 1: "):
        load_nih_chest_xray14(root, "test")
    (root / "test_list.txt").write_text("\n".join(lists["test_list.txt"].split()[:-2]))
    with pytest.warns(UserWarning, match="2 of 120 images are in neither list and left out: 00030014_000.png, 0003001"):
        assert len(load_nih_chest_xray14(root, "test", findings=["Mass"])) == 28
    (root / "test_list.txt").unlink()
    with pytest.raises(NoSplitError, match="expected test_list.txt in .*missing.*nihcc"):
        load_nih_chest_xray14(root, "test")


def test_faults_of_the_table_are_named(root):
    with pytest.raises(ValueError, match=r"expected Data_Entry_2017\*.csv .*missing.*nihcc.*Wang"):
        load_nih_chest_xray14(root / "images_001", "train")
    table = root / "Data_Entry_2017.csv"
    text = table.read_text()
    table.write_text(text.replace("Hernia", "Hernai", 1))
    with pytest.raises(ValueError, match=r"line \d+: expected 'Finding Labels' to name some of .*, got 'Hernai'"):
        load_nih_chest_xray14(root, "train")
    table.write_text(text.replace("Finding Labels", "Labels"))
    with pytest.raises(ValueError, match="Finding Labels.* is missing"):
        load_nih_chest_xray14(root, "train")
    table.write_text(text)
    (root / "Data_Entry_2017_v2020.csv").write_text(text)
    with pytest.raises(ValueError, match="expected one table .* got Data_Entry_2017.csv, Data_Entry_2017_v2020.csv"):
        load_nih_chest_xray14(root, "train")
    with pytest.raises(ValueError, match="findings: expected some of Atelectasis"):
        load_nih_chest_xray14(root, "train", findings=["Edemas"])
    assert len(FINDINGS) == 14
