# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, recall_score, roc_auc_score, roc_curve

from monai_diffclf.metrics import average_precision, class_recall, roc_auc, sensitivity_at_specificity


def sensitivity_from_curve(labels, scores, specificity=0.9):
    # Points that lie on a line are left out by default, and one of them may be the best that is specific enough.
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    return true[1 - false >= specificity - 1e-12].max()


PAIRS = [
    (roc_auc, roc_auc_score),
    (average_precision, average_precision_score),
    (sensitivity_at_specificity, sensitivity_from_curve),
]


@pytest.fixture
def data():
    """Labels, scores with many ties, and how often each image was drawn in 30 resamples."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1], [30, 50]))
    scores = np.round(labels + rng.normal(size=80), 1)
    return labels, scores, np.stack([np.bincount(rng.integers(0, 80, 80), minlength=80) for _ in range(30)])


@pytest.mark.parametrize(("ours", "reference"), PAIRS)
def test_equals_sklearn_on_the_data_and_on_every_resample(data, ours, reference):
    labels, scores, weights = data
    assert ours(labels, scores) == pytest.approx(reference(labels, scores), abs=1e-12)
    resampled = [reference(labels.repeat(row), scores.repeat(row)) for row in weights]
    np.testing.assert_allclose(ours(labels, scores, weights=weights), resampled, atol=1e-12)


@pytest.mark.parametrize(("ours", "reference"), PAIRS)
def test_all_scores_equal(ours, reference):
    labels = np.array([0, 1, 1, 0, 1])
    assert ours(labels, np.ones(5)) == pytest.approx(reference(labels, np.ones(5)))


@pytest.mark.parametrize("specificity", [0.0, 0.5, 0.8, 0.95, 1.0])
def test_sensitivity_at_other_specificities(data, specificity):
    labels, scores, weights = data
    found = sensitivity_at_specificity(labels, scores, specificity=specificity, weights=weights)
    resamples = [np.arange(80).repeat(row) for row in weights]
    expected = [sensitivity_from_curve(labels[rows], scores[rows], specificity) for rows in resamples]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    called = [scores >= t for t in [*scores, np.inf]]
    specific = [c for c in called if recall_score(labels, c, pos_label=0) >= specificity - 1e-12]
    best = max(recall_score(labels, c) for c in specific)
    assert sensitivity_at_specificity(labels, scores, specificity=specificity) == pytest.approx(best, abs=1e-12)


def test_sensitivity_of_a_curve_by_hand():
    # From the highest score down, the curve's (false, true) positives: (0, 1), (1, 1), (1, 2), (2, 2), (2, 3), ...
    positives, negatives = [0.9, 0.7, 0.5, 0.2], [0.8, 0.6, 0.4, 0.3, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1]
    labels, scores = [1] * 4 + [0] * 10, positives + negatives
    found = [float(sensitivity_at_specificity(labels, scores, specificity=s)) for s in (1, 0.95, 0.9, 0.8, 0.5, 0)]
    assert found == [0.25, 0.25, 0.5, 0.75, 1, 1]


def test_sensitivity_where_classes_are_apart_alike_or_the_wrong_way_round():
    labels = np.repeat([0, 1], [30, 3])
    assert sensitivity_at_specificity(labels, labels) == 1
    assert sensitivity_at_specificity(labels, -labels) == 0
    assert sensitivity_at_specificity(labels, np.full(33, 0.3)) == 0
    # Both classes spread evenly over tied scores: a threshold can cut a tenth of each off, but not of five scores.
    both = np.repeat([0, 1], 50)
    assert sensitivity_at_specificity(both, np.arange(100) % 10) == 0.1
    assert sensitivity_at_specificity(both, np.arange(100) % 5) == 0
    rng = np.random.default_rng(0)
    assert sensitivity_at_specificity(rng.integers(0, 2, 50_000), rng.random(50_000)) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("tied", [False, True])
def test_a_specificity_that_is_just_reached_counts(tied):
    # The positives lie below (or level with) a tenth of the negatives, or below one more.
    for tenth in range(1, 60):
        labels = np.r_[np.zeros(10 * tenth, int), 1, 1]
        for above, expected in ((tenth, 1), (tenth + 1, 0)):
            scores = np.r_[np.where(np.arange(10 * tenth) < above, 0.5 if tied else 0.6, 0.4), 0.5, 0.5]
            assert sensitivity_at_specificity(labels, scores) == expected


def test_class_recall_equals_sklearn(data):
    rng = np.random.default_rng(1)
    truth, predicted, weights = rng.integers(0, 3, 80), rng.integers(0, 3, 80), data[2]
    np.testing.assert_allclose(class_recall(truth, predicted), recall_score(truth, predicted, average=None))
    expected = [recall_score(truth.repeat(row), predicted.repeat(row), average=None) for row in weights]
    np.testing.assert_allclose(class_recall(truth, predicted, weights=weights), expected)


@pytest.mark.parametrize(
    ("labels", "scores", "weights", "message"),
    [
        ([1, 1], [0.1, 0.2], None, "at least one negative image"),
        ([0, 0], [0.1, 0.2], None, "at least one positive image"),
        ([0, 1], [0.1, 0.2], [[1, 0]], "resample by class"),
        ([0, 2], [0.1, 0.2], None, r"labels: expected 0 \(negative\) and 1 \(positive\) only, got \[0, 2\]"),
        ([0, 1], [0.1, np.nan], None, "scores: expected finite numbers, got 1"),
        ([0, 1], [0.1, 0.2, 0.3], None, r"the shape of labels \[N\], got \[3\] for labels of shape \[2\]"),
        ([0, 1], [0.1, 0.2], [1, 1], r"weights: expected the shape \[R, 2\].*got \[2\]"),
    ],
)
def test_bad_input(labels, scores, weights, message):
    with pytest.raises(ValueError, match=message):
        roc_auc(labels, scores, weights=weights)


@pytest.mark.parametrize("specificity", [-0.1, 90, float("nan")])
def test_specificity_out_of_range(specificity):
    with pytest.raises(ValueError, match=r"specificity: expected a number from 0 to 1, such as 0.9, got"):
        sensitivity_at_specificity([0, 1], [0.1, 0.2], specificity=specificity)


def test_class_recall_bad_input():
    with pytest.raises(ValueError, match=r"predicted: expected the shape of labels \[2\], got \[1\]"):
        class_recall([0, 1], [0])
    with pytest.raises(ValueError, match="at least one image of every class"):
        class_recall([0, 2], [0, 2])
    with pytest.raises(ValueError, match="labels: expected class numbers 0, 1, ..., got 0.9 in 1 image"):
        class_recall([0, 0.9], [0, 0])
