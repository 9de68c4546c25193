"""Conformal sets: against MAPIE and brute force, and their exact coverage on exchangeable data."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from mapie.classification import SplitConformalClassifier
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin

from monai_diffclf.uncertainty import ConformalSets, fit_conformal


def make(count: int, classes: int = 3, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and labels; the classes are of different size, and the probabilities are not calibrated."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(count, classes, generator=generator).double() - 0.7 * torch.arange(classes)
    labels = torch.multinomial(scores.softmax(1), 1, generator=generator)[:, 0]
    return (2 * scores).softmax(1), labels


def by_hand(probabilities, labels, new, confidence, per_class) -> np.ndarray:
    """p-values from their definition, with loops."""
    p = np.zeros(new.shape)
    for i, row in enumerate(new.tolist()):
        for k, value in enumerate(row):
            used = [
                q[y] for q, y in zip(probabilities.tolist(), labels.tolist(), strict=True) if not per_class or y == k
            ]
            p[i, k] = (1 + sum(1 - q >= 1 - value for q in used)) / (len(used) + 1)
    return p


class Given(ClassifierMixin, BaseEstimator):
    """Hands its input through as the probabilities."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x):
        return x

    def predict(self, x):
        return x.argmax(1)


@pytest.mark.parametrize("per_class", [True, False])
@pytest.mark.parametrize("confidence", [0.7, 0.9])
def test_against_brute_force(per_class, confidence):
    probabilities, labels = make(120)
    new, _ = make(40, seed=1)
    fitted = fit_conformal(probabilities, labels, confidence=confidence, per_class=per_class)
    expected = by_hand(probabilities, labels, new, confidence, per_class)
    np.testing.assert_allclose(fitted.p_values(new).numpy(), expected, atol=1e-12)
    sets = fitted.sets(new, allow_empty=True).numpy()
    assert np.array_equal(sets, expected > 1 - confidence + 1e-12)


@pytest.mark.parametrize("count", [99, 100, 157])
@pytest.mark.parametrize("confidence", [0.7, 0.9, 0.95])
def test_against_mapie(count, confidence):
    probabilities, labels = make(count)
    new, _ = make(500, seed=1)
    mapie = SplitConformalClassifier(
        Given().fit(None, [0, 1, 2]), confidence_level=confidence, conformity_score="lac", prefit=True
    ).conformalize(probabilities.numpy(), labels.numpy())
    expected = mapie.predict_set(new.numpy())[1][:, :, 0]
    fitted = fit_conformal(probabilities, labels, confidence=confidence, per_class=False)
    assert np.array_equal(fitted.sets(new, allow_empty=True).numpy(), expected)


@pytest.mark.parametrize("per_class", [True, False])
def test_coverage_is_exact(per_class):
    # Of m exchangeable images a beta-binomial number is covered, whatever the classifier (Angelopoulos and Bates 2023).
    probabilities, labels = make(300 * 150, 2)
    covered, expected, variance = 0, 0.0, 0.0
    for p, y in zip(probabilities.split(150), labels.split(150), strict=True):
        fitted = fit_conformal(p[:60], y[:60], confidence=0.9, per_class=per_class)
        covered += int(fitted.sets(p[60:], allow_empty=True).gather(1, y[60:, None]).sum())
        counts = [torch.bincount(part) for part in (y[:60], y[60:])]
        for size, images in zip(*counts, strict=True) if per_class else [(60, 90)]:
            rank = math.ceil((int(size) + 1) * 0.9 - 1e-9)
            law = stats.betabinom(int(images), rank, int(size) + 1 - rank)
            expected, variance = expected + law.mean(), variance + law.var()
    assert abs(covered - expected) < 4 * math.sqrt(variance)
    assert 4 * math.sqrt(variance) < 0.015 * expected, "else the test would not notice a wrong level"


def test_per_class_keeps_its_promise_in_every_class():
    probabilities, labels = make(6000)
    fitted = {kind: fit_conformal(probabilities[:3000], labels[:3000], per_class=kind) for kind in (True, False)}
    hits = {
        kind: conformal.sets(probabilities[3000:], allow_empty=True).gather(1, labels[3000:, None])[:, 0]
        for kind, conformal in fitted.items()
    }
    rates = {kind: [float(hit[labels[3000:] == k].float().mean()) for k in range(3)] for kind, hit in hits.items()}
    assert min(rates[True]) > 0.87
    assert min(rates[False]) < 0.8, "the average over the classes hides the rare one"


