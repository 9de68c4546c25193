"""Volumes to train on, in class folders and tables: a series of slices is one image, like a file."""

from __future__ import annotations

import re
import zipfile

import nibabel as nib
import numpy as np
import pytest

from monai_diffclf.data import audit_run, load_datalist, load_image_folder
from monai_diffclf.data.image_facts import read_facts
from monai_diffclf.image_io import ReadVolume
from monai_diffclf.image_io.volume_file import read_volume_file
from tests.volume_fixtures import write_enhanced, write_series

CLASSES = ["healthy", "ill"]


def scan(seed: int) -> np.ndarray:
    """Stored values of a series [slice, row, column]."""
    return np.random.default_rng(seed).integers(0, 3000, (3, 6, 8))


def pack(path, folder):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return path


def keys(items):
    return [item["key"] for item in items]


@pytest.fixture
def folder(tmp_path):
    """Class folders of a training and a validation set, with volumes in every form."""
    for number, name in enumerate(("train/healthy/a", "train/healthy/P1/one", "train/healthy/P1/two", "train/ill/b")):
        write_series(tmp_path / "scans" / name, scan(number))
    write_series(tmp_path / "scans/val/healthy/c", scan(10))
    pack(tmp_path / "scans/train/ill/packed.zip", write_series(tmp_path / "more", scan(11)))
    write_enhanced(tmp_path / "scans/train/ill/frames.dcm", scan(12))
    (tmp_path / "scans/val/ill").mkdir(parents=True)
    nib.save(nib.Nifti1Image(scan(13).astype(np.float32), np.diag([2, 2, 3, 1])), tmp_path / "scans/val/ill/d.nii.gz")
    return tmp_path / "scans"


def test_a_series_is_an_image_of_its_class(folder):
    items = load_datalist(folder, "train", classes=CLASSES, volumes=True)
    assert [(item["key"], item["label"], item["patient"]) for item in items] == [
        ("train/healthy/P1/one", 0, "P1"),
        ("train/healthy/P1/two", 0, "P1"),
        ("train/healthy/a", 0, ""),
        ("train/ill/b", 1, ""),
        ("train/ill/frames.dcm", 1, ""),
        ("train/ill/packed.zip", 1, ""),
    ]
    read = ReadVolume()
    assert all(read(item["image"]).shape == (1, 8, 6, 3) for item in items)
    assert keys(load_datalist(folder, "validation", classes=CLASSES, volumes=True)) == [
        "val/healthy/c",
        "val/ill/d.nii.gz",
    ]


def test_without_volumes_each_slice_is_an_image(folder):
    with pytest.warns(UserWarning, match=re.escape("packed.zip (no image that can be read)")):
        items = load_image_folder(folder, "train", classes=CLASSES)
    assert len(items) == 4 * 3 + 1


def test_class_folders_without_splits_keep_the_series_of_a_patient_together(tmp_path):
    for number in range(12):
        write_series(tmp_path / "healthy" / f"P{number // 3}" / f"series{number}", scan(number)[:2])
        write_series(tmp_path / "ill" / f"scan{number}", scan(100 + number)[:2])
    found = {split: [] for split in ("train", "validation", "test")}
    for split in found:
        try:
            found[split] = load_image_folder(tmp_path, split, classes=CLASSES, volumes=True)
        except ValueError as error:
            assert "no image for" in str(error)
    assert sum(map(len, found.values())) == 24
    patients = [{item["patient"] for item in items} - {""} for items in found.values()]
    assert sum(map(len, patients)) == 4, "each in one split"


def test_a_patient_in_two_splits_is_refused(folder):
    write_series(folder / "val/healthy/P1/three", scan(20))
    with pytest.raises(ValueError, match="P1"):
        load_image_folder(folder, "train", classes=CLASSES, volumes=True)


def test_slices_in_the_class_folder_itself_are_refused(folder):
    write_series(folder / "train/ill", scan(20))
    with pytest.raises(ValueError, match="slices of each series into a folder of its own"):
        load_image_folder(folder, "train", classes=CLASSES, volumes=True)


