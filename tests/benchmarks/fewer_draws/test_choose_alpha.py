"""Alpha of the predictive rule, chosen on validation errors: the rule at all alphas at once is the rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.fewer_draws.choose_alpha import ALPHAS, choose, curve, judge, on_validation, shuffled
from monai_diffclf.classification import DifferenceModel, PredictiveCurtailment, classify_errors, replay
from monai_diffclf.storage import StoredErrors, load_errors

STORED = Path(__file__).resolve().parents[3] / "bundles" / "pneumonia_xray_diffusion" / "docs" / "evaluation"


@pytest.fixture(scope="module")
def stored() -> StoredErrors:
    """The stored validation errors."""
    return load_errors(STORED / "errors_validation_draws_501.npz")


def test_all_alphas_at_once_as_one_by_one(stored):
    errors, model = stored.errors[:100], DifferenceModel.fit(stored.errors[100:], "mean")
    spent, differ = curve(errors, model).T
    full = classify_errors(errors, "mean").predicted
    for number in (0, 6, 12):
        result = replay(errors, PredictiveCurtailment(ALPHAS[number], model), rule="mean")
        assert spent[number] == pytest.approx(float(result.network_evaluations.sum()) / 1002)
        assert differ[number] == (result.predicted != full).sum()


def test_draws_are_exchanged_among_neighbours(stored):
    errors = stored.errors[:2]
    other = shuffled(errors, 8, np.random.default_rng(0))
    by_level = errors.log_snr.argsort()
    here, there = errors.values[0, 0, by_level], other.values[0, 0, by_level]
    assert not torch.equal(here, there)
    assert torch.equal(here.sort().values, there.sort().values)
    place = {float(value): i for i, value in enumerate(here)}
    assert max(abs(place[float(value)] - i) for i, value in enumerate(there)) < 8
    assert torch.equal(errors.values[0, 0] - errors.values[0, 1] != 0, other.values[0, 0] - other.values[0, 1] != 0)


def test_the_largest_alpha_with_few_enough_that_differ(stored):
    found = {"alpha": [0.01, 0.1, 0.2], "disagreement": [0.0, 0.007, 0.009], "evaluations_ratio": [0.1, 0.05, 0.02]}
    assert choose(found, 0.99) == 0.1
    assert choose(found, 0.999) == 0.01
    with pytest.raises(SystemExit, match="no alpha of"):
        choose({**found, "disagreement": [0.1, 0.1, 0.1]}, 0.99)


def test_on_the_stored_errors(stored):
    found = on_validation(stored, repeats=1, folds=3, shuffles=2)
    assert found["evaluations_ratio"] == sorted(found["evaluations_ratio"], reverse=True)
    assert 0.05 <= choose(found, 0.99) <= 0.3
    few = judge(stored, DifferenceModel.fit(stored.errors, "mean"), 0.2, shuffles=3)
    assert few["agreement"] >= 0.985
    assert few["times_fewer"] > 30
    assert few["shuffled"]["agreement"] >= 0.985
    assert few["shuffled"]["times_fewer"] == pytest.approx(few["times_fewer"], rel=0.25)
