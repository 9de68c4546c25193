"""Principal components: closed form, invariants, and scikit-learn's as the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from monai_diffclf.representations import PrincipalComponents


def vectors(count: int = 400, features: int = 7, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(features, features, generator=generator)
    return torch.randn(count, features, generator=generator) @ mixing + 30


def fitted(data: torch.Tensor, num_components: int = 3, parts: int = 50, **settings) -> PrincipalComponents:
    components = PrincipalComponents(data.shape[1], num_components, **settings)
    for part in data.split(parts):
        components.add(part)
    return components.fit()


def test_closed_form():
    """Of the points (3, 0), (-3, 0), (0, 1), (0, -1) the axes are the components."""
    points = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    components = fitted(points, 2)
    torch.testing.assert_close(components.variances, torch.tensor([6.0, 2 / 3], dtype=torch.float64))
    scale = (10 / 3) ** -0.5  # the mean of both variances becomes 1
    torch.testing.assert_close(components(points), points * scale)
    assert components.explained == pytest.approx(1)


@pytest.mark.parametrize("parts", [1, 50, 400])
def test_agrees_with_scikit_learn(parts):
    data = vectors()
    oracle = PCA(3, svd_solver="full").fit(data.double().numpy())
    components = fitted(data, parts=parts)
    np.testing.assert_allclose(components.variances, oracle.explained_variance_, rtol=1e-9)
    assert components.explained == pytest.approx(oracle.explained_variance_ratio_.sum(), rel=1e-9)
    expected = oracle.transform(data.double().numpy()) / np.sqrt(oracle.explained_variance_.mean())
    signs = np.sign((expected * components(data).double().numpy()).sum(0))
    np.testing.assert_allclose(components(data), expected * signs, atol=1e-4)


def test_whitened_agrees_with_scikit_learn():
    data = vectors()
    expected = PCA(3, svd_solver="full", whiten=True).fit_transform(data.double().numpy())
    found = fitted(data, whitening=1.0)(data).double().numpy()
    np.testing.assert_allclose(found, expected * np.sign((expected * found).sum(0)), atol=1e-4)


@pytest.mark.parametrize("whitening", [0.0, 0.3, 0.5, 1.0])
def test_the_exponent_sets_the_spectrum(whitening):
    components = fitted(data := vectors(), whitening=whitening)
    spectrum = components(data).double().var(0)
    assert float(spectrum.mean()) == pytest.approx(1, rel=1e-5)
    expected = components.variances ** (1 - whitening)
    torch.testing.assert_close(spectrum / spectrum[0], expected / expected[0], rtol=1e-4, atol=0)


def test_neither_batches_nor_order_matter():
    data = vectors()
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    a, b = fitted(data, parts=400), fitted(data[order], parts=7)
    torch.testing.assert_close(a.weight, b.weight, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(a.bias, b.bias, rtol=1e-6, atol=1e-6)


def test_the_sign_is_that_of_the_largest_entry():
    data = vectors()
    a, b = fitted(data), fitted(-data)
    torch.testing.assert_close(a.weight, b.weight, rtol=1e-6, atol=1e-7)
    largest = a.weight.gather(1, a.weight.abs().argmax(1, keepdim=True))
    assert bool((largest > 0).all())


def test_a_large_mean_costs_no_digits():
    data = vectors().double()
    near, far = fitted(data, 7, whitening=1.0), fitted(data + 1e6, 7, whitening=1.0)
    torch.testing.assert_close(near.variances, far.variances, rtol=1e-6, atol=0)


def test_groups_get_the_same_total_variance():
    data = vectors(features=6)
    scaled = torch.cat([data[:, :2], 1000 * data[:, 2:]], 1)
    a, b = (fitted(each, 6, groups=(2, 4)) for each in (data, scaled))
    torch.testing.assert_close(a(data), b(scaled), rtol=1e-3, atol=1e-3)


def test_a_fit_begins_anew():
    data = vectors()
    components = fitted(vectors(seed=1))
    components.add(data)
    assert torch.equal(components.fit().weight, fitted(data, parts=400).weight)


def test_refuses():
    with pytest.raises(ValueError, match="num_components: expected a positive integer, got 0"):
        PrincipalComponents(3, 0)
    with pytest.raises(ValueError, match="num_components: expected at most the 3 features, got 4"):
        PrincipalComponents(3, 4)
    with pytest.raises(ValueError, match=r"whitening: expected an exponent in \[0, 1\], got 2"):
        PrincipalComponents(3, 2, whitening=2)
    with pytest.raises(ValueError, match="groups: expected sizes that add up to 3"):
        PrincipalComponents(3, 2, groups=(1, 1))
    with pytest.raises(ValueError, match=r"vectors: expected \[n, 3\], got \[2, 4\]"):
        PrincipalComponents(3, 2).add(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="vectors: expected finite values"):
        PrincipalComponents(3, 2).add(torch.full((2, 3), torch.nan))
    with pytest.raises(ValueError, match="vectors: expected at least 2"):
        PrincipalComponents(3, 2).fit()
    flat = torch.zeros(9, 3)
    with pytest.raises(ValueError, match="vectors: expected features that vary"):
        fitted(flat, 1)
    flat[:, 0] = torch.arange(9)
    with pytest.raises(ValueError, match="num_components: expected at most 1, the directions in which the 9 training"):
        fitted(flat, 2)
