"""How much each draw counts: by name, by level, by number."""

from __future__ import annotations

import json

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import DenoisingErrors, LevelWeights, draw_weights
from monai_diffclf.classification.draw_weights import check_weighting
from monai_diffclf.inferers import DiffusionClassifierInferer

LOG_SNR = torch.linspace(6, -6, 11)


def make(importance: torch.Tensor | None = None) -> DenoisingErrors:
    values = torch.rand(4, 3, 11, generator=torch.Generator().manual_seed(0))
    return DenoisingErrors(values, torch.arange(11), LOG_SNR, LOG_SNR.abs() + 0.5, 16, importance)


def test_by_name():
    errors, snr = make(), LOG_SNR.double().exp()
    assert torch.equal(draw_weights(errors), torch.ones(11, dtype=torch.float64))
    torch.testing.assert_close(draw_weights(errors, "elbo"), errors.log_snr_rate.double())
    torch.testing.assert_close(draw_weights(errors, "min_snr", gamma=2.0), snr.clamp(max=2.0) / snr)


def test_by_level():
    weights = LevelWeights(edges=(-3.0, 0.5), weights=(1.0, 0.0, 4.0))
    expected = [1.0 if x < -3 else 0.0 if x < 0.5 else 4.0 for x in LOG_SNR.tolist()]
    assert draw_weights(make(), weights).tolist() == expected
    assert draw_weights(make(), weights).dtype == torch.float64
    assert LevelWeights((), (2.0,)).at(LOG_SNR).tolist() == [2.0] * 11


def test_by_level_does_not_depend_on_the_order_of_draws():
    weights, order = LevelWeights(edges=(-3.0, 0.5), weights=(1.0, 0.0, 4.0)), torch.randperm(11)
    assert torch.equal(draw_weights(make().select(order), weights), draw_weights(make(), weights)[order])


def test_by_number():
    weights = torch.arange(11.0)
    assert draw_weights(make(), weights).tolist() == weights.tolist()
    assert draw_weights(make(), weights).dtype == torch.float64


@pytest.mark.parametrize("weighting", ["uniform", "elbo", "min_snr", LevelWeights((0.0,), (1.0, 2.0)), torch.ones(11)])
def test_importance_multiplies(weighting):
    importance = torch.rand(11, generator=torch.Generator().manual_seed(1)) + 0.5
    expected = draw_weights(make(), weighting) * importance.double()
    torch.testing.assert_close(draw_weights(make(importance), weighting), expected)


def test_on_the_device_of_the_errors(device):
    errors = make(torch.ones(11)).to(device)
    for weighting in ("uniform", "elbo", "min_snr", LevelWeights((0.0,), (1.0, 2.0)), torch.ones(11)):
        assert draw_weights(errors, weighting).device.type == device


def test_level_weights_survive_json():
    weights = LevelWeights(edges=(-3.0, 0.1), weights=(1.0, 0.0, 1 / 3))
    again = LevelWeights.from_dict(json.loads(json.dumps({**weights.to_dict(), "network": "abc"})))
    assert again == weights
    with pytest.raises(ValueError, match=r"values: expected edges and weights, \['weights'\] missing"):
        LevelWeights.from_dict({"edges": [0.0]})


@pytest.mark.parametrize(
    ("edges", "weights", "message"),
    [
        ((0.0,), (1.0,), "weights: expected one a band, 2 with 1 edges between, got 1"),
        ((), (), "weights: expected one a band, 1 with 0 edges between, got 0"),
        ((0.0,), (1.0, -0.1), r"weights: expected numbers of at least 0, not all 0, got \[1.0, -0.1\]"),
        ((0.0,), (0.0, 0.0), "weights: expected numbers of at least 0, not all 0"),
        ((0.0,), (1.0, float("nan")), "weights: expected numbers of at least 0, not all 0"),
        ((0.0,), (1.0, float("inf")), "weights: expected numbers of at least 0, not all 0"),
        ((1.0, 0.0), (1.0, 1.0, 1.0), r"edges: expected ascending log-SNR values, got \[1.0, 0.0\]"),
        ((1.0, 1.0), (1.0, 1.0, 1.0), "edges: expected ascending log-SNR values"),
        ((float("nan"), 1.0), (1.0, 1.0, 1.0), "edges: expected ascending log-SNR values"),
    ],
)
def test_level_weights_are_checked(edges, weights, message):
    with pytest.raises(ValueError, match=message):
        LevelWeights(edges, weights)


@pytest.mark.parametrize(
    ("weighting", "message"),
    [
        ("snr", r"weighting: expected one of \['uniform', 'elbo', 'min_snr'\], LevelWeights or a tensor, got 'snr'"),
        (None, "LevelWeights or a tensor, got None"),
        (torch.ones(10), r"weighting: expected one weight a draw, \[11\], got \[10\]"),
        (torch.ones(11, 1), r"weighting: expected one weight a draw, \[11\], got \[11, 1\]"),
        (torch.tensor([1.0] * 10 + [-1.0]), "weighting: expected finite weights of at least 0, not all 0"),
        (torch.tensor([1.0] * 10 + [torch.nan]), "weighting: expected finite weights of at least 0, not all 0"),
        (torch.tensor([1.0] * 10 + [torch.inf]), "weighting: expected finite weights of at least 0, not all 0"),
        (torch.zeros(11), "weighting: expected finite weights of at least 0, not all 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_weightings_are_checked_before_and_after_the_draws(weighting, message):
    with pytest.raises(ValueError, match=message):
        draw_weights(make(), weighting)
    with pytest.raises(ValueError, match=message):
        check_weighting(weighting, 11)


def test_what_a_weighting_needs():
    with pytest.raises(ValueError, match="gamma: expected a positive number, got 0"):
        draw_weights(make(), "min_snr", gamma=0)
    bare = DenoisingErrors(make().values, torch.arange(11), LOG_SNR)
    with pytest.raises(ValueError, match="weighting 'elbo' needs errors.log_snr_rate"):
        draw_weights(bare, "elbo")


def test_learned_weights_that_count_no_draw_are_refused_before_and_after_the_draws():
    weights = LevelWeights(edges=(1.5, 5.0), weights=(0.0, 1.0, 0.0))
    errors = DenoisingErrors(torch.rand(2, 3, 2), torch.arange(2), torch.tensor([-3.0, 0.5]))
    with pytest.raises(ValueError, match=r"weighting: expected a draw at a log-SNR .* 1.5 to 5, got 2 at -3 to 0.5"):
        draw_weights(errors, weights)
    scheduler = DDPMScheduler(1000, schedule="linear_log_snr", log_snr_min=-6.0, log_snr_max=5.0)
    DiffusionClassifierInferer(scheduler, 3, num_draws=11, weighting=weights)
    with pytest.raises(ValueError, match="give noise_levels in that range"):
        DiffusionClassifierInferer(scheduler, 3, num_draws=1, weighting=weights)
    DiffusionClassifierInferer(scheduler, 3, num_draws=1, weighting=weights, noise_levels=[3.0])