def test_parts_of_a_series_in_two_folders_are_named(folder):
    write_series(folder / "train/ill/first", scan(20), change=lambda n, dataset: n < 2, SeriesDescription="head")
    write_series(folder / "train/ill/second", scan(20), change=lambda n, dataset: n >= 1, SeriesDescription="head")
    with pytest.warns(UserWarning, match="slices lie in several folders"):
        load_image_folder(folder, "train", classes=CLASSES, volumes=True)


def test_parts_of_a_series_in_two_classes_are_named(folder):
    write_series(folder / "train/ill/first", scan(20), change=lambda n, dataset: n < 2, SeriesDescription="head")
    write_series(folder / "train/healthy/second", scan(20), change=lambda n, dataset: n > 1, SeriesDescription="head")
    with pytest.warns(UserWarning, match="slices lie in several folders"):
        load_image_folder(folder, "train", classes=CLASSES, volumes=True)


def test_a_row_may_name_a_series(folder):
    rows = ["image,label,split", "train/healthy/a,healthy,train", "train/ill/b/,ill,train", "val/ill/d.nii.gz,ill,val"]
    (folder / "labels.csv").write_text("\n".join(rows))
    items = load_datalist(folder, "train", classes=CLASSES, volumes=True)
    assert keys(items) == ["train/healthy/a", "train/ill/b/"]
    assert all(ReadVolume()(item["image"]).shape == (1, 8, 6, 3) for item in items)
    with pytest.raises(ValueError, match="line 2: expected an image file, but .* is a folder$"):
        load_datalist(folder, "train", classes=CLASSES)
    (folder / "labels.csv").write_text("\n".join([*rows, "train/healthy,healthy,train"]))
    with pytest.raises(ValueError, match="line 5: expected a volume, but .* is a folder without DICOM files"):
        load_datalist(folder, "train", classes=CLASSES, volumes=True)


def test_the_same_scan_has_the_same_facts_in_whatever_form_it_is_stored(tmp_path):
    stored = scan(5)
    series = write_series(tmp_path / "series", stored)
    packed = pack(tmp_path / "packed.zip", series)
    values, grid = read_volume_file(series)
    nib.save(nib.Nifti1Image(values, grid.affine), tmp_path / "scan.nii.gz")
    items = [{"image": str(path), "label": 0} for path in (series, packed, tmp_path / "scan.nii.gz")]
    facts = read_facts(items)
    assert len({fact.content for fact in facts}) == 1
    for fact in facts[1:]:
        np.testing.assert_allclose(fact.thumbnail, facts[0].thumbnail, atol=1e-6)
    assert facts[0].fields["file format"] == "folder"
    assert facts[0].fields["file size"] == sum(file.stat().st_size for file in series.iterdir())


def test_nrrd_volumes_can_be_looked_at(tmp_path):
    nrrd = pytest.importorskip("nrrd")
    header = {"space": "left-posterior-superior", "space directions": np.eye(3), "space origin": [0, 0, 0]}
    nrrd.write(str(tmp_path / "scan.nrrd"), scan(5).astype(np.int16), header)
    assert len(read_facts([{"image": str(tmp_path / "scan.nrrd"), "label": 0}])) == 1


def test_what_cannot_be_looked_at_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, reason in (("none.png", "there is none"), ("empty", "expected the slices of a DICOM series")):
        with pytest.raises(ValueError, match=f"{name}: .*{reason}"):
            read_facts([{"image": str(tmp_path / name), "label": 0}])


def test_the_audit_finds_one_scan_in_two_splits(folder, tmp_path, capsys):
    write_series(folder / "val/healthy/again", scan(0), SeriesDescription="head")
    splits = {name: load_datalist(folder, name, classes=CLASSES, volumes=True) for name in ("train", "validation")}
    audit_run(splits, tmp_path / "audit.json", classes=CLASSES)
    said = capsys.readouterr().out
    assert "1 identical images" in said
    assert "train train/healthy/a: healthy; validation val/healthy/again: healthy" in said
