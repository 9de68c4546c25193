"""Typicality by log-likelihood: the known failure of the likelihood, and a test that is valid."""

from __future__ import annotations

import math

import pytest
import torch

from monai_diffclf.classification import marginal_log_likelihood
from monai_diffclf.uncertainty import LikelihoodTypicality, fit_likelihood_typicality


def log_density(images: torch.Tensor) -> torch.Tensor:
    """log N(x; 0, 1) of images [n, D]."""
    return -0.5 * (images.square() + math.log(2 * math.pi)).sum(1)


def noise(count: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(count, 100, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_an_empty_image_is_the_likeliest_and_the_least_typical():
    fitted = fit_likelihood_typicality(log_density(noise(200, 0)))
    inside, empty = log_density(noise(200, 1)), log_density(torch.zeros(1, 100, dtype=torch.float64))
    assert (empty > inside).all(), "by likelihood alone the empty image passes for the best of all"
    assert (fitted.score(empty) > fitted.score(inside)).all()
    assert fitted.p_value(empty).item() == pytest.approx(2 / 201)


@pytest.mark.parametrize("scale", [0.7, 1.4])
def test_both_sides_count(scale):
    fitted = fit_likelihood_typicality(log_density(noise(500, 0)))
    assert (fitted.p_value(log_density(noise(200, 1, scale))) < 0.01).double().mean() > 0.9


def test_p_values_of_like_images_are_valid():
    """At most p in a share p: 2,000 fresh images against 999, so 4.5 standard errors of both."""
    fitted = fit_likelihood_typicality(log_density(noise(999, 0)))
    p = fitted.p_value(log_density(noise(2000, 1)))
    for level in (0.01, 0.05, 0.2, 0.5):
        error = 4.5 * math.sqrt(level * (1 - level) * (1 / 2000 + 1 / 999))
        assert float((p <= level).double().mean()) <= level + error


def test_score_is_the_distance_from_the_median():
    fitted = LikelihoodTypicality(torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64))
    assert fitted.score(torch.tensor([2.0, 7.0, -1.0])).tolist() == [0, 5, 3]


def test_marginal_is_the_weighted_sum():
    values = torch.tensor([[-1.0, -2.0, -3.0]], dtype=torch.float64)
    expected = math.log(0.2 * math.exp(-1) + 0.3 * math.exp(-2) + 0.5 * math.exp(-3))
    assert marginal_log_likelihood(values, [0.2, 0.3, 0.5]).item() == pytest.approx(expected, rel=1e-12)
    assert marginal_log_likelihood(values - 1e4).item() == pytest.approx(
        -1e4 + math.log((math.exp(-1) + math.exp(-2) + math.exp(-3)) / 3), rel=1e-12
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(30, 2), r"log_likelihood: expected one finite number an image \[B\], got shape \[30, 2\]; of the"),
        (torch.full((30,), math.nan), "log_likelihood: expected one finite number an image"),
        (torch.zeros(19), "log_likelihood: expected those of at least 20 images, got 19"),
    ],
)
def test_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        fit_likelihood_typicality(values)
