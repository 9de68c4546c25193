"""VinDr-Mammo as it is distributed."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_diffclf.data.image_table import split_by_hash
from monai_diffclf.data.mammogram_tables import class_balance
from monai_diffclf.data.vindr_mammo import load_vindr_mammo
from monai_diffclf.image_io import read_mammogram
from tests.data.mammography_trees import patients_of, vindr_row, vindr_tree

TRAIN, TESTED = patients_of("train", split_by_hash, "{:032x}", 2)
HELD_OUT, *_ = patients_of("validation", split_by_hash, "{:032x}", 1)
# By hash this one would be for testing, but the official split has it in training.
OFFICIAL, *_ = patients_of("test", split_by_hash, "{:032x}", 1)

ROWS = [
    vindr_row(TRAIN, "d", birads="BI-RADS 4", side="R", view="MLO", density="DENSITY A"),
    vindr_row(TRAIN, "c"),
    vindr_row(OFFICIAL, "b", birads="BI-RADS 3"),
    vindr_row(HELD_OUT, "a", birads="BI-RADS 5"),
    vindr_row(TESTED, "e", birads="BI-RADS 1", split="test"),
]


def test_official_layout_gives_labels_and_subgroups(tmp_path: Path) -> None:
    items = load_vindr_mammo(vindr_tree(tmp_path, ROWS), "train")
    assert [(item["key"], item["label"]) for item in items] == [("b", 0), ("c", 0), ("d", 1)]
    assert items[2] == {
        "image": str(tmp_path / "images" / TRAIN / "d.dicom"),
        "label": 1,
        "key": "d",
        "patient": TRAIN,
        "laterality": "R",
        "view": "MLO",
        "density": "A",
        "assessment": "4",
    }
    assert read_mammogram(items[2]["image"]).shape == (4, 3)


def test_official_split_and_validation_by_study(tmp_path: Path) -> None:
    vindr_tree(tmp_path, ROWS)
    balance = class_balance({split: load_vindr_mammo(tmp_path, split) for split in ("train", "validation", "test")})
    assert balance.counts == {"train": (2, 1), "validation": (0, 1), "test": (1, 0)}


def test_images_of_other_splits_may_be_absent(tmp_path: Path) -> None:
    (vindr_tree(tmp_path, ROWS) / "images" / TRAIN / "d.dicom").unlink()
    assert len(load_vindr_mammo(tmp_path, "test")) == 1
    with pytest.raises(
        ValueError, match=r"line 2: expected the image .*d\.dicom \('study_id', 'image_id'\), it is not"
    ):
        load_vindr_mammo(tmp_path, "train")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (vindr_row(TRAIN, "x", birads="BI-RADS 0"), "'breast_birads' to be one of .* got 'BI-RADS 0'; .*unfinished"),
        (vindr_row(TRAIN, "x", side="B"), "'laterality' to be one of L, R, got 'B'"),
        (vindr_row(TRAIN, "x", view="ML"), "'view_position' to be one of CC, MLO, got 'ML'"),
        (vindr_row(TRAIN, "x", density="C"), "'breast_density' to be one of DENSITY A, .* got 'C'"),
        (vindr_row(TRAIN, "x", split="val"), "'split' to be one of training, test, got 'val'"),
        (vindr_row(TRAIN, ""), "a text in 'image_id', it is empty"),
        (vindr_row(TRAIN, "c"), "one row an image, got a second one with the 'image_id' c"),
        (vindr_row(TRAIN, "x", split="test"), rf"the study {TRAIN} \('study_id'\) in one split, got 'test'"),
    ],
)
def test_faults_are_named(tmp_path: Path, row: str, message: str) -> None:
    vindr_tree(tmp_path, [*ROWS, row])
    with pytest.raises(ValueError, match=f"breast-level_annotations.csv, line 7: expected {message}"):
        load_vindr_mammo(tmp_path, "train")


def test_missing_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="breast-level_annotations.csv in .*physionet.org.*Health Data License 1.5.0"):
        load_vindr_mammo(tmp_path, "train")
    with pytest.raises(ValueError, match="split: expected one of train, validation, test, got 'training'"):
        load_vindr_mammo(tmp_path, "training")
    table = vindr_tree(tmp_path, ROWS[:1]) / "breast-level_annotations.csv"
    with pytest.raises(ValueError, match="split: expected images for 'test' in .* got none"):
        load_vindr_mammo(tmp_path, "test")
    table.write_text(table.read_text().replace("breast_birads", "birads"))
    with pytest.raises(ValueError, match=r"expected the columns .* but \['breast_birads'\] is missing"):
        load_vindr_mammo(tmp_path, "train")
