"""From likelihoods to a class: Bayes' rule against SciPy, and what the probes say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy, norm

from monai_diffclf.classification import bits_per_dimension, classify_likelihood, empirical_prior
from monai_diffclf.classification.likelihood import check_prior


def likelihoods(*shape: int, scale: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64) - 1e4


@pytest.mark.parametrize("temperature", [1.0, 7.0])
@pytest.mark.parametrize("prior", [None, (0.6, 0.3, 0.1)])
@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 4)], ids=str)
def test_posterior_against_scipy(shape, prior, temperature, device):
    values = likelihoods(*shape)
    result = classify_likelihood(
        values.to(device), num_elements=50, prior=prior, temperature=temperature, network_evaluations=9
    )
    mean = values.numpy() if len(shape) == 2 else values.numpy().mean(2)
    expected = softmax(mean / temperature + np.log(prior or (1 / 3, 1 / 3, 1 / 3)), axis=1)
    # A prior is float32 where a list is made a tensor: 6e-8.
    np.testing.assert_allclose(result.probabilities.cpu().numpy(), expected, rtol=1e-6)
    assert result.predicted.tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(result.log_likelihood.cpu().numpy(), mean, rtol=1e-12)
    with pytest.warns(DeprecationWarning, match="mean_error is -2 .* log_likelihood / num_elements"):
        np.testing.assert_allclose(result.mean_error.cpu().numpy(), -2 * mean / 50, rtol=1e-12)
    top = np.sort(expected, 1)
    np.testing.assert_allclose(
        result.uncertainty["probability_margin"].cpu().numpy(), top[:, -1] - top[:, -2], rtol=1e-5
    )
    np.testing.assert_allclose(
        result.uncertainty["probability_entropy"].cpu().numpy(), entropy(expected, axis=1), rtol=1e-5
    )
    assert result.network_evaluations.tolist() == [9] * 5
    assert result.decided.all()
    assert (result.num_elements, result.guarantee) == (50, "likelihood")


def test_votes_are_the_probes():
    """Three probes of one image: two for class 1 under equal priors, all for class 0 under a strong one."""
    values = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 2.0, -1.0]]])
    result = classify_likelihood(values, num_elements=4)
    torch.testing.assert_close(result.probe_share, torch.tensor([[1 / 3, 2 / 3]]))
    sure = classify_likelihood(values, num_elements=4, prior=[0.999, 0.001])
    assert sure.probe_share.tolist() == [[1.0, 0.0]]
    # And a temperature weakens the likelihood against the prior.
    mild = classify_likelihood(values, num_elements=4, prior=[0.6, 0.4], temperature=10.0)
    assert mild.probe_share.tolist() == [[1.0, 0.0]]
    # (1, 2, -1) has the standard deviation sqrt(7 / 3).
    torch.testing.assert_close(
        result.uncertainty["log_ratio_error"], torch.tensor([math.sqrt(7 / 3 / 3)], dtype=torch.float64)
    )


def test_error_of_the_log_ratio_is_that_of_the_two_most_probable():
    values = likelihoods(6, 4, 9)
    got = classify_likelihood(values, num_elements=4).uncertainty["log_ratio_error"]
    for b in range(6):
        first, second = values[b].mean(1).topk(2).indices.tolist()
        difference = (values[b, first] - values[b, second]).numpy()
        assert float(got[b]) == pytest.approx(difference.std(ddof=1) / 3)
    assert "log_ratio_error" not in classify_likelihood(values[:, :, :1], num_elements=4).uncertainty


def test_what_all_classes_share_does_not_matter():
    values = likelihoods(5, 3, 2)
    a, b = (classify_likelihood(v, num_elements=4) for v in (values, values + 1e5))
    torch.testing.assert_close(a.probabilities, b.probabilities, rtol=1e-9, atol=1e-12)
    assert torch.equal(a.predicted, b.predicted)


def test_certainty_is_finite():
    result = classify_likelihood(torch.tensor([[0.0, -1e6], [-1e6, 0.0]]), num_elements=4)
    assert result.probabilities.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert all(torch.isfinite(value).all() for value in result.uncertainty.values())
    assert result.uncertainty["probability_entropy"].tolist() == [0.0, 0.0]


def test_evaluations_of_each_image():
    result = classify_likelihood(likelihoods(2, 2), num_elements=4, network_evaluations=torch.tensor([3, 5]))
    assert result.network_evaluations.tolist() == [3, 5]
    assert result.network_evaluations.dtype == torch.int64


def test_no_images():
    result = classify_likelihood(torch.zeros(0, 3, 2), num_elements=4)
    assert len(result) == 0
    assert result.probabilities.shape == (0, 3)


# Priors


def test_empirical_prior_adds_one_image_a_class():
    labels = [0] * 8 + [2] * 3
    assert empirical_prior(labels, 4) == pytest.approx([9 / 15, 1 / 15, 4 / 15, 1 / 15])
    assert empirical_prior(torch.tensor(labels), 4) == empirical_prior(labels, 4)
    assert empirical_prior([], 2) == [0.5, 0.5]
    check_prior(empirical_prior(labels, 4), 4)
    for wrong, value in (([0, 2], 2), ([-1, 0], -1)):
        with pytest.raises(ValueError, match=f"labels: expected class numbers from 0 to 1, got {value} in 1 image"):
            empirical_prior(wrong, 2)


def test_prior_is_made_to_sum_to_one():
    assert check_prior(None, 4).tolist() == [0.25] * 4
    shares = check_prior([0.3333, 0.3333, 0.3333], 3)
    assert shares.dtype == torch.float64
    assert shares.tolist() == pytest.approx([1 / 3] * 3, rel=1e-12)
    assert check_prior(torch.tensor([0.25, 0.75]), 2).tolist() == [0.25, 0.75]


def test_prior_keeps_its_digits():
    assert check_prior([0.1, 0.9], 2).tolist() == pytest.approx([0.1, 0.9], rel=1e-12)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ([0.5, 0.75], r"prior: expected 2 positive class shares that sum to 1, got \[0.5, 0.75\]"),
        ([1.0], r"prior: expected 2 positive class shares that sum to 1, got \[1.0\]"),
        ([[0.5, 0.5]], "prior: expected 2 positive class shares"),
        ([1.5, -0.5], r"prior: expected 2 positive class shares that sum to 1, got \[1.5, -0.5\]"),
        ([math.nan, 1.0], r"prior: expected 2 positive class shares that sum to 1, got \[nan, 1.0\]"),
        (0.5, r"prior: expected 2 positive class shares that sum to 1, got \[0.5\]"),
        ("uniform", "prior: expected None for equal shares or K numbers, got 'uniform'; see empirical_prior"),
    ],
)
def test_priors_are_checked(prior, message):
    with pytest.raises(ValueError, match=message):
        check_prior(prior, 2)
    with pytest.raises(ValueError, match=message):
        classify_likelihood(likelihoods(1, 2), num_elements=1, prior=prior)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(value):
    values = likelihoods(3, 2, 2)
    values[1, 0, 1] = value
    with pytest.raises(
        ValueError, match=r"log_likelihood: expected finite values, got NaN or infinity for image\(s\) \[1\]"
    ):
        classify_likelihood(values, num_elements=4)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 2, 0), (3, 2, 2, 2)], ids=str)
def test_values_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"log_likelihood: expected shape \[B, K\] or \[B, K, P\], K >= 2, got \["):
        classify_likelihood(torch.zeros(shape), num_elements=4)


def test_temperature_is_checked():
    with pytest.raises(ValueError, match="temperature: expected a positive number, got 0"):
        classify_likelihood(likelihoods(1, 2), num_elements=4, temperature=0)


# Bits


@pytest.mark.parametrize("levels", [2, 256])
def test_bits_of_a_uniform_source(levels):
    """Density 1 / (L w) in every one of 5 elements: log2 L bits."""
    width = 2 / (levels - 1)
    density = torch.tensor([-5 * math.log(levels * width)], dtype=torch.float64)
    assert bits_per_dimension(density, 5, bin_width=width).item() == pytest.approx(math.log2(levels))
    assert bits_per_dimension(density + 5 * math.log(width), 5).item() == pytest.approx(math.log2(levels))


def test_bits_of_a_gaussian_are_its_entropy():
    """The mean of -log2 p of N(0, s^2) is log2(s sqrt(2 pi e)); the width adds -log2 w."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    log_density = torch.from_numpy(norm(0, 0.3).logpdf(0.3 * nodes))
    mean = float((bits_per_dimension(log_density, 1, bin_width=2 / 255) * torch.from_numpy(weights)).sum())
    expected = math.log2(0.3 * math.sqrt(2 * math.pi * math.e)) - math.log2(2 / 255)
    assert mean / math.sqrt(2 * math.pi) == pytest.approx(expected, rel=1e-12)


def test_bits_keep_the_shape():
    assert bits_per_dimension(torch.zeros(2, 3), 7).shape == (2, 3)
