"""Weights and sampling of noise levels, learned from errors whose best answer is known."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from monai_diffclf.classification import (
    DenoisingErrors,
    LevelSampling,
    classify_errors,
    fit_level_sampling,
    fit_level_weights,
)


def make(
    images: int, classes: int, draws: int, *, seed: int, informative: slice
) -> tuple[DenoisingErrors, torch.Tensor]:
    """Errors in which only some draws tell the classes apart; all levels are equally noisy."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    values = 1 + 0.1 * torch.randn(images, classes, draws, generator=generator)
    values[torch.arange(images), labels, informative] -= 0.03
    return DenoisingErrors(values, torch.arange(draws), torch.linspace(8, -8, draws)), labels


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("rule", ["mean", "vote"])
def test_weights_find_the_informative_levels(classes, rule):
    informative = slice(0, 16)
    errors, labels = make(240, classes, 64, seed=0, informative=informative)
    weights = fit_level_weights(errors, labels, rule)
    at = weights.at(errors.log_snr)
    assert at[informative].mean() > 3 * at[32:].mean()
    assert float(at.mean()) == pytest.approx(1, abs=1e-6)
    others, truth = make(600, classes, 64, seed=1, informative=informative)
    name = "mean" if rule == "mean" else "weighted_vote"
    right = (classify_errors(others, name, weighting=weights).predicted == truth).double().mean()
    plain = (classify_errors(others, rule).predicted == truth).double().mean()
    assert right > plain + 0.05


def test_weights_are_equal_where_no_level_is_better():
    errors, labels = make(400, 2, 64, seed=2, informative=slice(None))
    weights = fit_level_weights(errors, labels)
    assert max(weights.weights) < 2 * min(weights.weights)
    others, truth = make(600, 2, 64, seed=3, informative=slice(None))
    auc = []
    for weighting in ("uniform", weights):
        mean = classify_errors(others, "mean", weighting=weighting).mean_error
        auc.append(roc_auc_score(truth, mean[:, 0] - mean[:, 1]))
    assert auc[1] > auc[0] - 0.01


def test_weights_do_not_depend_on_which_class_is_frequent():
    errors, labels = make(300, 2, 32, seed=4, informative=slice(0, 8))
    rare = torch.cat([(labels == 0).nonzero().flatten(), (labels == 1).nonzero().flatten()[:40]])
    weights = fit_level_weights(errors[rare], labels[rare])
    result = classify_errors(errors, "mean", weighting=weights)
    assert abs(float((result.predicted == 1).double().mean()) - 0.5) < 0.1


def test_patients_stay_together():
    errors, labels = make(60, 2, 32, seed=5, informative=slice(0, 8))
    doubled = DenoisingErrors.concatenate([errors, errors])
    patients = [f"p{i % 60}" for i in range(120)]
    assert fit_level_weights(doubled, labels.repeat(2), patients=patients).weights


def test_weights_refuse():
    errors, labels = make(20, 2, 32, seed=0, informative=slice(0, 8))
    for given, said in (
        ({"labels": labels[:-1]}, r"labels: expected one class an image, \[20\], got \[19\]"),
        ({"labels": labels + 0.5}, "labels: expected class numbers from 0 to 1, got 0.5"),
        ({"patients": ["a", "b"]}, r"patients: expected one patient an image, \[20\], got \[2\]"),
        ({"num_folds": 1}, "num_folds: expected a whole number from 2 to 10, .*, got 1"),
        ({"patients": ["a"] * 20}, "num_folds: expected patients and images of a class for at least 2 folds, got 1"),
    ):
        with pytest.raises(ValueError, match=said):
            fit_level_weights(errors, **{"labels": labels} | given)
    with pytest.raises(TypeError, match="errors: expected DenoisingErrors, got Tensor"):
        fit_level_weights(errors.values, labels)
    errors.values[0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="some were not evaluated"):
        fit_level_weights(errors, labels)


def test_density_follows_the_scatter_of_the_difference():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([4.0, 2.0, 1.0, 1.0]).repeat_interleave(32)
    values = 5 + scale * torch.randn(200, 2, 128, generator=generator)
    errors = DenoisingErrors(values, torch.arange(128), torch.linspace(8, -8, 128))
    density = torch.tensor(fit_level_sampling(errors, num_parts=4, smallest=0.1).density)
    assert torch.allclose(density, torch.tensor([2.0, 1.0, 0.5, 0.5]), rtol=0.05)


def test_the_learned_density_has_the_least_variance():
    generator = torch.Generator().manual_seed(1)
    scale = torch.tensor([4.0, 1.0])

    def spread(sampling: LevelSampling) -> float:
        levels = sampling.quantile((torch.arange(32) + 0.5) / 32)
        noise = scale[(levels * 2).long()] * torch.randn(20000, 32, generator=generator)
        return float((noise / sampling.at(levels)).mean(1).var())

    best, uniform, extreme = (spread(LevelSampling(density)) for density in ((1.6, 0.4), (1.0, 1.0), (1.9, 0.1)))
    assert best < uniform
    assert best < extreme


def test_noise_is_mirrored_only_where_it_helps():
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randn(100, 2, 64, 1, generator=generator)
    odd = torch.cat([pairs, -pairs], 3).reshape(100, 2, 128)  # cancels in the pair
    even = torch.cat([pairs, pairs], 3).reshape(100, 2, 128)  # doubles in the pair
    single = torch.randn(100, 2, 128, generator=generator)
    first = torch.arange(128) < 64
    log_snr = torch.linspace(8, -8, 64).repeat_interleave(2)
    mirrored = DenoisingErrors(torch.where(first, odd, even), torch.arange(128), log_snr)
    errors = DenoisingErrors(single, torch.arange(128), torch.linspace(8, -8, 128))
    sampling = fit_level_sampling(errors, mirrored=mirrored, num_parts=2)
    assert sampling.antithetic == (True, False)
    assert sampling.density[0] < sampling.density[1]  # where noise cancels fewer draws are needed
    assert not any(fit_level_sampling(errors, num_parts=2).antithetic)


def test_sampling_refuses_too_few_draws():
    errors, _ = make(20, 2, 8, seed=0, informative=slice(0, 2))
    with pytest.raises(ValueError, match="expected at least 16 draws for 8 parts, got 8"):
        fit_level_sampling(errors)
