"""What the benchmark measures of logits, where it is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.adaptation.cross_fitting import compare, macro_auc, measure, softmax


def drawn(sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from known probabilities, and the logits of these made so many times as sure."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3))
    labels = (rng.random((4000, 1)) > softmax(logits).cumsum(1)).sum(1)
    return labels, sharpness * logits


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_is_how_much_too_sure_it_was(sharpness):
    found = measure(*drawn(sharpness))
    assert found["temperature"] == pytest.approx(sharpness, rel=0.08)
    assert found["nll_at_temperature"] <= found["nll"] and found["ece_at_temperature"] < 0.03
    assert found["nll_at_temperature"] == pytest.approx(measure(*drawn(1.0))["nll"], abs=2e-3)


def test_macro_auc_is_that_of_scikit_learn_weighted_or_not():
    labels, logits = drawn(1.0)
    labels, scores = labels[:200], softmax(logits[:200])
    weights = np.random.default_rng(1).integers(0, 3, (4, 200))
    expected = [roc_auc_score(np.eye(3)[labels], scores, sample_weight=row) for row in weights]
    assert macro_auc(labels, scores, weights) == pytest.approx(expected)
    assert float(macro_auc(labels, scores)) == pytest.approx(roc_auc_score(np.eye(3)[labels], scores))


def test_differences_are_those_from_in_sample():
    labels, logits = drawn(1.0)
    labels, logits = labels[:300], logits[:300]
    found = compare([labels], [{"in_sample": 3 * logits, "views": logits}])
    assert all(found["in_sample"][0][name]["value"] == 0 for name in ("macro_auc", "nll"))
    apart = measure(labels, logits)["nll"] - measure(labels, 3 * logits)["nll"]
    assert found["views"][0]["nll"]["value"] == pytest.approx(apart)
    assert found["views"][0]["nll"]["low"] <= apart <= found["views"][0]["nll"]["high"] < 0
    json.dumps(found)
