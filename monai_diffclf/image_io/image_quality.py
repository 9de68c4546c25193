# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Images that cannot be told apart from a bad export: what is to be said of them beside their class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["image_warnings"]

# Mammograms and collimated X-rays are mostly black, yet far from this.
ONE_VALUE = 0.99
TINY = 8  # pixels a side, where the network's size is not known
FAR_SMALLER = 4  # times smaller than the network's size


def image_warnings(pixels: npt.NDArray[np.float32], spatial_size: Sequence[int] | None = None) -> tuple[str, ...]:
    """What makes an image look like a bad export: one value, one value nearly everywhere, next to no pixels.

    Args:
        pixels: ``[H, W, C]`` or ``[H, W, D, C]`` with values in [0, 1].
        spatial_size: size of the network's images; an image is too small if a side is less than a quarter of it.
            None: if a side in the plane is less than 8 pixels.

    Returns:
        One text for each finding; none for most images.

    Raises:
        ValueError: when there are no pixels.

    Example:
        >>> image_warnings(np.zeros((64, 64, 1), np.float32))
        ('every pixel has the same value, 0',)
        >>> image_warnings(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4, 1), [28, 28])
        ('only 4 x 4 pixels, where the network sees 28 x 28',)
    """
    size, found = pixels.shape[:-1], []
    if pixels.size == 0:
        raise ValueError(f"pixels: expected an image [H, W, C] with pixels, got the shape {list(pixels.shape)}")
    value, count = _most_frequent(pixels.reshape(-1, pixels.shape[-1]))
    total = int(np.prod(size))
    text = ", ".join(f"{number:.3g}" for number in value)
    if count == total:
        found.append("every pixel has the same value, " + text)
    elif count >= ONE_VALUE * total:
        found.append(f"{_percent(count / total)} of the pixels have the same value, {text}")
    if spatial_size is None:
        small = min(size[:2]) < TINY
    else:
        small = any(FAR_SMALLER * have < want for have, want in zip(size, spatial_size, strict=True))
    if small:
        seen = "" if spatial_size is None else ", where the network sees " + " x ".join(str(n) for n in spatial_size)
        found.append(f"only {' x '.join(str(n) for n in size)} pixels{seen}")
    return tuple(found)


def _most_frequent(pixels: npt.NDArray[np.float32]) -> tuple[list[float], int]:
    """The value [C] that nearly all pixels [n, C] have, and how many have it; another value and too few if none is."""
    value: list[float] = []
    same = np.ones(len(pixels), dtype=bool)
    for channel in pixels.T:
        # What more than half of the pixels have in common is their median.
        value.append(float(np.partition(channel, len(channel) // 2)[len(channel) // 2]))
        same &= channel == np.float32(value[-1])
        if same.sum() < ONE_VALUE * len(pixels):
            break
    return value, int(same.sum())


def _percent(share: float) -> str:
    """Rounded down, so that 100 % means all."""
    return f"{np.floor(1000 * share) / 10:g} %"
