"""The example scans: reproducible, easy for all pixels together and hard for any one, with patients in file names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from monai_diffclf.data import load_datalist
from monai_diffclf.data.example_scans import EXAMPLE_CLASSES, main, make_example_scan, write_example_scans

PATTERN = r"(P\d+)_"
PIXELS = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_example_scans(tmp_path_factory.mktemp("scans") / "DATA", images=600, size=PIXELS)


def split_of(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    items = load_datalist(folder, split, classes=list(EXAMPLE_CLASSES), patient_pattern=PATTERN)
    pixels = np.stack([np.asarray(Image.open(item["image"]), dtype=float).ravel() / 255 for item in items])
    return pixels, np.array([item["label"] for item in items])


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_folder_is_as_promised(folder):
    files = files_of(folder)
    assert len(files) == 600 and all(re.fullmatch(r"\w+/P\d{4}_[123]\.png", name) for name in files)
    counts = [sum(name.startswith(f"{kind}/") for name in files) for kind in EXAMPLE_CLASSES]
    assert counts == [100] * 6
    patients = [re.search(PATTERN, name).group(1) for name in files]
    assert 250 < len(set(patients)) < 400, "one to three images a patient"
    with Image.open(folder / "head" / "P0006_1.png") as image:
        assert image.mode == "L" and image.size == (PIXELS, PIXELS)


def test_every_split_has_every_class(folder):
    for split in ("train", "validation", "test"):
        assert set(split_of(folder, split)[1]) == set(range(6))


def test_pixels_together_tell_the_classes_apart_and_no_pixel_does(folder):
    (pixels, labels), (others, truth) = split_of(folder, "train"), split_of(folder, "test")
    floor = LogisticRegression(max_iter=500).fit(pixels, labels).predict_proba(others)
    assert roc_auc_score(truth, floor, multi_class="ovr") > 0.98
    for place in range(0, PIXELS**2, 5):
        tree = DecisionTreeClassifier(max_leaf_nodes=12, random_state=0).fit(pixels[:, [place]], labels)
        alone = tree.predict_proba(others[:, [place]])
        assert roc_auc_score(truth, alone, multi_class="ovr") < 0.9
        assert accuracy_score(truth, alone.argmax(1)) < 0.65


def test_brightness_does_not_give_the_classes_away(folder):
    (pixels, labels), (others, truth) = split_of(folder, "train"), split_of(folder, "test")
    tree = DecisionTreeClassifier(max_leaf_nodes=12, random_state=0).fit(pixels.mean(1, keepdims=True), labels)
    assert accuracy_score(truth, tree.predict(others.mean(1, keepdims=True))) < 0.7


def test_same_seed_same_files_and_more_images_leave_the_first_as_they_are(folder, tmp_path):
    again = files_of(write_example_scans(tmp_path / "again", images=60, size=PIXELS))
    more = files_of(folder)
    same = [name for name in again if more[name] == again[name]]
    assert len(same) == len(again) == 60
    other = files_of(write_example_scans(tmp_path / "other", images=60, size=PIXELS, seed=1))
    assert not set(other.values()) & set(again.values())


def test_images_of_a_patient_are_alike_but_not_the_same():
    first, second = (make_example_scan(4, 5, image) for image in (1, 2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, make_example_scan(4, 5, 1))


def test_size_changes_resolution_but_not_the_scene():
    for label in range(6):
        small, large = (make_example_scan(label, 3, size=size) for size in (32, 64))
        coarse = large.reshape(32, 2, 32, 2).mean((1, 3))
        assert np.corrcoef(small.ravel(), coarse.ravel())[0, 1] > 0.8


def test_command_prints_the_folder(tmp_path, capsys):
    folder = tmp_path / "DATA"
    assert main([str(folder), "--images", "7", "--size", "16"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder)]
    assert len(files_of(folder)) == 7
    assert main([str(folder)]) == 2
    assert "error: folder: expected a new or an empty folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 5}, "images: expected 6 or more, one of each class, got 5"),
        ({"size": 8}, "size: expected 16 pixels or more.*got 8"),
        ({"seed": -1}, "patient, image, seed: expected integers of 0 or more"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_example_scans(tmp_path / "DATA", **arguments)
    assert not (tmp_path / "DATA").exists()
    with pytest.raises(ValueError, match="label: expected 0 to 5"):
        make_example_scan(6, 0)
