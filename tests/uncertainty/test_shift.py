"""The two-sample test: what it finds, and how often it cries wolf."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom

from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.storage import load_errors
from monai_diffclf.uncertainty import fit_typicality, shift_test, warn_if_shifted
from monai_diffclf.uncertainty.shift import _statistics

DRAWS, LOG_SNR = 9, torch.linspace(4, -4, 9)
EVALUATION = Path(__file__).resolve().parents[2] / "bundles" / "pneumonia_xray_diffusion" / "docs" / "evaluation"


def simulate(count, seed, shift=(0.0, 0.0), images=1, classes=None) -> DenoisingErrors:
    """Errors of ``count`` patients with ``images`` alike each; ``shift`` of the log errors of each true class."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(count) % 2 if classes is None else torch.full((count,), classes)
    patient = 0.3 * torch.randn(count, 1, generator=generator) + torch.tensor(shift)[truth][:, None]
    logs = patient.repeat_interleave(images, 0)[:, :, None] + 0.1 * torch.randn(
        count * images, 2, DRAWS, generator=generator
    )
    logs[torch.arange(count * images), 1 - truth.repeat_interleave(images)] += 0.3
    return DenoisingErrors(logs.exp(), torch.arange(DRAWS), LOG_SNR)


def alarms(trials, images=1, name_patients=True, level=0.05) -> int:
    found = 0
    for trial in range(trials):
        patients = np.repeat(np.arange(40), images) if name_patients else None
        old, new = (simulate(40, 2 * trial + part, images=images) for part in (0, 1))
        fitted = fit_typicality(old, num_bands=3, groups=patients)
        found += shift_test(fitted, new, alpha=level, groups=patients, num_permutations=99, seed=trial).detected
    return found


@pytest.mark.slow
def test_false_alarms_keep_the_level():
    low, high = binom.interval(0.999, 100, 0.05)
    assert low <= alarms(100) <= high


def test_images_of_a_patient_need_to_be_named():
    limit = binom.ppf(0.9995, 12, 0.05)
    assert alarms(12, images=8) <= limit < alarms(12, images=8, name_patients=False)


def test_shift_in_one_class_and_its_place_in_the_message():
    fitted = fit_typicality(simulate(200, 0), num_bands=3)
    result = shift_test(fitted, simulate(200, 1, shift=(0.3, 0.0)))
    assert result.detected
    assert (result.p_value, result.num_images) == (0.001, 200)
    assert "The denoising errors of these 200 images differ from those of the 200 validation images" in result.message
    assert "100 images predicted as class 0" in result.message
    assert "standard deviations larger" in result.message
    smaller = shift_test(fitted, simulate(200, 1, shift=(0.0, -0.3)))
    assert "predicted as class 1" in smaller.message
    named = shift_test(fitted, simulate(200, 1, shift=(0.0, -0.3)), class_names=["clear", "opacity"])
    assert "predicted as opacity" in named.message
    assert "standard deviations smaller" in smaller.message


def test_shift_that_the_mix_of_classes_hides():
    fitted = fit_typicality(simulate(200, 0), num_bands=3)
    new = simulate(200, 3, shift=(0.2, -0.2))
    assert abs(fitted.describe(new)[0].mean() - fitted.features.mean()) < 0.04
    assert shift_test(fitted, new).detected


def test_scattered_outliers_are_found():
    """The mean hardly moves; the distance from the centre does."""
    old, new = simulate(200, 0), simulate(200, 1)
    sign = torch.where(torch.arange(40) % 4 < 2, 1.0, -1.0)[:, None, None]
    new.values[:40] *= (1.5 * sign * torch.linspace(1, -1, DRAWS)).exp()
    assert shift_test(fit_typicality(old, num_bands=3), new).detected


def test_a_class_that_validation_never_had_is_found():
    fitted = fit_typicality(simulate(60, 0, classes=0), num_bands=3)
    result = shift_test(fitted, simulate(60, 1, shift=(0.0, 0.5), classes=1))
    assert result.detected
    assert "None of them was predicted as a class that validation images were predicted as" in result.message


def test_statistic_is_hotellings():
    rng = np.random.default_rng(0)
    z, is_new = rng.normal(size=(50, 3)), np.repeat([0.0, 1.0], [30, 20])
    z -= z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / 50)).T
    old, new = z[:30], z[30:]
    scatter = (29 * np.cov(old.T) + 19 * np.cov(new.T)) / 50
    difference = new.mean(0) - old.mean(0)
    t_squared = 30 * 20 / 50 * difference @ np.linalg.solve(scatter, difference)
    total = _statistics([(np.ones(50, dtype=bool), z)], is_new[None])[0]
    # With the covariance of all images in place of that within the sets: T^2 / (1 + T^2 / n).
    assert total == pytest.approx(t_squared / (1 + t_squared / 50))


def test_the_seed_decides_and_chunks_do_not(monkeypatch):
    fitted, new = fit_typicality(simulate(40, 0), num_bands=3), simulate(40, 1, shift=(0.1, 0.0))
    first = shift_test(fitted, new)
    assert shift_test(fitted, new) == first
    assert shift_test(fitted, new.values) == first
    assert shift_test(fitted, new, seed=1).statistic == first.statistic
    monkeypatch.setattr("monai_diffclf.uncertainty.shift._CHUNK_ELEMENTS", 700)
    assert shift_test(fitted, new) == first


def test_warning_says_what_to_do():
    fitted = fit_typicality(simulate(60, 0), num_bands=3)
    with pytest.warns(UserWarning, match="fit them anew on labelled images of this site"):
        assert warn_if_shifted(fitted, simulate(60, 1, shift=(0.5, 0.5))).detected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not warn_if_shifted(fitted, simulate(60, 2)).detected


def test_one_image_is_not_enough_to_say():
    assert not shift_test(fit_typicality(simulate(40, 0), num_bands=3), simulate(1, 1)).detected


def test_refused():
    fitted, new = fit_typicality(simulate(40, 0), num_bands=3), simulate(40, 1)
    with pytest.raises(ValueError, match="alpha: expected a number between 0 and 1, such as 0.01, got 1"):
        shift_test(fitted, new, alpha=1)
    with pytest.raises(ValueError, match="num_permutations: expected at least 999 for alpha 0.001, got 99"):
        shift_test(fitted, new, alpha=0.001, num_permutations=99)
    with pytest.raises(ValueError, match="errors: expected at least one image, got none"):
        shift_test(fitted, new[:0])
    with pytest.raises(ValueError, match=r"groups: expected one patient an image, \[40\], got \[2\]"):
        shift_test(fitted, new, groups=["a", "b"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_x_rays_of_the_test_set_are_not_those_of_validation(seed):
    validation, test = (load_errors(EVALUATION / f"errors_{name}_seed_{seed}.npz") for name in ("validation", "test"))
    fitted = fit_typicality(validation.errors, groups=validation.patients)
    assert shift_test(fitted, test.errors, groups=test.patients).detected


def test_halves_of_the_validation_x_rays_are_alike():
    stored, found, rng = load_errors(EVALUATION / "errors_validation_seed_0.npz"), 0, np.random.default_rng(0)
    for seed in range(8):
        half = torch.from_numpy(rng.permutation(len(stored.keys)) < len(stored.keys) // 2)
        found += shift_test(fit_typicality(stored.errors[half]), stored.errors[~half], seed=seed).detected
    assert found == 0
