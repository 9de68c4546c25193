"""The confusion matrix, as table and picture."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.handlers.confusion import write_confusion


@pytest.mark.parametrize("classes", [["normal", "pneumonia"], ["=1+1", "$x$", "a,b", "c" * 60]])
def test_counts_and_names(tmp_path, classes):
    rng, size = np.random.default_rng(0), len(classes)
    labels, predicted = rng.integers(0, size, 50), rng.integers(0, size, 50)
    path = tmp_path / "confusion.csv"
    counts = write_confusion(path, labels, predicted, classes, title="$ of {x}")
    assert all(counts[i, j] == ((labels == i) & (predicted == j)).sum() for i in range(size) for j in range(size))
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["true class", *(f"predicted_{name}" for name in classes)]
    assert [row[1:] for row in rows[1:]] == [[str(n) for n in row] for row in counts.tolist()]
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    picture = Image.open(path.with_suffix(".png"))
    assert min(picture.size) > 200
    first = path.with_suffix(".png").read_bytes()
    write_confusion(path, labels, predicted, classes, title="$ of {x}")
    assert path.with_suffix(".png").read_bytes() == first, "the same again, to the byte"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_thousand_classes_fit_into_a_picture(tmp_path):
    labels = np.arange(1000)
    write_confusion(tmp_path / "c.csv", labels, labels[::-1], [f"class {k}" for k in labels])
    with Image.open(tmp_path / "c.png") as picture:
        assert max(picture.size) < 2500


def test_a_class_that_is_never_met_is_in_it(tmp_path):
    counts = write_confusion(tmp_path / "c.csv", [0, 0], [0, 1], ["a", "b", "c"])
    assert counts.shape == (3, 3) and counts[2].sum() == 0


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [
        ([0, 2], [0, 1], "labels: expected class numbers from 0 to 1, got 2"),
        ([0, 0.9], [0, 1], "labels: expected class numbers from 0 to 1, got 0.9"),
        ([0, 1], [0, -1], "predicted: expected class numbers from 0 to 1, got -1"),
        ([0, 1], [0], r"predicted: expected one class an image, \[2\], got \[1\]"),
    ],
)
def test_what_is_no_class_is_refused(labels, predicted, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_confusion(tmp_path / "a.csv", labels, predicted, ["a", "b"])
    assert not list(tmp_path.iterdir())
