"""ISIC 2017 as it is distributed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.data import load_datalist
from monai_diffclf.data.isic2017 import CLASSES, load_isic2017

HEADER = "image_id,melanoma,seborrheic_keratosis\n"
ROWS = "ISIC_0000002,1.0,0.0\nISIC_0000001,0.0,0.0\nISIC_0000003,0.0,1.0\n"


def make_split(root: Path, part: str = "Training", rows: str = ROWS, header: str = HEADER) -> Path:
    """One part in the official layout."""
    folder = root / f"ISIC-2017_{part}_Data"
    folder.mkdir(parents=True)
    for i in (1, 2, 3):
        Image.fromarray(np.full((6, 8, 3), 40 * i, dtype=np.uint8)).save(folder / f"ISIC_000000{i}.jpg")
    (root / f"ISIC-2017_{part}_Part3_GroundTruth.csv").write_text(header + rows)
    return folder


def test_official_layout_gives_labels_age_and_sex(tmp_path: Path) -> None:
    folder = make_split(tmp_path)
    (folder / f"{folder.name}_metadata.csv").write_text(
        "image_id,age_approximate,sex\nISIC_0000001,55,female\nISIC_0000002,unknown,unknown\n"
    )
    items = load_isic2017(tmp_path, "train")
    assert [(item["key"], item["label"]) for item in items] == [
        ("ISIC_0000001", 0),
        ("ISIC_0000002", 1),
        ("ISIC_0000003", 2),
    ]
    assert [(item["age"], item["sex"]) for item in items] == [("55", "female"), ("", ""), ("", "")]
    assert load_datalist(tmp_path, "train", classes=CLASSES) == items


def test_test_set_is_version_two(tmp_path: Path) -> None:
    make_split(tmp_path, "Test_v2")
    assert len(load_isic2017(tmp_path, "test")) == 3


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ("ISIC_0000009,0.0,0.0\n", HEADER, "line 2: expected the image ISIC_0000009"),
        ("ISIC_0000001,1.0,1.0\n", HEADER, "line 2: expected at most one"),
        ("ISIC_0000001,yes,0.0\n", HEADER, "line 2: expected a number in 'melanoma', got 'yes'"),
        ("ISIC_0000001,1.0\n", HEADER, "line 2: expected 3 fields, as many as the header has, got 2"),
        (
            ROWS + "ISIC_0000001,0.0,0.0\n",
            HEADER,
            "line 5: expected one row an image, got a second one with the 'image_id' ISIC_0000001",
        ),
        ("ISIC_0000001,0.0\n", "image_id,melanoma\n", "expected the columns"),
        ("", HEADER, "expected one row an image"),
    ],
)
def test_faults_are_named(tmp_path: Path, rows: str, header: str, message: str) -> None:
    make_split(tmp_path, rows=rows, header=header)
    with pytest.raises(ValueError, match=message):
        load_isic2017(tmp_path, "train")


def test_missing_parts_and_other_classes_are_refused(tmp_path: Path) -> None:
    make_split(tmp_path)
    with pytest.raises(ValueError, match="Validation_Part3_GroundTruth.csv .* it is missing"):
        load_isic2017(tmp_path, "validation")
    with pytest.raises(ValueError, match="split: expected one of train"):
        load_isic2017(tmp_path, "all")
    with pytest.raises(ValueError, match="classes: expected .*'nevus', 'melanoma'"):
        load_datalist(tmp_path, "train", classes=["melanoma", "nevus"])


def test_folder_with_a_table_is_read_by_it(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("file,label,split\na.png,Y,test\n")
    items = load_datalist(tmp_path, "test", classes=["x", "y"])
    assert [(item["key"], item["label"]) for item in items] == [("a.png", 1)]


def test_real_images_have_the_official_counts(dataset) -> None:
    folder = dataset("isic2017_256")
    for split, counts in {"train": [1372, 374, 254], "validation": [78, 30, 42], "test": [393, 117, 90]}.items():
        labels = [item["label"] for item in load_datalist(folder, split, classes=CLASSES, label_type="index")]
        assert [labels.count(k) for k in range(3)] == counts
