"""Smoothing of maps: closed forms, the sum that is kept, and latents."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter

from monai_diffclf.networks import default_smoothing, smooth_map
from monai_diffclf.networks.latent_space import spread_map
from monai_diffclf.networks.map_smoothing import smooth_error_maps


def test_a_spot_becomes_a_gaussian(device):
    spot = torch.zeros(1, 41, 41, dtype=torch.float64, device=device)
    spot[0, 20, 20] = 1.0
    smoothed = smooth_map(spot, (2.0, 3.0))[0].cpu()
    x = torch.arange(41, dtype=torch.float64) - 20
    expected = torch.exp(-(x[:, None] ** 2) / 8 - x[None] ** 2 / 18) / (2 * math.pi * 6)
    torch.testing.assert_close(smoothed, expected, rtol=0.01, atol=2e-5)
    torch.testing.assert_close(smoothed.numpy(), gaussian_filter(spot[0].cpu().numpy(), (2.0, 3.0)), rtol=1e-9, atol=0)


@pytest.mark.parametrize("size", [(7, 12), (4, 8, 5)], ids=str)
@pytest.mark.parametrize("sigma", [None, 0.3, 5.0])
def test_the_sum_of_each_map_is_kept(size, sigma, device):
    maps = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device)
    smoothed = smooth_error_maps(maps, sigma, stride=2)
    torch.testing.assert_close(smoothed.flatten(2).sum(2), maps.flatten(2).sum(2))
    assert smooth_error_maps(maps, 0) is maps


def test_smoothing_commutes_with_differences():
    maps = torch.randn(2, 2, 9, 9, dtype=torch.float64)
    of_difference = smooth_map(maps[:, 0] - maps[:, 1])
    smoothed = smooth_error_maps(maps)
    torch.testing.assert_close(smoothed[:, 0] - smoothed[:, 1], of_difference)


def test_footprints_of_latent_pixels_do_not_show():
    """Between two latent pixels of one value each the map has no step, and far from there it is what it was."""
    assert default_smoothing((224, 224), 32) == (16.0, 16.0)
    spread = spread_map(torch.tensor([[[[0.0] * 4 + [1.0] * 4] * 8]], dtype=torch.float64), 32, (256, 256))
    smoothed = smooth_error_maps(spread, stride=32)[0, 0, 128] * 32**2
    assert float(smoothed.diff().max()) < 1.01 / (16 * math.sqrt(2 * math.pi)), "the step is spread over its slope"
    torch.testing.assert_close(smoothed[[0, 255]], torch.tensor([0.0, 1.0], dtype=torch.float64), atol=1e-6, rtol=0)


def test_refused():
    with pytest.raises(ValueError, match="sigma: expected a positive number of pixels, or one for each of 2 axes"):
        smooth_map(torch.zeros(1, 4, 4), (1.0, 2.0, 3.0))
