"""Typicality: features, distance and p-values, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from sklearn.covariance import LedoitWolf

from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.uncertainty import Typicality, fit_typicality, image_statistics, likelihood_score, pool_maps

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


def test_distance_is_sklearns(fitted, device):
    errors = simulate(30, seed=2, device=device)
    features, part = fitted.describe(errors)[0], fitted.parts["errors"]
    scale = fitted.features.std(0)
    expected = LedoitWolf().fit(fitted.features / scale).mahalanobis(features.cpu().numpy() / scale)
    assert part.distance(features).cpu().numpy() == pytest.approx(expected)
    score = fitted.score(errors)
    assert score.device == errors.values.device
    assert score.cpu().numpy() == pytest.approx((expected / part.median) ** (1 / part.spread))
    assert fitted.score(errors.values).equal(score)


def test_distances_of_gaussian_features_are_chi_squared(fitted):
    part = fitted.parts["errors"]
    distance = part.distance(fitted.describe(simulate(4000, seed=3))[0]).numpy()
    for level in (0.5, 0.9, 0.99):
        assert (distance < chi2.ppf(level, df=4)).mean() == pytest.approx(level, abs=0.05)
    assert part.median == pytest.approx(chi2.ppf(0.5, df=4), rel=0.15)
    assert part.spread == pytest.approx(np.log(chi2.ppf(0.95, df=4) / chi2.ppf(0.5, df=4)), rel=0.15)


def test_p_values_are_uniform_on_images_of_the_same_distribution(fitted):
    p = fitted.p_value(simulate(4000, seed=4)).numpy()
    for level in (0.01, 0.05, 0.2, 0.5, 0.8):
        assert (p <= level).mean() == pytest.approx(level, abs=0.04)


def test_p_value_counts_validation_scores(fitted):
    scores = torch.tensor([0.0, 1.5, 1e9])
    expected = [(1 + (fitted.scores >= float(s)).sum()) / 401 for s in scores]
    assert fitted.p_value(scores).tolist() == pytest.approx(expected)
    assert fitted.p_value(scores)[2] == pytest.approx(1 / 401)
    exactly = torch.from_numpy(fitted.scores[:1].copy())
    assert float(fitted.p_value(exactly)) == pytest.approx((1 + (fitted.scores >= fitted.scores[0]).sum()) / 401)


def test_p_value_counts_patients_where_they_are_known(fitted):
    groups = np.repeat(np.arange(25), 4)
    known = replace(fitted, scores=fitted.scores[:100], groups=groups)
    scores = torch.tensor([0.0, 0.7, 1.5, 1e9])
    shares = [(known.scores >= float(s)).reshape(25, 4).mean(1).sum() for s in scores]
    assert known.p_value(scores).tolist() == pytest.approx([(1 + share) / 26 for share in shares])
    assert float(known.p_value(scores)[-1]) == pytest.approx(1 / 26)  # not 1 / 101


def test_p_values_of_new_patients_hold_in_the_tail():
    """25 patients of 8 alike images each: an image of a new patient is above all of them once in 26 times."""
    small = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values = (rng.normal(size=(26, 1)) + 0.2 * rng.normal(size=(26, 8))).astype(float)
        known = Typicality(
            log_snr=np.zeros(1), edges=np.zeros(0), features=np.zeros((200, 1)), predicted=np.zeros(200, int),
            groups=np.repeat(np.arange(25), 8), scores=values[:25].ravel(), parts={},
        )  # fmt: skip
        small.append(float(known.p_value(torch.from_numpy(values[25])).min()))
    assert min(small) >= 1 / 26 - 1e-9
    assert np.mean(np.asarray(small) <= 0.01) == 0


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
    assert together.parts["errors"].median > 1.1 * apart.parts["errors"].median
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


def test_errors_of_another_number_of_classes_are_refused(fitted):
    again = Typicality.from_dict(json.loads(json.dumps(fitted.to_dict())))
    for known in (fitted, again):
        assert known.num_classes == 2
        for ask in (known.score, known.p_value, known.describe):
            with pytest.raises(ValueError, match="errors: expected those of 2 classes, as in the fit, got 3; is this"):
                ask(torch.rand(5, 3, 12))
    old = {name: value for name, value in fitted.to_dict().items() if name != "num_classes"}
    assert Typicality.from_dict(old).num_classes is None


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
    with pytest.raises(ValueError, match=r"expected what Typicality.to_dict gives, \['scores'\] missing"):
        Typicality.from_dict({k: v for k, v in fitted.to_dict().items() if k != "scores"})
    with pytest.raises(ValueError, match=r"predicted: expected the shape \[400\], got \[1\]"):
        Typicality.from_dict({**fitted.to_dict(), "predicted": [0]})
    part = fitted.parts["errors"].to_dict()
    with pytest.raises(ValueError, match=r"parts: expected 'errors' with 4 features among them, got \['other'\]"):
        Typicality.from_dict({**fitted.to_dict(), "parts": {"other": part}})
    with pytest.raises(ValueError, match=r"precision: expected the shape \[1, 1\], got \[4, 4\]"):
        Typicality.from_dict({**fitted.to_dict(), "parts": {"errors": {**part, "mean": [0.0]}}})
    with pytest.raises(ValueError, match="median, spread: expected positive numbers, got 0.0"):
        Typicality.from_dict({**fitted.to_dict(), "parts": {"errors": {**part, "median": 0}}})


def some_images(count: int, seed: int, size: int = 16) -> torch.Tensor:
    """Smooth random images [n, 1, size, size] in [-1, 1]."""
    noise = torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)
    return (smooth + 0.05 * noise).clamp(-1, 1)


@pytest.fixture(scope="module")
def with_images() -> Typicality:
    return fit_typicality(simulate(400, seed=0), images=some_images(400, 0))


def test_images_tell_what_errors_do_not(with_images, fitted, device):
    errors, images = simulate(60, seed=1, device=device), some_images(60, 1).to(device)
    assert float(with_images.p_value(errors, images).median()) > 0.2
    blurred = torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1)
    for other in (blurred, images + 0.3, images.clone().index_fill(2, torch.arange(4, device=device), 0.9)):
        assert float(with_images.p_value(errors, other).median()) < 0.02
    assert float(with_images.p_value(simulate(60, seed=1, scale=10.0), images.cpu()).max()) < 0.02


def test_p_values_with_images_are_uniform(with_images):
    p = with_images.p_value(simulate(1000, seed=4), some_images(1000, 5)).numpy()
    for level in (0.05, 0.2, 0.5, 0.8):
        assert (p <= level).mean() == pytest.approx(level, abs=0.06)


def test_statistics_are_as_good_as_images_and_a_file_keeps_it_all(with_images):
    errors, images = simulate(40, seed=2), some_images(40, 3)
    same = fit_typicality(simulate(400, seed=0), images=image_statistics(some_images(400, 0)))
    assert torch.equal(same.score(errors, images), with_images.score(errors, images))
    again = Typicality.from_dict(json.loads(json.dumps(with_images.to_dict())))
    assert again.needs_images and not again.needs_latents
    torch.testing.assert_close(again.score(errors, images), with_images.score(errors, images), rtol=1e-3, atol=1e-3)
    assert torch.equal(again.p_value(errors, images), with_images.p_value(errors, images))


def test_latents_count_too():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(160, 3, 4, 4, generator=generator)
    fitted = fit_typicality(simulate(100, seed=0), latents=latents[:100])
    assert fitted.needs_latents and not fitted.needs_images
    errors = simulate(60, seed=1)
    assert float(fitted.p_value(errors, latents=latents[100:]).median()) > 0.2
    assert float(fitted.p_value(errors, latents=2 * latents[100:]).max()) < 0.02
    with pytest.raises(ValueError, match="latents: expected the latents of the errors, as the typicality was fitted"):
        fitted.score(errors)


def test_a_file_from_before_there_were_parts(fitted):
    """Its maps were of another weighting: the errors in bands are what is left of it."""
    new = fitted.to_dict()
    old = {name: value for name, value in new.items() if name != "parts"}
    extra = {"map_features": [[0.0] * 16] * 400, "mean": [0.0] * 20, "precision": np.eye(20).tolist(), "grid": 4}
    read = Typicality.from_dict({**old, **extra, "scores": [20.0] * 400})
    errors = simulate(30, seed=2)
    torch.testing.assert_close(read.score(errors), fitted.score(errors), rtol=1e-4, atol=1e-4)
    assert read.p_value(errors).tolist() == pytest.approx(fitted.p_value(errors).tolist(), abs=0.003)


def test_faulty_images(with_images):
    errors = simulate(40, seed=0)
    with pytest.raises(ValueError, match="images: expected the images of the errors, as the typicality was fitted"):
        with_images.score(errors)
    with pytest.raises(ValueError, match="images: expected those of the same 40 images, got 39"):
        with_images.score(errors, some_images(39, 0))
    with pytest.raises(ValueError, match=r"values: expected those of the same 40 images, got 39"):
        fit_typicality(errors, images=some_images(39, 0))
    with pytest.raises(ValueError, match=r"features: expected those of .* \['colour'\] missing"):
        fit_typicality(errors, images=some_images(40, 0).expand(-1, 3, -1, -1)).score(errors, some_images(40, 0))


def test_maps_are_pooled():
    maps = torch.arange(2 * 2 * 8 * 8, dtype=torch.float32).reshape(2, 2, 8, 8)
    assert pool_maps(maps, 2)[1, 1].tolist() == maps[1, 1].double().reshape(2, 4, 2, 4).mean((1, 3)).tolist()
    with pytest.raises(ValueError, match="at least 9 pixels a side"):
        pool_maps(maps, 9)
