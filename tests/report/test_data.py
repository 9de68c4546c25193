"""A report refuses data that do not fit together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("images", np.zeros((40, 2, 16, 16)), r"images: expected shape \[B, 1 or 3, H, W\], got \[40, 2, 16, 16\]"),
        ("images", np.zeros((39, 1, 16, 16)), r"labels: expected shape \[39\] to fit the images, got \[40\]"),
        ("labels", np.zeros(40, int), r"labels: expected images of every class 0 to 1, got \[0\]"),
        ("class_names", ["a", "b", "c"], "class_names: expected 2, as many as errors has; got 3"),
        ("masks", np.zeros((40, 16, 16)), r"masks: expected shape \[40, 1, 16, 16\].*got \[40, 16, 16\]"),
        ("error_maps", np.zeros((40, 3, 16, 16)), r"error_maps: expected shape \[40, 2, 16, 16\].*got \[40, 3"),
        ("keys", ["a"], r"keys: expected shape \[40\].*got \[1\]"),
        ("seconds", 0.0, "seconds: expected a positive number, got 0.0"),
    ],
)
def test_data_that_do_not_fit_are_refused(data, name, value, message):
    with pytest.raises(ValueError, match=message):
        replace(data, **{name: value})


def test_errors_of_other_images_are_refused(data):
    with pytest.raises(ValueError, match=r"errors: expected shape \[40, 2, 11\].*got \[39, 2, 11\]"):
        replace(data, errors=data.errors[:39])
