"""Dequantisation: noise of a level's width, of the image's own, and the change of variables."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor
from scipy.stats import kstest

from monai_diffclf.classification import UniformDequantization
from monai_diffclf.classification.draws import image_keys
from monai_diffclf.classification.philox import ImageRandom


def discrete(levels: int = 256, *shape: int) -> torch.Tensor:
    """Images of all levels, scaled to [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, levels, shape or (3, 1, 8, 8), generator=generator) * (2 / (levels - 1)) - 1


@pytest.mark.parametrize(("levels", "low", "high"), [(256, -1.0, 1.0), (2, 0.0, 1.0), (16, 0.0, 255.0)])
def test_levels_can_be_read_back(levels, low, high):
    """Noise stays within half a level: rounding undoes it, and no two levels overlap."""
    dequantization = UniformDequantization(levels, low, high)
    assert dequantization.bin_width == pytest.approx((high - low) / (levels - 1))
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, levels, (4, 1, 9, 9), generator=generator)
    noisy = dequantization(low + index * dequantization.bin_width, seed=3)
    assert torch.equal(((noisy - low) / dequantization.bin_width).round().long(), index)
    assert noisy.dtype == torch.float64


def test_noise_is_uniform():
    images = torch.zeros(4, 1, 40, 40) + torch.arange(4).reshape(-1, 1, 1, 1)
    dequantization = UniformDequantization()
    noise = (dequantization(images) - images) / dequantization.bin_width
    assert kstest(noise.flatten().numpy(), "uniform", args=(-0.5, 1)).pvalue > 0.01
    # Pixels and images are independent: the correlation of 4800 pairs is 0 to 0.014.
    assert abs(float((noise[:, :, 1:] * noise[:, :, :-1]).mean()) * 12) < 4.5 * 0.014
    assert abs(float((noise[1:] * noise[:-1]).mean()) * 12) < 4.5 * 0.014


def test_volume_is_the_change_of_variables():
    """Uniform levels: density 1 / (L w) an element over the dequantised range, times the volume 1 / L."""
    for levels in (2, 256):
        dequantization = UniformDequantization(levels)
        log_density = -5 * math.log(levels * dequantization.bin_width)
        assert log_density + dequantization.log_volume(5) == pytest.approx(-5 * math.log(levels))


def test_noise_is_the_images_own(device):
    images, dequantization = discrete(), UniformDequantization()
    noisy = dequantization(images.to(device), seed=1)
    assert noisy.device.type == device
    order = [2, 0]
    assert torch.equal(dequantization(images[order].to(device), seed=1), noisy[order])
    assert torch.equal(dequantization(images[1:2].to(device), seed=1), noisy[1:2])
    assert torch.equal(dequantization(images.to(device), seed=1), noisy)
    assert not torch.equal(dequantization(images.to(device), seed=2), noisy)
    assert torch.equal(dequantization(images.to(device)), dequantization(images.to(device), seed=0))
    torch.testing.assert_close(dequantization(MetaTensor(images), seed=1).as_tensor(), noisy.cpu(), rtol=0, atol=0)


def test_noise_is_not_that_of_the_draws_or_the_probes():
    """One seed for all: what numbers are for is part of their seed."""

    def uniform(key: bytes, seed: int, index: int, purpose: bytes) -> torch.Tensor:
        random = ImageRandom([key], seed, purpose=purpose)
        return random.uniform(torch.tensor([0]), torch.tensor([index]), (20,))[0]

    key = image_keys(discrete())[0]
    kinds = [uniform(key, 0, 0, purpose) for purpose in (b"", b"divergence", b"dequantization")]
    assert all(not torch.equal(a, b) for i, a in enumerate(kinds) for b in kinds[:i])
    again = uniform(key, 0, 0, b"divergence")
    assert torch.equal(again, kinds[1])
    for other in ((key, 1, 0), (key, 0, 1), (image_keys(discrete())[1], 0, 0)):
        assert not torch.equal(uniform(*other, b"divergence"), kinds[1])
    dequantization = UniformDequantization()
    noise = (dequantization(discrete()) - discrete())[0].flatten() / dequantization.bin_width + 0.5
    torch.testing.assert_close(noise[:20].float(), kinds[2], rtol=0, atol=1e-6)


def test_global_random_state_neither_matters_nor_changes():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = UniformDequantization()(discrete())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(UniformDequantization()(discrete()), first)


def test_no_images():
    assert UniformDequantization()(torch.zeros(0, 1, 4, 4)).shape == (0, 1, 4, 4)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((1,), "num_levels: expected an integer of at least 2, got 1"),
        ((256.0,), "num_levels: expected an integer of at least 2, got 256.0"),
        ((256, 1.0, 1.0), "low, high: expected low < high, got 1.0, 1.0"),
        ((256, 1.0, -1.0), "low, high: expected low < high, got 1.0, -1.0"),
        ((256, 0.0, math.nan), "low, high: expected low < high, got 0.0, nan"),
    ],
)
def test_refuses(args, message):
    with pytest.raises(ValueError, match=message):
        UniformDequantization(*args)
