# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Dequantisation as a MONAI transform, for training a density on images of discrete intensities."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from ..classification import UniformDequantization

__all__ = ["RandDequantize", "RandDequantizeD", "RandDequantizeDict", "RandDequantized"]


class RandDequantize(RandomizableTransform):
    """Add uniform noise of the width of an intensity level, other noise every time.

    A density model of images with 256 intensities would otherwise learn where those are. In evaluation
    :class:`monai_diffclf.classification.UniformDequantization` does the same with noise of the image's own.

    Args:
        num_levels: number of intensity levels.
        low: intensity of the lowest level.
        high: intensity of the highest level.

    Example:
        >>> transform = RandDequantize().set_random_state(seed=0)
        >>> noisy = transform(torch.zeros(1, 2, 2))
        >>> bool(noisy.abs().max() <= 1 / 255), bool((noisy != transform(torch.zeros(1, 2, 2))).any())
        (True, True)
    """

    def __init__(self, num_levels: int = 256, low: float = -1.0, high: float = 1.0) -> None:
        RandomizableTransform.__init__(self, prob=1.0)
        self.dequantization = UniformDequantization(num_levels, low, high)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The image [C, *spatial] with noise, in its own type."""
        noise = torch.from_numpy(self.R.uniform(-0.5, 0.5, tuple(image.shape)))
        return image + (self.dequantization.bin_width * noise).to(image)


class RandDequantized(MapTransform, RandomizableTransform):
    """Dictionary form of `RandDequantize`.

    Args:
        keys: keys of the images.
        num_levels: number of intensity levels.
        low: intensity of the lowest level.
        high: intensity of the highest level.
        allow_missing_keys: leave out a key that the item lacks instead of raising.
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_levels: int = 256,
        low: float = -1.0,
        high: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob=1.0)
        self.transform = RandDequantize(num_levels, low, high)

    def set_random_state(self, seed: int | None = None, state: Any = None) -> RandDequantized:
        """Start the random numbers anew (MONAI's name)."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with noise in its images."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.transform(item[key])
        return item


RandDequantizeD = RandDequantizeDict = RandDequantized
