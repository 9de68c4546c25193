"""Coverage and size of prediction sets."""

from __future__ import annotations

import numpy as np
import pytest

from monai_diffclf.metrics import class_set_coverage, set_coverage, set_size


def simulate(count=40):
    rng = np.random.default_rng(0)
    return rng.integers(0, 3, count), rng.random((count, 3)) < 0.6


def test_by_hand():
    labels, sets = simulate()
    held = np.array([row[label] for row, label in zip(sets, labels, strict=True)])
    assert set_coverage(labels, sets) == pytest.approx(held.mean())
    assert class_set_coverage(labels, sets) == pytest.approx([held[labels == k].mean() for k in range(3)])
    assert set_size(sets) == pytest.approx(sets.sum() / 40)


@pytest.mark.parametrize("statistic", [set_coverage, class_set_coverage, lambda y, s, **k: set_size(s, **k)])
def test_weights_are_repeated_images(statistic):
    labels, sets = simulate()
    weights = np.random.default_rng(1).integers(0, 3, (9, 40))
    expected = [statistic(labels.repeat(row), sets.repeat(row, axis=0)) for row in weights]
    np.testing.assert_allclose(statistic(labels, sets, weights=weights), expected, atol=1e-12)


def test_a_class_without_images_has_no_coverage():
    assert np.isnan(class_set_coverage([0, 0], [[1, 0], [0, 1]])).tolist() == [False, True]


def test_bad_input():
    with pytest.raises(
        ValueError, match=r"sets: expected booleans \[N, K\], N at least 1, got float64 of shape \[1, 2\]"
    ):
        set_coverage([0], [[0.3, 0.7]])
    with pytest.raises(ValueError, match=r"sets: expected booleans \[N, K\]"):
        set_size([True, False])
    with pytest.raises(ValueError, match=r"labels: expected one class an image, \[1\], got \[2\]"):
        set_coverage([0, 1], [[True, False]])
    with pytest.raises(ValueError, match=r"labels: expected class numbers from 0 to 1, got 2"):
        class_set_coverage([2], [[True, False]])
