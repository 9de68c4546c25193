"""The predictive rule for the mean: it decides by forecast, and what is reported of a stopped image says the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from monai_diffclf.classification import (
    DenoisingErrors,
    DifferenceModel,
    Look,
    PredictiveCurtailment,
    SequentialTest,
    VoteModel,
    classify_errors,
    mean_errors,
    replay,
)
from monai_diffclf.classification.replay import classify_draws, mean_weights, run_draws
from monai_diffclf.classification.stopping import ForecastingRule

MODEL = DifferenceModel((-2.0, 2.0), (0.01, 0.3, 4.0), ((0.2, 0.1, 0.0), (0.1, 0.4, 0.1), (0.0, 0.1, 2.0)), 12.0)
DRAWS = 64
LOG_SNR = torch.linspace(6, -6, DRAWS)[torch.randperm(DRAWS, generator=torch.Generator().manual_seed(0))]
ONES = torch.ones(DRAWS, dtype=torch.float64)


def simulate(images: int, classes: int, seed: int = 0) -> DenoisingErrors:
    """Errors whose differences are from the model, on a level that all classes share."""
    rng = np.random.default_rng(seed)
    band = np.searchsorted(MODEL.edges, LOG_SNR.double().numpy())
    scale = np.sqrt(MODEL.degrees / rng.chisquare(MODEL.degrees, size=(images, 1, 1)) / 2)
    means = rng.multivariate_normal(np.zeros(3), MODEL.covariance, size=(images, classes))
    noise = rng.normal(size=(images, classes, DRAWS)) * np.sqrt(MODEL.noise)[band]
    level = 20 + 10 * torch.tanh(LOG_SNR)
    return DenoisingErrors(
        (level + torch.from_numpy(scale * (means[:, :, band] + noise))).float(), torch.arange(DRAWS), LOG_SNR
    )


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.9])
def test_the_class_is_the_one_that_was_decided(alpha, classes):
    errors, rule = simulate(400, classes), PredictiveCurtailment(alpha, MODEL)
    left: dict[int, int] = {}

    class Noted(PredictiveCurtailment):
        """Says of each image, known by its first value, which class was left when it was decided."""

        def remaining(self, look: Look) -> torch.Tensor:
            racing = super().remaining(look)
            for image in (racing.sum(1) == 1).nonzero().flatten().tolist():
                left[int(look.scores[image, 0, 0] * 1e6)] = int(racing[image].int().argmax())
            return racing

    result = replay(errors, Noted(alpha, MODEL), rule="mean")
    first = rule.for_draws(ONES, LOG_SNR, "mean").order(DRAWS)[0]
    for image, predicted in enumerate(result.predicted.tolist()):
        key = int(-errors.values[image, 0, first].double() * 1e6)
        assert left.get(key, predicted) == predicted
    assert len(left) > 300
    assert torch.equal(result.predicted, result.probabilities.argmax(1))
    assert torch.equal(result.predicted, result.mean_error.argmin(1))
    assert result.decided.all()


def test_wrong_no_more_often_than_promised_and_sooner_than_as_they_come():
    errors = simulate(3000, 2)
    full = classify_errors(errors, "mean").predicted
    for alpha in (0.01, 0.05, 0.2):
        rule = PredictiveCurtailment(alpha, MODEL)
        chosen = replay(errors, rule, rule="mean")
        wrong = int((chosen.predicted != full).sum())
        assert stats.binomtest(wrong, 3000).proportion_ci(0.998).low < alpha

        class AsTheyCome(PredictiveCurtailment):
            def for_draws(self, weights: torch.Tensor, log_snr: torch.Tensor, rule: str) -> PredictiveCurtailment:
                return self

        values = torch.full_like(errors.values, torch.nan)
        blank = DenoisingErrors(values, errors.timesteps, errors.log_snr)
        made, _ = run_draws(blank, lambda i, d, c: errors.values[i][:, :, d], AsTheyCome(alpha, MODEL), rule="mean")
        assert chosen.network_evaluations.double().mean() < 0.8 * made.network_evaluations.double().mean()


def test_draws_come_in_the_order_that_tells_most():
    errors = simulate(50, 2)
    result = replay(errors, PredictiveCurtailment(0.05, MODEL), rule="mean")
    order = MODEL.forecast(ONES, LOG_SNR, choose=True).order
    made = result.errors.evaluated[:, 0, order].int()
    assert (made.diff(dim=1) <= 0).all()
    assert (made.sum(1) >= 4).all()
    assert (made.sum(1) % 2 == 0).all()
    assert not torch.equal(order, torch.arange(DRAWS))
    known = PredictiveCurtailment(0.05, MODEL).for_draws(ONES, LOG_SNR, "mean")
    assert torch.equal(known.order(DRAWS), order)
    assert repr(known) == repr(PredictiveCurtailment(0.05, MODEL))


@pytest.mark.parametrize("model", [None, VoteModel(0.5), MODEL], ids=["none", "votes", "differences"])
def test_votes_are_made_as_they_come(model):
    errors = simulate(50, 3)
    stopping = PredictiveCurtailment(0.05, model)
    result = replay(errors, stopping, rule="vote")
    made = result.errors.evaluated.any(1).int()
    assert (made.diff(dim=1) <= 0).all()
    assert torch.equal(result.mean_error, mean_errors(result.errors))
    assert torch.equal(result.predicted, classify_errors(result.errors, "vote").predicted)


def test_without_a_fitted_model_what_was_made_decides():
    errors, stopping = simulate(50, 3), PredictiveCurtailment(0.1)
    result = replay(errors, stopping, rule="mean")
    assert (result.errors.evaluated.any(1).int().diff(dim=1) <= 0).all()
    assert torch.equal(result.mean_error, classify_errors(result.errors, "mean").mean_error)
    assert torch.equal(mean_weights(result.errors, stopping, "uniform"), torch.ones(50, DRAWS).double())


def test_looks_first_after_four_draws_and_then_every_two():
    assert PredictiveCurtailment().looks(11) == [4, 6, 8, 10, 11]


def test_probabilities_are_those_of_the_mean_errors_forecast():
    errors, stopping = simulate(30, 3), PredictiveCurtailment(0.1, MODEL)
    result = replay(errors, stopping, rule="mean", temperature=3.0)
    scores = -0.5 * result.mean_error / 3.0
    torch.testing.assert_close(result.probabilities.double(), scores.softmax(1), atol=1e-6, rtol=1e-5)
    again = classify_draws(result.errors, stopping, rule="mean", temperature=3.0)
    assert torch.equal(again.probabilities, result.probabilities), "a function of the draws that were made"
    # The level is that of all draws to a few per cent; the mean of the draws made is not.
    full = classify_errors(errors, "mean").mean_error.amin(1)
    assert ((result.mean_error.amin(1) / full - 1).abs() < 0.1).double().mean() > 0.9


@pytest.mark.parametrize("weighting", ["uniform", "min_snr", torch.linspace(0.1, 3, DRAWS)], ids=str)
def test_weights_of_the_draws_give_the_differences(weighting):
    errors, stopping = simulate(40, 2), PredictiveCurtailment(0.05, MODEL)
    result = replay(errors, stopping, rule="mean", weighting=weighting)
    weights = mean_weights(result.errors, stopping, weighting)
    assert weights.shape == (40, DRAWS)
    assert (weights[~result.errors.evaluated.any(1)] == 0).all()
    leads = torch.nan_to_num(result.errors.values[:, 0] - result.errors.values[:, 1]).double()
    torch.testing.assert_close(
        (weights * leads).sum(1) / DRAWS, result.mean_error[:, 0] - result.mean_error[:, 1], atol=1e-9, rtol=1e-6
    )
    assert torch.equal(mean_weights(errors, None, "uniform"), torch.ones(40, DRAWS).double())
    assert torch.equal(mean_weights(errors, SequentialTest(), "uniform"), torch.ones(40, DRAWS).double())


def test_a_model_of_votes_is_refused_for_the_mean():
    message = r"model: expected a DifferenceModel for the rule 'mean', got VoteModel\(concentration=1.0\)"
    with pytest.raises(ValueError, match=message):
        replay(simulate(5, 2), PredictiveCurtailment(0.1, VoteModel()), rule="mean")


def test_undecided_images_are_forecast_too():
    errors = simulate(200, 2)
    result = replay(errors, PredictiveCurtailment(1e-4, MODEL, max_draws=9), rule="mean")
    assert 0 < (~result.decided).sum() < 200
    assert (result.network_evaluations[~result.decided] == 18).all()
    assert torch.equal(result.predicted, result.mean_error.argmin(1))
    forecast = PredictiveCurtailment(1e-4, MODEL).mean_errors(result.errors)
    torch.testing.assert_close(result.mean_error, forecast)


def test_is_a_forecasting_rule():
    assert isinstance(PredictiveCurtailment(), ForecastingRule)
    assert not isinstance(SequentialTest(), ForecastingRule)
