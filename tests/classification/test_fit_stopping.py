"""How boldly to stop: known probabilities of stopping for Gaussian differences, and the risk that is promised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from monai_diffclf.classification import (
    DenoisingErrors,
    DifferenceModel,
    PredictiveCurtailment,
    classify_errors,
    fit_stopping,
    replay,
)

DRAWS = 32
LOG_SNR = torch.linspace(6, -6, DRAWS)
# One band, draws that scatter by a third of an image's own mean, whose scale is known.
MEAN, NOISE, DEGREES = 1.0, 0.1, 1e6
MODEL = DifferenceModel((), (NOISE,), ((MEAN,),), DEGREES)


def gaussian(images: int, seed: int = 0, noise: float = NOISE) -> DenoisingErrors:
    """Differences of two classes N(m, noise) in each draw, with m ~ N(0, 1) an image."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(images, 1)) * MEAN**0.5 + rng.normal(size=(images, DRAWS)) * noise**0.5
    level = 50 + 5 * np.tanh(LOG_SNR.numpy())
    values = torch.from_numpy(np.stack([level + x / 2, level - x / 2], 1))
    return DenoisingErrors(values, torch.arange(DRAWS), LOG_SNR)


@pytest.mark.parametrize("alpha", [0.02, 0.2])
def test_share_that_stops_after_one_draw_is_the_one_of_the_model(alpha):
    # Given x_1 the total of the others is Gaussian: E = r x_1 N, Var = v; it is out of reach for |x_1| > z sqrt(v) / E.
    share = MEAN / (MEAN + NOISE)
    left = DRAWS - 1
    mean = 1 + left * share
    variance = left**2 * MEAN * (1 - share) + left * NOISE
    limit = stats.norm.isf(alpha) * variance**0.5 / mean
    expected = 2 * stats.norm.sf(limit / (MEAN + NOISE) ** 0.5)
    rule = PredictiveCurtailment(alpha, MODEL, block=1, min_draws=1, spending=0.0)
    spent = replay(gaussian(4000), rule, rule="mean").network_evaluations
    assert float((spent == 2).double().mean()) == pytest.approx(expected, abs=0.025)


def test_late_risk_stops_later():
    errors = gaussian(500)
    early, late = (
        replay(errors, PredictiveCurtailment(0.1, MODEL, block=1, min_draws=1, spending=s), rule="mean")
        for s in (0.0, 0.5)
    )
    assert bool((late.network_evaluations >= early.network_evaluations).all())
    default = PredictiveCurtailment(0.1, MODEL)
    assert default.spending == 0.5 and "spending" not in repr(default)
    assert "spending=0" in repr(PredictiveCurtailment(0.1, MODEL, spending=0))


def test_promised_risk_is_kept_on_average():
    # Over sets of validation images: E[disagreement on new images] <= risk, within its standard error.
    risk, new, found = 0.03, gaussian(4000, seed=999), []
    full = classify_errors(new, "mean").predicted
    for seed in range(5):
        fit = fit_stopping(gaussian(150, seed=seed), risk=risk, num_folds=2)
        result = replay(new, fit.stopping, rule="mean")
        found.append(float((result.predicted != full).double().mean()))
        assert result.guarantee == fit.stopping.guarantee and "at least 0.97" in result.guarantee
    assert np.mean(found) <= risk + 2 * np.std(found) / len(found) ** 0.5 + 0.003
    assert np.mean(found) > 0.002  # and it is made use of


def test_order_of_the_images_does_not_matter_to_the_rule():
    errors, turn = gaussian(60), torch.randperm(60, generator=torch.Generator().manual_seed(1))
    rule = fit_stopping(gaussian(200, seed=4), risk=0.02, num_folds=2).stopping
    one, other = replay(errors, rule, rule="mean"), replay(errors[turn], rule, rule="mean")
    assert torch.equal(one.predicted[turn], other.predicted)
    assert torch.equal(one.network_evaluations[turn], other.network_evaluations)
    # What was made is all that it needs: a replay of it is the same.
    again = replay(one.errors, rule, rule="mean")
    assert torch.equal(again.predicted, one.predicted) and torch.equal(again.decided, one.decided)


def test_levels_that_agree_need_one_draw():
    fit = fit_stopping(gaussian(300, noise=0.0005), risk=0.01, num_folds=2)
    assert fit.first_draw >= 0.95 and fit.disagreement <= 0.01 and fit.evaluations < 3 and fit.patients == 300


def test_patients_count_once():
    errors = gaussian(300)
    with pytest.raises(ValueError, match="risk: expected at least 0.0164 with 60 validation patients, .* got 0.01"):
        fit_stopping(errors, risk=0.01, patients=[f"P{i % 60}" for i in range(300)])
    assert fit_stopping(errors, risk=0.05, patients=[f"P{i % 60}" for i in range(300)], num_folds=2).patients == 60


def test_vote():
    fit = fit_stopping(gaussian(60), "vote", risk=0.05, num_folds=2)
    assert fit.disagreement <= 0.05 and fit.stopping.rules == ("vote", "mean", "weighted_vote")


def test_refusals():
    errors = gaussian(50)
    with pytest.raises(ValueError, match="risk: expected a probability"):
        fit_stopping(errors, risk=1.0)
    with pytest.raises(ValueError, match=r"patients: expected one patient an image, \[50\], got \[2\]"):
        fit_stopping(errors, risk=0.1, patients=["a", "b"])
    with pytest.raises(TypeError, match="errors: expected DenoisingErrors, got Tensor"):
        fit_stopping(errors.values, risk=0.1)
    for folds in (1, 2.5, "3"):
        with pytest.raises(ValueError, match="num_folds: expected a whole number of at least 2, got"):
            fit_stopping(errors, risk=0.1, num_folds=folds)
    for value, said in ((torch.nan, "some were not evaluated"), (torch.inf, "got infinity")):
        values = errors.values.clone()
        values[2, 0, 4] = value
        with pytest.raises(ValueError, match=rf"errors: expected .*{said} for image\(s\) \[2\]"):
            fit_stopping(DenoisingErrors(values, errors.timesteps, LOG_SNR), risk=0.1)
    with pytest.raises(ValueError, match="spending: expected a number from 0 to 1"):
        PredictiveCurtailment(spending=-0.1)
    with pytest.raises(ValueError, match="risk: expected a probability"):
        PredictiveCurtailment(risk=0.0)
