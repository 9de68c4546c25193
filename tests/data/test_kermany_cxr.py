"""The chest X-rays of Kermany et al. in three classes, each patient in one split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.data import load_datalist, load_kermany_cxr
from monai_diffclf.data.kermany_cxr import CLASSES, is_kermany_cxr

ROWS = (
    ("person1_virus_6.jpeg", "virus", "train"),
    ("person1_bacteria_1.jpeg", "bacteria", "val"),  # another patient: the series count separately
    ("person1_virus_7.jpeg", "virus", "val"),  # the patient of the first row
    ("IM-0001-0001.jpeg", "normal", "val"),
    ("NORMAL2-IM-0001-0001.jpeg", "normal", "train"),
    ("person2_bacteria_3.jpeg", "bacteria", "train"),
    ("person9_virus_1.jpeg", "virus", "val"),
    ("IM-0002-0001.jpeg", "normal", "test"),
)


def write(folder: Path, rows=ROWS, header: str = "file,label,subtype,split") -> Path:
    for name, *_ in rows:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name)
    lines = [f"{name},{int(subtype != 'normal')},{subtype},{split}" for name, subtype, split in rows]
    (folder / "labels.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder


def test_validation_leaves_out_the_patients_of_training(tmp_path):
    items = load_kermany_cxr(write(tmp_path), "validation")
    assert [(item["key"], item["label"], item["patient"]) for item in items] == [
        ("IM-0001-0001.jpeg", 0, "N1"),
        ("person1_bacteria_1.jpeg", 1, "P1b"),
        ("person9_virus_1.jpeg", 2, "P9v"),
    ]
    assert [item["label"] for item in load_kermany_cxr(tmp_path, "train")] == [0, 2, 1]
    assert all(Path(item["image"]).is_file() for item in items)


def test_the_three_classes_ask_for_it_and_others_read_the_table(tmp_path):
    write(tmp_path)
    assert load_datalist(tmp_path, "validation", classes=CLASSES) == load_kermany_cxr(tmp_path, "validation")
    two = load_datalist(tmp_path, "validation", classes=["normal", "pneumonia"], label_type="index")
    assert len(two) == 4 and {item["label"] for item in two} == {0, 1}


def test_two_classes_are_of_the_same_images(tmp_path):
    write(tmp_path)
    three = load_kermany_cxr(tmp_path, "validation")
    two = load_datalist(tmp_path, "validation", classes=["normal", "pneumonia"])
    assert [item["label"] for item in two] == [min(item["label"], 1) for item in three] == [0, 1, 1]
    assert [item["key"] for item in two] == [item["key"] for item in three]
    with pytest.raises(ValueError, match=r"classes: expected .* or \['normal', 'pneumonia'\], got \['a', 'b'\]"):
        load_kermany_cxr(tmp_path, "validation", classes=["a", "b"])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("person3_virus_1.jpeg", "fungus", "train"), "line 10: expected a known subtype and split, got 'fungus'"),
        (("person3_virus_1.jpeg", "virus", "both"), "got 'virus' and 'both'"),
        (("somebody.jpeg", "virus", "train"), "file: expected a Kermany name"),
    ],
)
def test_rows_that_are_wrong_are_named(tmp_path, row, said):
    with pytest.raises(ValueError, match=said):
        load_kermany_cxr(write(tmp_path, (*ROWS, row)), "train")


def test_what_is_missing_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "person1_virus_6.jpeg").unlink()
    with pytest.raises(ValueError, match="line 2: expected the image .*person1_virus_6.jpeg, it is not there"):
        load_kermany_cxr(tmp_path, "train")
    with pytest.raises(ValueError, match="split: expected"):
        load_kermany_cxr(tmp_path, "both")
    assert not is_kermany_cxr(tmp_path / "nowhere")


def test_the_real_ones(data_root):
    folder = data_root / "kermany_cxr_224"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    train, validation = (load_datalist(folder, split, classes=CLASSES) for split in ("train", "validation"))
    assert Counter(item["label"] for item in train) == {0: 1214, 1: 2273, 2: 1221}
    assert len(validation) == 299
    assert not {item["patient"] for item in train} & {item["patient"] for item in validation}
