# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, recall_score, roc_auc_score

from monai_diffclf.metrics import average_precision, class_recall, roc_auc

PAIRS = [(roc_auc, roc_auc_score), (average_precision, average_precision_score)]


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


def test_class_recall_bad_input():
    with pytest.raises(ValueError, match=r"predicted: expected the shape of labels \[2\], got \[1\]"):
        class_recall([0, 1], [0])
    with pytest.raises(ValueError, match="at least one image of every class"):
        class_recall([0, 2], [0, 2])
