"""Typicality: features, distance and p-values, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from sklearn.covariance import LedoitWolf

from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.uncertainty import Typicality, fit_typicality, likelihood_score, pool_maps

DRAWS = 12


def simulate(count: int, seed: int, scale: float = 1.0, device: str = "cpu") -> DenoisingErrors:
    """Log errors with a part common to all draws of an image, and class 1 a little worse."""
    generator = torch.Generator().manual_seed(seed)
    log_snr = torch.linspace(6, -6, DRAWS)
    logs = 0.1 * log_snr + 0.3 * torch.randn(count, 1, 1, generator=generator)
    logs = logs + 0.2 * torch.randn(count, 2, DRAWS, generator=generator) + torch.tensor([0.0, 0.05])[:, None]
    return DenoisingErrors((logs.exp() * scale).to(device), torch.arange(DRAWS), log_snr)


@pytest.fixture(scope="module")
def fitted() -> Typicality:
    return fit_typicality(simulate(400, seed=0), num_bands=4)


def test_features_are_mean_log_errors_of_the_best_class(fitted):
    errors = simulate(5, seed=1)
    features, best = fitted.describe(errors)
    for b in range(5):
        k = int(errors.values[b].mean(1).argmin())
        assert int(best[b]) == k
        # Draws of descending log-SNR: the last three are the lowest band.
        bands = errors.values[b, k].double().log().reshape(4, 3).mean(1).flip(0)
        assert features[b].tolist() == pytest.approx(bands.tolist(), abs=1e-6)


def test_score_is_sklearns_distance(fitted, device):
    errors = simulate(30, seed=2, device=device)
    expected = LedoitWolf().fit(fitted.features).mahalanobis(fitted.describe(errors)[0].cpu().numpy())
    score = fitted.score(errors)
    assert score.device == errors.values.device
    assert score.cpu().numpy() == pytest.approx(expected)
    assert fitted.score(errors.values).equal(score)


def test_scores_of_gaussian_features_are_chi_squared(fitted):
    score = fitted.score(simulate(4000, seed=3)).numpy()
    for level in (0.5, 0.9, 0.99):
        assert (score < chi2.ppf(level, df=4)).mean() == pytest.approx(level, abs=0.05)


def test_p_values_are_uniform_on_images_of_the_same_distribution(fitted):
    p = fitted.p_value(simulate(4000, seed=4)).numpy()
    for level in (0.01, 0.05, 0.2, 0.5, 0.8):
        assert (p <= level).mean() == pytest.approx(level, abs=0.04)


def test_p_value_counts_validation_scores(fitted):
    scores = torch.tensor([0.0, 5.0, 1e9])
    expected = [(1 + (fitted.scores >= float(s)).sum()) / 401 for s in scores]
    assert fitted.p_value(scores).tolist() == pytest.approx(expected)
    assert fitted.p_value(scores)[2] == pytest.approx(1 / 401)
    exactly = torch.from_numpy(fitted.scores[:1].copy())
    assert float(fitted.p_value(exactly)) == pytest.approx((1 + (fitted.scores >= fitted.scores[0]).sum()) / 401)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_errors_too_small_are_as_untypical_as_errors_too_large(fitted, scale):
    assert fitted.p_value(simulate(50, seed=5, scale=scale)).max() < 0.01


def test_validation_scores_are_honest():
    """Scores of the images a fit was made on are too small; where there are few, by much."""
    few = simulate(30, seed=6)
    fitted = fit_typicality(few, num_bands=DRAWS)
    assert fitted.scores.mean() > 1.5 * fitted.score(few).mean()


def test_images_of_one_patient_are_left_out_together():
    errors = simulate(20, seed=7)
    twice = DenoisingErrors(errors.values.repeat_interleave(2, 0), errors.timesteps, errors.log_snr)
    patients = [f"P{i // 2}" for i in range(40)]
    apart = fit_typicality(twice, num_bands=DRAWS)
    together = fit_typicality(twice, num_bands=DRAWS, groups=patients)
    assert together.scores.mean() > 1.1 * apart.scores.mean()
    assert len(np.unique(together.groups)) == 20
    unnamed = fit_typicality(twice, groups=[""] * 30 + ["P"] * 10)
    assert len(np.unique(unnamed.groups)) == 31


def test_the_same_after_json(fitted):
    again = Typicality.from_dict(json.loads(json.dumps(fitted.to_dict())))
    errors = simulate(20, seed=8)
    assert again.score(errors).tolist() == pytest.approx(fitted.score(errors).tolist())
    assert again.p_value(errors).tolist() == pytest.approx(fitted.p_value(errors).tolist(), abs=0.003)
    assert again.predicted.dtype == np.int64
    with_source = fit_typicality(simulate(40, seed=0), provenance={"network": "0c37"})
    assert Typicality.from_dict(with_source.to_dict()).provenance == {"network": "0c37"}


def test_exact_denoisers_do_not_break_it(fitted):
    errors = simulate(3, seed=9)
    errors.values[:, 0] = 0
    assert torch.isfinite(fitted.score(errors)).all()


def test_likelihood_score_is_the_best_weighted_mean():
    values = torch.tensor([[[0.2, 0.8], [0.6, 0.2]]])
    errors = DenoisingErrors(values, torch.arange(2), torch.zeros(2), log_snr_rate=torch.tensor([3.0, 1.0]))
    assert likelihood_score(errors).tolist() == pytest.approx([min(0.6 + 0.8, 1.8 + 0.2) / 4])


def test_refused(fitted):
    errors = simulate(20, seed=0)
    with pytest.raises(ValueError, match="errors: expected at least 20 images to fit on, got 19"):
        fit_typicality(errors[:19])
    with pytest.raises(ValueError, match="groups: expected at least 20 patients to fit on, got 2"):
        fit_typicality(errors, groups=["a", "b"] * 10)
    with pytest.raises(ValueError, match=r"groups: expected one patient an image, \[20\], got \[3\]"):
        fit_typicality(errors, groups=["a"] * 3)
    with pytest.raises(ValueError, match="num_bands: expected a positive integer, got 0"):
        fit_typicality(errors, num_bands=0)
    with pytest.raises(ValueError, match=r"errors: expected the shape \[image, class, 12\].*got \[20, 2, 11\]"):
        fitted.score(errors.first(11))
    other = DenoisingErrors(errors.values, errors.timesteps, errors.log_snr + 0.5)
    with pytest.raises(ValueError, match="expected the noise levels of the fit, got log-SNRs that differ by up to 0.5"):
        fitted.score(other)
    errors.values[3, 1, 5:] = torch.nan
    with pytest.raises(ValueError, match="expected all draws of all classes, but 1 of 20 images lack some; compute"):
        fitted.score(errors)
    with pytest.raises(ValueError, match="1 of 20 images lack some"):
        fit_typicality(errors)
    errors.values[3] = torch.inf
    with pytest.raises(ValueError, match="errors: expected finite squared errors"):
        fitted.score(errors)
    with pytest.raises(ValueError, match=r"expected what Typicality.to_dict gives, \['mean'\] missing"):
        Typicality.from_dict({k: v for k, v in fitted.to_dict().items() if k != "mean"})
    with pytest.raises(ValueError, match=r"mean: expected the shape \[4\], got \[1\]"):
        Typicality.from_dict({**fitted.to_dict(), "mean": [0.0]})


def images_with_maps(count: int, place: int, seed: int) -> tuple[DenoisingErrors, torch.Tensor]:
    """Errors of images whose larger errors lie in one corner of their maps [n, 2, 8, 8]; the errors tell nothing."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(count, 2, 9, generator=generator) + 1
    maps = torch.rand(count, 2, 8, 8, generator=generator) + 1
    corner = [slice(0, 4), slice(4, 8)]
    maps[:, :, corner[place // 2], corner[place % 2]] += 1
    return DenoisingErrors(values, torch.arange(9), torch.linspace(4, -4, 9)), maps


def test_maps_show_images_whose_errors_lie_elsewhere():
    errors, maps = images_with_maps(80, 0, 0)
    fitted = fit_typicality(errors, error_maps=maps, grid=2, num_bands=3)
    same, other = images_with_maps(40, 0, 1), images_with_maps(40, 3, 2)
    assert float(fitted.p_value(*other).max()) < 0.02
    assert 0.3 < float(fitted.p_value(*same).mean()) < 0.7
    blind = fit_typicality(errors, num_bands=3)
    assert float(blind.p_value(other[0]).mean()) > 0.3
    # What pool_maps made is as good as the maps, and a file keeps it all.
    torch.testing.assert_close(fitted.score(other[0], pool_maps(other[1], 2)), fitted.score(*other))
    again = Typicality.from_dict(json.loads(json.dumps(fitted.to_dict())))
    torch.testing.assert_close(again.score(*other), fitted.score(*other))
    assert again.grid == 2 and again.map_features.shape == (80, 4)


def test_maps_of_volumes_and_faults():
    errors, maps = images_with_maps(40, 0, 0)
    volumes = maps[:, :, :, :, None].expand(-1, -1, -1, -1, 8)
    assert fit_typicality(errors, error_maps=volumes, grid=2, num_bands=3).map_features.shape == (40, 8)
    fitted = fit_typicality(errors, error_maps=maps, grid=2, num_bands=3)
    with pytest.raises(ValueError, match="error_maps: expected the error maps of the images.*explain=True"):
        fitted.score(errors)
    with pytest.raises(ValueError, match="those of the same 40 images, got 39"):
        fitted.score(errors, maps[1:])
    with pytest.raises(ValueError, match="at least 9 pixels a side"):
        fit_typicality(errors, error_maps=maps, grid=9)
