"""Totals forecast draw by draw: against the Gaussian conditioned by the book, and the best next draw by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_diffclf.classification import DenoisingErrors, DifferenceModel, classify_errors, mean_errors
from monai_diffclf.classification.forecast import Forecast

MODEL = DifferenceModel((-2.0, 2.0), (0.05, 0.3, 2.0), ((0.2, 0.1, 0.0), (0.1, 0.4, 0.1), (0.0, 0.1, 1.0)), degrees=6.0)
FLAT = DifferenceModel((), (1.0,), ((0.4,),), degrees=0.0)
DRAWS = 24
LOG_SNR = torch.linspace(6, -6, DRAWS).double()[torch.randperm(DRAWS, generator=torch.Generator().manual_seed(0))]
WEIGHTS = {
    "equal": torch.ones(DRAWS).double(),
    "other": torch.rand(DRAWS, generator=torch.Generator().manual_seed(1)).double() + 0.2,
}


def covariance(model: DifferenceModel, log_snr: torch.Tensor) -> np.ndarray:
    """Covariance of the draws' differences [N, N], written out."""
    band = np.searchsorted(np.asarray(model.edges), log_snr.numpy())
    return np.asarray(model.covariance)[np.ix_(band, band)] + np.diag(np.asarray(model.noise)[band])


def conditioned(sigma: np.ndarray, w: np.ndarray, made: list[int]) -> tuple[np.ndarray, float]:
    """By the book: weights of the draws made in the total's mean, and its variance that is left."""
    rest = [i for i in range(len(w)) if i not in made]
    within = np.linalg.inv(sigma[np.ix_(made, made)])
    across = w[rest] @ sigma[np.ix_(rest, made)]
    return w[made] + across @ within, w[rest] @ sigma[np.ix_(rest, rest)] @ w[rest] - across @ within @ across


@pytest.mark.parametrize("choose", [True, False])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("model", [MODEL, FLAT], ids=["levels", "flat"])
def test_against_the_conditional_gaussian(model, weights, choose):
    w = WEIGHTS[weights]
    forecast = model.forecast(w, LOG_SNR, choose=choose)
    sigma, order = covariance(model, LOG_SNR), forecast.order.tolist()
    assert sorted(order) == list(range(DRAWS))
    assert choose or order == list(range(DRAWS))
    x = torch.randn(5, DRAWS, generator=torch.Generator().manual_seed(2)).double()
    for made in (1, 2, 7, DRAWS - 1):
        share, left = conditioned(sigma, w.numpy(), order[:made])
        assert np.allclose(forecast.share[made - 1, :made], share)
        assert np.isclose(forecast.spread[made - 1], left)
        ordered = x[:, order[:made]]
        assert np.allclose(forecast.totals(ordered), ordered.numpy() @ share)
        lead, degrees = forecast.lead(ordered)
        squares = np.einsum("mi,ij,mj->m", ordered, np.linalg.inv(sigma[np.ix_(order[:made], order[:made])]), ordered)
        assert degrees == model.degrees + made
        assert np.allclose(lead, ordered.numpy() @ share / np.sqrt(left * (model.degrees + squares) / degrees))
    assert torch.allclose(forecast.totals(x[:, order]), x @ w), "after all draws it is no forecast"
    assert forecast.spread[-1] == 0


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_next_draw_leaves_least_variance(weights):
    w = WEIGHTS[weights]
    order, sigma = MODEL.forecast(w, LOG_SNR, choose=True).order.tolist(), covariance(MODEL, LOG_SNR)
    for made in range(10):
        left = {i: conditioned(sigma, w.numpy(), [*order[:made], i])[1] for i in range(DRAWS) if i not in order[:made]}
        assert left[order[made]] == pytest.approx(min(left.values()), rel=1e-9)


def test_levels_alike_are_taken_as_they_come():
    assert FLAT.forecast(WEIGHTS["equal"], LOG_SNR, choose=True).order.tolist() == list(range(DRAWS))
    heavy = FLAT.forecast(WEIGHTS["other"], LOG_SNR, choose=True).order
    assert torch.equal(heavy, WEIGHTS["other"].argsort(descending=True, stable=True)), "heavy ones first"


def test_a_band_without_draws():
    narrow = MODEL.forecast(torch.ones(6), torch.linspace(3, 5, 6), choose=True)
    assert narrow.order.tolist() == list(range(6))
    assert torch.isfinite(narrow.whiten).all()


def test_images_all_alike_do_not_break_it():
    # Fitted to such images the noise is 1e-12 of the covariance.
    model = DifferenceModel((), (1e-12,), ((1.0,),), 40.0)
    forecast = model.forecast(torch.ones(501), torch.zeros(501), choose=True)
    assert torch.isfinite(forecast.whiten).all()
    assert forecast.totals(torch.full((1, 3), 0.5, dtype=torch.float64)).item() == pytest.approx(250.5)


