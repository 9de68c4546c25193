"""Quality of counterfactuals, against closed forms, brute force and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from monai_diffclf.explain import (
    Counterfactuals,
    counterfactual_quality,
    energy_inside,
    flip_rate,
    frechet_distance,
    l1_distance,
    sparsity,
    structural_similarity,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pairs(count: int = 6, size: int = 16, **judged) -> Counterfactuals:
    image = noise(count, 1, size, size)
    return Counterfactuals(
        image,
        image + 0.01 * noise(count, 1, size, size, seed=1),
        image + noise(count, 1, size, size, seed=2),
        torch.zeros(count).long(),
        torch.ones(count).long(),
        drifted=torch.zeros(count).bool(),
        guidance=torch.ones(count),
        **judged,
    )


def test_flip_rate_counts():
    flipped = [True, False, True, True]
    assert flip_rate(flipped) == 0.75
    np.testing.assert_allclose(flip_rate(flipped, weights=[[1, 1, 1, 1], [0, 2, 1, 1]]), [0.75, 0.5])
    for wrong in ([], [[True]], [0.5, 1.0]):
        with pytest.raises(ValueError, match="flipped: expected one of True and False for each image"):
            flip_rate(wrong)


def test_distances_are_per_image():
    a, b = noise(3, 2, 5, 6), noise(3, 2, 5, 6, seed=1)
    distance, alone = l1_distance(a, b), sparsity(a, b, tolerance=1.0)
    for i in range(3):
        change = (a[i] - b[i]).abs().numpy()
        assert distance[i].item() == pytest.approx(change.mean(), rel=1e-5)
        assert alone[i].item() == pytest.approx((change.max(0) <= 1.0).mean())
    for function in (l1_distance, sparsity, structural_similarity):
        with pytest.raises(ValueError, match=r"others: expected the images' shape, .* got \[3, 2, 5\]"):
            function(a, b[..., 0])
    with pytest.raises(ValueError, match="tolerance: expected 0 or more, got -1"):
        sparsity(a, b, tolerance=-1)


@pytest.mark.parametrize("channels", [1, 3])
def test_structural_similarity_is_that_of_torchmetrics(channels):
    image = noise(4, channels, 32, 32).tanh()
    other = (image + 0.3 * noise(4, channels, 32, 32, seed=1)).clamp(-1, 1)
    _, full = structural_similarity_index_measure(image, other, data_range=2.0, return_full_image=True)
    theirs = full[..., 5:-5, 5:-5].mean((1, 2, 3))  # torchmetrics also counts windows that reach over the border
    torch.testing.assert_close(structural_similarity(image, other), theirs, rtol=1e-4, atol=1e-4)
    assert structural_similarity(noise(1, 1, 6, 8), noise(1, 1, 6, 8)).item() == pytest.approx(1)
    assert structural_similarity(noise(2, 1, 12, 12, 12), noise(2, 1, 12, 12, 12)).shape == (2,)
    with pytest.raises(ValueError, match="data_range: expected a positive number, got 0"):
        structural_similarity(image, other, data_range=0)


@pytest.mark.parametrize("shape", [(2, 9, 9), (1, 6, 5, 7)])
def test_energy_inside_is_that_of_brute_force(shape):
    difference, masks = noise(3, *shape), torch.zeros(3, 1, *shape[1:])
    for i in range(3):
        masks[i, 0][(1 + i,) * (len(shape) - 1)] = 1
    found = energy_inside(difference, masks, dilation=1.5)
    for i in range(3):
        total = inside = 0.0
        for index in np.ndindex(*difference[i].shape):
            energy = difference[i][index].item() ** 2
            total += energy
            inside += energy * (sum((place - 1 - i) ** 2 for place in index[1:]) <= 1.5**2)
        assert found[i].item() == pytest.approx(inside / total, rel=1e-5)
    assert energy_inside(0 * difference, masks).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"masks: expected a place .* empty mask for image\(s\) \[0, 1, 2\]"):
        energy_inside(difference, 0 * masks)
    with pytest.raises(ValueError, match="masks: expected one channel for each difference"):
        energy_inside(difference, masks[:2])


def test_frechet_distance_of_gaussians():
    # With sample moments made exact it is |mu|^2 + sum (s_a - s_b)^2 for diagonal covariances.
    raw = noise(200, 4).double()
    raw = raw - raw.mean(0)
    white = raw @ torch.linalg.inv(torch.linalg.cholesky(raw.T @ raw / 199)).T
    scale_a, scale_b = torch.tensor([1.0, 2.0, 0.5, 3.0]).double(), torch.tensor([2.0, 2.0, 1.5, 1.0]).double()
    shift = torch.tensor([1.0, 0.0, -2.0, 0.5]).double()
    expected = float(shift.square().sum() + (scale_a - scale_b).square().sum())
    assert frechet_distance(white * scale_a, white * scale_b + shift) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(white, white) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(white[:, :1], 3 * white[:, :1] + 1) == pytest.approx(1 + 4, rel=1e-6)


@pytest.mark.parametrize(
    ("features", "reference", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 4), r"features: expected \[n, D\] and \[m, D\], got \[3, 2\] and \[3, 4\]"),
        (torch.zeros(1, 2), torch.zeros(3, 2), "at least 2 images in both sets, got 1 and 3"),
        (torch.full((3, 2), torch.inf), torch.zeros(3, 2), "features: expected finite values"),
    ],
)
def test_frechet_distance_refuses(features, reference, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(features, reference)


def test_summary_holds_the_means_with_intervals():
    flipped = torch.tensor([True, True, True, False, True, False])
    made = pairs(flipped=flipped, flipped_baseline=~flipped)
    masks = torch.zeros(6, 1, 16, 16)
    masks[:4, 0, 4:8, 4:8] = 1
    quality = counterfactual_quality(made, masks=masks, num_resamples=300, dilation=1)
    assert quality["flip_rate"].value == pytest.approx(4 / 6)
    assert quality["flip_rate_baseline"].value == pytest.approx(2 / 6)
    assert quality["l1"].value == pytest.approx(made.difference.abs().mean().item(), rel=1e-5)
    assert quality["drift"].value == pytest.approx(made.drift.mean().item(), rel=1e-5)
    assert quality["drift_ratio"].value == pytest.approx(
        (made.drift.mean() / made.effect.abs().mean()).item(), rel=1e-5
    )
    inside = energy_inside(made.difference[:4], masks[:4], dilation=1)
    assert quality["energy_inside"].value == pytest.approx(inside.mean().item())
    assert all(low <= value <= high and low < high for value, low, high in quality.values())
    assert set(counterfactual_quality(pairs(), num_resamples=50)) == {"l1", "ssim", "sparsity", "drift", "drift_ratio"}
    empty = counterfactual_quality(pairs(), masks=0 * masks, num_resamples=50)
    assert "energy_inside" not in empty