def test_ties_are_covered_rather_too_often():
    probabilities, labels = make(4000)
    coarse = (probabilities * 4).round() / 4
    whole = coarse.sum(1) == 1
    coarse, labels = coarse[whole], labels[whole]
    half = len(labels) // 2
    fitted = fit_conformal(coarse[:half], labels[:half], confidence=0.8)
    hit = fitted.sets(coarse[half:], allow_empty=True).gather(1, labels[half:, None])
    assert float(hit.float().mean()) > 0.8


def test_never_empty_unless_asked():
    fitted = ConformalSets(([0.1] * 20, [0.1] * 20, [0.1] * 20), confidence=0.9)
    unusual = torch.tensor([[0.4, 0.35, 0.25], [0.2, 0.3, 0.5]])
    assert fitted.sets(unusual, allow_empty=True).sum() == 0
    assert fitted.sets(unusual).tolist() == [[True, False, False], [False, False, True]]


def test_sets_grow_with_the_confidence(device):
    probabilities, labels = make(300)
    fitted = fit_conformal(probabilities, labels)
    new = make(50, seed=1)[0].to(device)
    small, large = fitted.sets(new, 0.6), fitted.sets(new, 0.95)
    assert small.device.type == device and small.dtype == torch.bool
    assert (large | ~small).all() and large.sum() > small.sum()
    assert torch.equal(fitted.sets(new), fitted.sets(new, 0.9))
    assert fitted.sets(new[:0]).shape == (0, 3)


def test_round_trip():
    probabilities, labels = make(100)
    fitted = fit_conformal(probabilities, labels, per_class=False, provenance={"network": "0123"})
    found = ConformalSets.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert found == fitted
    with pytest.raises(ValueError, match="values: expected scores, it is missing"):
        ConformalSets.from_dict({"confidence": 0.9, "per_class": True})


@pytest.mark.parametrize(("confidence", "needed"), [(0.5, 1), (0.75, 3), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_smallest_calibration_set(confidence, needed):
    # With one image fewer no p-value could be as small as 1 - confidence, so that every set would hold every class.
    assert ConformalSets(([0.1] * needed, [0.1] * needed), confidence).p_values(torch.tensor([[0.5, 0.5]])).max() <= (
        1 - confidence + 1e-9
    )
    with pytest.raises(ValueError, match=f"needs at least {needed} calibration images of each, got {needed - 1} of cl"):
        ConformalSets(([0.1] * needed, [0.1] * (needed - 1)), confidence)
    assert ConformalSets(([0.1] * (needed - 1), [0.1]), confidence, per_class=False)
    with pytest.raises(ValueError, match=f"needs at least {needed} calibration images, got {needed - 1}; add images"):
        ConformalSets(([0.1] * (needed - 1), []), confidence, per_class=False)


def test_refuses_a_level_out_of_reach_later():
    fitted = ConformalSets(([0.1] * 9, [0.2] * 12))
    with pytest.raises(
        ValueError, match=r"confidence: 0.95 in every class needs at least 19 .* 9 of class 0, 12 of cl"
    ):
        fitted.sets(torch.tensor([[0.5, 0.5]]), 0.95)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 90, float("nan"), "high"])
def test_refuses_no_confidence(confidence):
    with pytest.raises(ValueError, match="confidence: expected a number between 0 and 1, got"):
        ConformalSets(([0.1] * 9, [0.2] * 9), confidence)


def test_refuses_other_input():
    fitted = ConformalSets(([0.1] * 9, [0.2] * 9))
    with pytest.raises(ValueError, match="probabilities: expected 2 classes, as in the fit, got 3"):
        fitted.sets(torch.full((1, 3), 1 / 3))
    with pytest.raises(ValueError, match="probabilities: expected numbers in"):
        fit_conformal(torch.randn(50, 2), torch.arange(50) % 2)
    with pytest.raises(ValueError, match="labels: expected class numbers from 0 to 1, got 2"):
        fit_conformal(torch.full((50, 2), 0.5), torch.arange(50) % 3)
    with pytest.raises(ValueError, match="scores: expected those of at least two classes, got 1"):
        ConformalSets(([0.1] * 9,))