def test_worked_out_once():
    w = WEIGHTS["equal"]
    assert MODEL.forecast(w, LOG_SNR) is MODEL.forecast(w.clone(), LOG_SNR.clone())
    assert MODEL.forecast(w, LOG_SNR) is not MODEL.forecast(w, LOG_SNR, choose=True)
    assert MODEL.forecast(w, LOG_SNR) is not MODEL.forecast(2 * w, LOG_SNR)
    as_lists = DifferenceModel(list(MODEL.edges), list(MODEL.noise), [list(row) for row in MODEL.covariance], 6.0)
    assert as_lists.forecast(w, LOG_SNR) is MODEL.forecast(w, LOG_SNR), "models as a JSON file gives them"


def stopped(made: list[list[int]], order: list[int], seed: int = 0) -> DenoisingErrors:
    """Errors [image, class, draw] of which each class has its first draws in an order, made[image][class] of them."""
    values = torch.rand(len(made), len(made[0]), DRAWS, generator=torch.Generator().manual_seed(seed))
    for image, counts in enumerate(made):
        for k, count in enumerate(counts):
            values[image, k, order[count:]] = torch.nan
    return DenoisingErrors(values, torch.arange(DRAWS), LOG_SNR, num_elements=4)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_mean_errors_of_images_that_stopped(weights):
    w = WEIGHTS[weights]
    forecast = MODEL.forecast(w, LOG_SNR, choose=True)
    order = forecast.order.tolist()
    errors = stopped([[6, 6, 6], [9, 9, 4], [DRAWS] * 3, [9, 0, 9]], order)
    got, values = forecast.mean_errors(errors, w), errors.values.double()
    assert torch.equal(got[2], mean_errors(errors, w)[2]), "all draws made: nothing to forecast"
    sigma = covariance(MODEL, LOG_SNR)

    def difference(image: int, a: int, b: int, made: int) -> float:
        share = conditioned(sigma, w.numpy(), order[:made])[0]
        return float((values[image, a] - values[image, b])[order[:made]].numpy() @ share) / DRAWS

    assert got[0, 1] - got[0, 0] == pytest.approx(difference(0, 1, 0, 6))
    assert got[0, 2] - got[0, 0] == pytest.approx(difference(0, 2, 0, 6))
    # A class given up earlier is compared with the best one on the draws that both have.
    best = int(got[1, :2].argmin())
    assert got[1, 2] - got[1, best] == pytest.approx(difference(1, 2, best, 4))
    assert got[3, 1] == torch.inf
    # The leader's level: each draw has the error of the one made that is nearest.
    leader = int(got[0].argmin())
    nearest = [min(order[:6], key=lambda j: abs(LOG_SNR[i] - LOG_SNR[j])) for i in range(DRAWS)]
    assert got[0, leader] == pytest.approx(float((w * values[0, leader, nearest]).sum()) / DRAWS)


def test_the_level_of_a_smooth_curve_is_nearly_right():
    curve = torch.sigmoid(LOG_SNR / 2)
    forecast = MODEL.forecast(torch.ones(DRAWS), LOG_SNR, choose=True)
    errors = stopped([[8, 8]], forecast.order.tolist())
    made = errors.evaluated
    values = torch.where(made, curve.float() + torch.tensor([0.0, 0.01])[:, None], torch.nan)
    got = forecast.mean_errors(DenoisingErrors(values, errors.timesteps, LOG_SNR), "uniform")
    assert got[0, 0].item() == pytest.approx(curve.mean().item(), rel=0.1)
    plain = mean_errors(DenoisingErrors(values, errors.timesteps, LOG_SNR))
    assert abs(plain[0, 0] - curve.mean()) > 2 * abs(got[0, 0] - curve.mean())


def test_refuses_draws_in_another_order():
    forecast = MODEL.forecast(torch.ones(DRAWS), LOG_SNR, choose=True)
    errors = stopped([[6, 6]], forecast.order.flip(0).tolist())
    with pytest.raises(ValueError, match="errors: expected the draws that this rule makes first, some are missing"):
        forecast.mean_errors(errors, "uniform")


def test_on_the_device(device):
    w = WEIGHTS["equal"]
    forecast = MODEL.forecast(w, LOG_SNR, choose=True)
    errors = stopped([[6, 6, 6], [9, 9, 4]], forecast.order.tolist())
    assert isinstance(forecast.to(device), Forecast)
    there = forecast.to(device).mean_errors(errors.to(device), "uniform")
    assert there.device.type == device
    torch.testing.assert_close(there.cpu(), forecast.mean_errors(errors, "uniform"))
    predicted = classify_errors(errors, "mean", mean_error=there.cpu()).predicted
    assert torch.equal(predicted, there.cpu().argmin(1))
