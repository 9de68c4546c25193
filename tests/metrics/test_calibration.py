"""Calibration errors and proper scores, against torchmetrics and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from monai_diffclf.metrics import (
    bootstrap_interval,
    brier_decomposition,
    brier_score,
    classwise_calibration_error,
    expected_calibration_error,
    negative_log_likelihood,
)

SCORES = [expected_calibration_error, classwise_calibration_error, brier_score, negative_log_likelihood]


def simulate(classes=3, count=200, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.6), count)
    labels = np.array([rng.choice(classes, p=row) for row in p**0.5 / (p**0.5).sum(1, keepdims=True)])
    return labels, p


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("num_bins", [10, 15])
def test_expected_calibration_error_is_torchmetrics(classes, num_bins):
    labels, p = simulate(classes)
    expected = multiclass_calibration_error(
        torch.from_numpy(p), torch.from_numpy(labels), num_classes=classes, n_bins=num_bins, norm="l1"
    )
    assert expected_calibration_error(labels, p, num_bins=num_bins) == pytest.approx(float(expected), abs=1e-6)


def test_bins_are_closed_below_and_the_last_one_above():
    # 3/4 is in the bin that begins there, and 1 in the same, the last.
    labels, p = [1, 0, 0, 1], [[0.75, 0.25], [0.74, 0.26], [1.0, 0.0], [0.95, 0.05]]
    expected = (abs(1 - 2.7) + abs(1 - 0.74)) / 4
    assert expected_calibration_error(labels, p, num_bins=4) == pytest.approx(expected)


def test_classwise_error_by_hand():
    labels, p = simulate(3, 60)
    gaps = []
    for k in range(3):
        number = np.minimum((p[:, k] * 15).astype(int), 14)
        gaps += [abs(((labels == k) - p[:, k])[number == b].sum()) / 60 / 3 for b in range(15)]
    assert classwise_calibration_error(labels, p) == pytest.approx(sum(gaps))


def test_calibrated_probabilities_have_small_errors():
    rng = np.random.default_rng(0)
    p = rng.random(100_000)
    labels = (rng.random(100_000) < p).astype(int)
    assert expected_calibration_error(labels, p) < 0.01
    assert classwise_calibration_error(labels, p) < 0.01
    assert brier_decomposition(labels, p).reliability < 1e-3


@pytest.mark.parametrize("classes", [2, 4])
def test_proper_scores_are_scikit_learns(classes):
    labels, p = simulate(classes)
    assert negative_log_likelihood(labels, p) == pytest.approx(log_loss(labels, p))
    one_hot = np.eye(classes)[labels]
    expected = sum(brier_score_loss(one_hot[:, k], p[:, k]) for k in range(classes))
    assert brier_score(labels, p) == pytest.approx(expected)


def test_probability_zero_of_the_truth_counts_as_in_scikit_learn():
    assert negative_log_likelihood([0, 1], [0.0, 0.0]) == pytest.approx(log_loss([0, 1], [0.0, 0.0]))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_parts_of_the_brier_score_add_up(weighted):
    labels, p = simulate(3)
    weights = np.random.default_rng(1).integers(0, 3, (7, len(labels))) if weighted else None
    parts = brier_decomposition(labels, p, weights=weights)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.remainder
    np.testing.assert_allclose(total, brier_score(labels, p, weights=weights), rtol=1e-10)
    assert all((np.asarray(part) >= 0).all() for part in parts[:3])


def test_parts_of_probabilities_that_are_alike_within_bins():
    """Then it is Murphy's decomposition, and nothing remains."""
    rng = np.random.default_rng(0)
    p = rng.choice([0.1, 0.5, 0.9], 300)
    labels = (rng.random(300) < p**2).astype(int)
    parts = brier_decomposition(labels, p)
    levels = [(len(labels[p == v]) / 300, v, labels[p == v].mean()) for v in (0.1, 0.5, 0.9)]
    assert parts.remainder == pytest.approx(0, abs=1e-12)
    assert parts.reliability == pytest.approx(2 * sum(share * (v - f) ** 2 for share, v, f in levels))
    assert parts.resolution == pytest.approx(2 * sum(share * (f - labels.mean()) ** 2 for share, _, f in levels))
    assert parts.uncertainty == pytest.approx(2 * labels.mean() * (1 - labels.mean()))


@pytest.mark.parametrize("score", [*SCORES, lambda *a, **k: np.stack(brier_decomposition(*a, **k), -1)])
def test_weights_are_repeated_images(score):
    labels, p = simulate(3, 50)
    weights = np.random.default_rng(2).integers(0, 4, (6, 50))
    expected = [score(labels.repeat(row), p.repeat(row, axis=0)) for row in weights]
    np.testing.assert_allclose(score(labels, p, weights=weights), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_one_column_is_the_probability_of_class_1(score):
    labels, p = simulate(2)
    assert score(labels, p[:, 1]) == pytest.approx(float(score(labels, p)))


def test_intervals_are_fast_and_hold_the_value():
    labels, p = simulate(2, 600)
    interval = bootstrap_interval(expected_calibration_error, labels, p, strata=labels)
    # Resampling adds noise of its own to each bin: the interval is not centred.
    assert 0 <= interval.low < interval.high < 0.3


def test_float32_rows_are_accepted():
    labels, p = simulate(3)
    assert brier_score(labels, p.astype(np.float32)) == pytest.approx(float(brier_score(labels, p)), rel=1e-5)


@pytest.mark.parametrize("score", [*SCORES, brier_decomposition])
@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (
            [0, 1],
            [[0.5, 0.6], [0.5, 0.5]],
            "expected numbers in .* with rows that sum to 1, got 1 others, the first",
        ),
        ([0, 1], [[1.2, -0.2], [0.5, 0.5]], "sum to 1, got 1 others"),
        ([0, 1], [0.5, np.nan], "sum to 1, got 1 others"),
        ([0, 2], [0.5, 0.5], r"labels: expected class numbers from 0 to 1, got 2"),
        ([0, 0.5], [0.5, 0.5], "labels: expected class numbers from 0 to 1"),
        ([0], [0.5, 0.5], r"probabilities: expected the shape \[N, K\].*got \[2\] and \[1\]"),
        ([], [], r"probabilities: expected the shape \[N, K\]"),
    ],
)
def test_bad_input(score, labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        score(labels, probabilities)


def test_bins_bad_input():
    with pytest.raises(ValueError, match="num_bins: expected a positive integer, got 0"):
        expected_calibration_error([0, 1], [0.5, 0.5], num_bins=0)
