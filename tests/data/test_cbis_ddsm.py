"""CBIS-DDSM as it is distributed."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from monai_diffclf.data.cbis_ddsm import load_cbis_ddsm
from monai_diffclf.data.image_table import split_by_hash
from monai_diffclf.data.mammogram_tables import class_balance
from monai_diffclf.image_io import read_mammogram
from tests.data.mammography_trees import cbis_images, cbis_row, cbis_tables, patients_of, write_mammogram

SPLITS = ("train", "validation", "test")
HELD_OUT, *_ = patients_of("validation", split_by_hash, "P_{:05d}", 1)
TRAIN, OTHER = patients_of("train", split_by_hash, "P_{:05d}", 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A patient for training with two images, one for validation, and the two of the calcification tables."""
    rows = [
        cbis_row(TRAIN, pathology="BENIGN_WITHOUT_CALLBACK", assessment="2"),
        cbis_row(TRAIN, pathology="MALIGNANT", assessment="5", abnormality=2),
        cbis_row(TRAIN, side="RIGHT", view="MLO"),
        cbis_row(HELD_OUT, pathology="MALIGNANT"),
    ]
    cbis_tables(tmp_path, mass_train=rows)
    cbis_images(tmp_path)
    return tmp_path


def test_one_item_an_image_is_malignant_if_any_abnormality_is(root: Path) -> None:
    items = [item for item in load_cbis_ddsm(root, "train") if item["patient"] == TRAIN]
    image = items[0].pop("image")
    assert image.endswith("1.000000-full mammogram images-24515/1-1.dcm")
    assert f"Mass-Training_{TRAIN}_LEFT_CC/" in image
    assert items[0] == {
        "label": 1,
        "key": f"{TRAIN}_LEFT_CC",
        "patient": TRAIN,
        "laterality": "L",
        "view": "CC",
        "density": "3",
        "assessment": "5",
        "abnormality": "mass",
    }
    assert (items[1]["key"], items[1]["label"], items[1]["laterality"]) == (f"{TRAIN}_RIGHT_MLO", 0, "R")
    assert read_mammogram(image).shape == (4, 3)


def test_official_test_set_and_validation_by_patient(root: Path) -> None:
    items = {split: load_cbis_ddsm(root, split) for split in SPLITS}
    assert [item["patient"] for item in items["validation"]] == [HELD_OUT]
    assert {item["patient"] for item in items["test"]} == {"P_90002", "P_90004"}
    assert all("-Test_" in item["image"] for item in items["test"])
    balance = class_balance(items)
    assert sum(balance.counts["train"]) == 3 and balance.counts["validation"] == (0, 1)
    assert items["train"] == sorted(items["train"], key=lambda item: item["key"])


def test_training_images_of_test_patients_are_left_out(tmp_path: Path) -> None:
    # One image is in a training and in a test table, and malignant in the first alone.
    mass = [cbis_row(OTHER), cbis_row(OTHER, view="MLO", pathology="MALIGNANT"), cbis_row(TRAIN)]
    cbis_tables(tmp_path, mass_train=mass, calc_test=[cbis_row(OTHER, "Calc", "Test", view="MLO")])
    cbis_images(tmp_path)
    with pytest.warns(UserWarning, match="1 training images of 1 patients are left out"):
        train = load_cbis_ddsm(tmp_path, "train")
    assert OTHER not in {item["patient"] for item in train}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        test = {item["key"]: item for item in load_cbis_ddsm(tmp_path, "test")}
    assert f"{OTHER}_LEFT_CC" not in test
    assert test[f"{OTHER}_LEFT_MLO"]["label"] == 1
    assert test[f"{OTHER}_LEFT_MLO"]["abnormality"] == "both"
    assert "Calc-Test_" in test[f"{OTHER}_LEFT_MLO"]["image"]


def test_one_kind_of_abnormality_needs_its_tables_only(root: Path) -> None:
    for table in root.glob("calc_*.csv"):
        table.unlink()
    assert {item["abnormality"] for item in load_cbis_ddsm(root, "train", abnormalities=["mass"])} == {"mass"}
    with pytest.raises(
        ValueError, match="calc_case_description_test_set.csv in .* missing.*cancerimagingarchive.*CC BY"
    ):
        load_cbis_ddsm(root, "train")
    for bad in ("mass", [], ["mass", "normal"]):
        with pytest.raises(ValueError, match="abnormalities: expected a list of mass and calc"):
            load_cbis_ddsm(root, "train", abnormalities=bad)


def test_images_are_found_in_a_manifest_or_at_the_listed_path(tmp_path: Path) -> None:
    cbis_tables(tmp_path / "a", mass_train=[cbis_row(TRAIN)])
    cbis_images(tmp_path / "a", manifest=True)
    assert "manifest-1600709154662" in load_cbis_ddsm(tmp_path / "a", "train")[0]["image"]
    cbis_tables(tmp_path / "b", mass_train=[cbis_row(TRAIN)])
    listed = f"Mass-Training_{TRAIN}_LEFT_CC/1.3.6.1.4.1.9590.1/1.3.6.1.4.1.9590.2/000000.dcm"
    write_mammogram(tmp_path / "b" / listed)
    items = load_cbis_ddsm(tmp_path / "b", "train", abnormalities=["mass"])
    assert [item["image"] for item in items if item["patient"] == TRAIN] == [str(tmp_path / "b" / listed)]


def test_no_image_and_two_images_are_refused(root: Path) -> None:
    folder = root / "CBIS-DDSM" / f"Mass-Training_{TRAIN}_LEFT_CC"
    extra = write_mammogram(folder / "another series" / "1-2.dcm")
    with pytest.raises(
        ValueError, match=r"mass_case_description_train_set.csv, line \d+: .* \('image file path'\), got 2: "
    ):
        load_cbis_ddsm(root, "train")
    for file in [extra, *folder.rglob("*.dcm")]:
        file.unlink(missing_ok=True)
    with pytest.raises(
        ValueError, match=rf"line \d+: expected one DICOM file below the folder {folder.name} .* got none"
    ):
        load_cbis_ddsm(root, "train")
    assert load_cbis_ddsm(root, "test")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",BENIGN,", ",UNPROVEN,", r"line \d+: expected 'pathology' to be one of MALIGNANT, BENIGN, .* got 'UNPROVEN'"),
        (",LEFT,", ",BOTH,", r"line \d+: expected 'left or right breast' to be one of LEFT, RIGHT, got 'BOTH'"),
        (",MLO,", ",XCC,", r"line \d+: expected 'image view' to be one of CC, MLO, got 'XCC'"),
        (f"{HELD_OUT},", ",", r"line \d+: expected a text in 'patient_id', it is empty"),
        (",pathology,", ",diagnosis,", r"expected the columns .* but \['pathology'\] is missing"),
    ],
)
def test_faults_are_named(root: Path, old: str, new: str, message: str) -> None:
    table = root / "mass_case_description_train_set.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(ValueError, match=f"{table.name}.*{message}"):
        load_cbis_ddsm(root, "train")


def test_unknown_splits_and_empty_tables_are_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="split: expected one of train, validation, test, got 'val'"):
        load_cbis_ddsm(root, "val")
    table = root / "calc_case_description_test_set.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    with pytest.raises(ValueError, match="expected one row an abnormality, got none"):
        load_cbis_ddsm(root, "train")
    cbis_tables(root)
    with pytest.raises(ValueError, match="expected images for 'validation' in the tables of"):
        load_cbis_ddsm(root, "validation")
