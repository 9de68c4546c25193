"""Rows of a table by the images' keys."""

from __future__ import annotations

import numpy as np
import pytest

from monai_diffclf.storage import rows_of_images


def test_shuffled_rows_come_back_in_order():
    keys = np.array([f"image_{i}" for i in range(50)])
    order = np.random.default_rng(0).permutation(50)
    rows = rows_of_images(keys, keys[order])
    assert (keys[order][rows] == keys).all()
    assert sorted(rows) == list(range(50))


def test_copies_of_an_image_keep_their_classes():
    rows = rows_of_images(["a", "a", "b", "a"], ["b", "a", "a", "a"], labels=[1, 0, 1, 1], table_labels=[1, 0, 1, 1])
    assert rows.tolist() == [2, 1, 0, 3]


@pytest.mark.parametrize(
    ("keys", "labels", "message"),
    [
        (["a", "b"], [0, 1], r"got 2, without \['c of class 1'\] and with \['b of class 1'\]"),
        (["a"], [0], r"got 1, without \['c of class 1'\]"),
        (["a", "c"], [0, 0], r"\['c of class 1'\] and with \['c of class 0'\]"),
        (["a", "c", "c"], [0, 1, 1], r"got 3, without \[\] and with \['c of class 1'\]"),
    ],
)
def test_other_images_are_refused(keys, labels, message):
    with pytest.raises(ValueError, match=message):
        rows_of_images(["a", "c"], keys, labels=[0, 1], table_labels=labels)
