# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Uniform dequantisation: from images of discrete intensities to a density, and back to bits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .._checks import check_integer
from .draws import image_keys
from .philox import ImageRandom

__all__ = ["UniformDequantization"]


@dataclass(frozen=True)
class UniformDequantization:
    """Adds uniform noise of the width of an intensity level, seeded by the image.

    An image of the levels 0 to L - 1, scaled to [low, high], has levels w = (high - low) / (L - 1) apart. With u
    uniform on [-1/2, 1/2), log P(x) >= E_u log p(x + w u) + D log w (Theis et al. 2016, equation 3): the density of
    dequantised images bounds the probability of discrete ones from below; the volume of a level is the change of
    variables.

    Args:
        num_levels: number of intensity levels L, 256 for 8 bits.
        low: intensity of level 0.
        high: intensity of level L - 1.

    Raises:
        ValueError: when there are fewer than two levels or ``low`` is not below ``high``.

    Example:
        >>> dequantization = UniformDequantization()
        >>> images = torch.zeros(2, 1, 3, 3)
        >>> noisy = dequantization(images, seed=0)
        >>> bool(noisy.abs().max() <= dequantization.bin_width / 2), torch.equal(noisy[0], noisy[1])
        (True, True)
    """

    num_levels: int = 256
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        check_integer(self.num_levels, "num_levels", 2)
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low, high: expected low < high, got {self.low!r}, {self.high!r}")

    @property
    def bin_width(self) -> float:
        """Width of a level on the images' scale, w."""
        return (self.high - self.low) / (self.num_levels - 1)

    def log_volume(self, num_elements: int) -> float:
        """D log w: what turns the log density of an image into the log probability of its discrete intensities."""
        return num_elements * math.log(self.bin_width)

    def __call__(self, images: torch.Tensor, *, seed: int = 0) -> torch.Tensor:
        """Images with noise [B, C, *spatial], float64, that depends on an image's pixels and the seed only."""
        everyone = torch.arange(len(images))
        random = ImageRandom(image_keys(images), seed, purpose=b"dequantization", device=images.device)
        noise = random.uniform(everyone, torch.zeros_like(everyone), images.shape[1:]).double()
        return images.double() + self.bin_width * (noise - 0.5)
