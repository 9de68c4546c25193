"""CSV tables of a user's own images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.data import load_image_table
from monai_diffclf.data.image_table import SPLITS, split_by_hash


def draw(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 2), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for n in range(5):
        draw(tmp_path / f"images/{n}.png")
    path = tmp_path / "table.csv"
    path.write_text(
        "image,label,split,patient\n"
        "images/0.png,healthy,train,A\n"
        "images/1.png,Ill ,train,B\n"
        "images/2.png,ill,val,\n"
        "images/3.png,healthy,Test,C\n"
        "images/4.png,ill,test,C\n"
    )
    return path


CLASSES = ("healthy", "ill")


def test_table(table):
    train = load_image_table(table, "train", classes=CLASSES)
    assert [(item["key"], item["label"], item["patient"]) for item in train] == [
        ("images/0.png", 0, "A"),
        ("images/1.png", 1, "B"),
    ]
    assert train[0]["image"] == str(table.parent / "images/0.png")
    validation = load_image_table(table, "validation", classes=CLASSES)
    assert [(item["label"], item["patient"]) for item in validation] == [(1, "")]
    assert [item["label"] for item in load_image_table(table, "test", classes=CLASSES)] == [0, 1]


def test_table_with_other_columns_and_root(table, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    text = table.read_text().replace("image,label,split,patient", "\ufefffile,finding,fold,person")
    (moved / "t.csv").write_text(text, encoding="utf-8")
    names = {"image_column": "file", "label_column": "finding", "split_column": "fold", "patient_column": "person"}
    items = load_image_table(moved / "t.csv", "train", classes=CLASSES, root=tmp_path, **names)
    assert [item["patient"] for item in items] == ["A", "B"]


def test_table_without_a_split_column_is_split_by_patient(tmp_path):
    rows = []
    for n in range(120):
        draw(tmp_path / f"{n}.png")
        rows.append(f"{n}.png,{CLASSES[n % 2]},P{n // 3}")
    (tmp_path / "t.csv").write_text("image,label,patient\n" + "\n".join(rows))
    splits = {s: load_image_table(tmp_path / "t.csv", s, classes=CLASSES, split_column=None) for s in SPLITS}
    assert sum(len(items) for items in splits.values()) == 120
    for name, items in splits.items():
        assert {split_by_hash(item["patient"]) for item in items} == {name}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "label,",
            "class,",
            r"\['label'\] is missing from \['image', 'class', 'split', 'patient'\]; name the column with --label_c",
        ),
        (
            "png,Ill ,",
            "png,tumour,",
            r"line 3: unknown label 'tumour' in 'label'; expected one of \['healthy', 'ill'\]$",
        ),
        (
            "png,Ill ,",
            "png,2,",
            r"line 3: unknown label '2' in 'label'; .* in this list \(0 for 'healthy', 1 for 'ill'\), say so: ",
        ),
        ("png,Ill ,", "png,,", "line 3: unknown label ''"),
        ("ages/1", "ages/9", r"line 3: expected an image file, but .*images/9\.png does not exist"),
        ("images/1.png", "", "line 3: expected a text in 'image', it is empty"),
        (",Test,", ",tset,", "line 5: expected the split train, validation, test, got 'tset'"),
    ],
)
def test_wrong_rows_are_named(table, old, new, message):
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        load_image_table(table, "train", classes=CLASSES)


def test_wrong_tables(table, tmp_path):
    with pytest.raises(ValueError, match=r"csv_path: expected a CSV table, but .*none\.csv does not exist"):
        load_image_table(tmp_path / "none.csv", "train", classes=CLASSES)
    with pytest.raises(ValueError, match=r"\['person'\] is missing from \['image', 'label'"):
        load_image_table(table, "train", classes=CLASSES, patient_column="person")
    table.write_text("image,label,split\n")
    with pytest.raises(ValueError, match=r"split: .*table\.csv has no row for the split 'train'"):
        load_image_table(table, "train", classes=CLASSES)
    for classes in ("ill", ["ill"], ["ill", "ill"]):
        with pytest.raises(ValueError, match="classes: expected two or more different class names"):
            load_image_table(table, "train", classes=classes)
