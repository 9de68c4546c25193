# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Smoothing of maps that keeps their sum, and how much of it maps get where nothing else is said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

__all__ = ["along_axes", "default_smoothing", "smooth_error_maps", "smooth_map"]

SHARE_OF_SIDE = 1 / 16
SHARE_OF_STRIDE = 1 / 2


def default_smoothing(size: Sequence[int], stride: int | Sequence[int] = 1) -> tuple[float, ...]:
    """Standard deviation in image pixels along each axis, where nothing else is said.

    A sixteenth of the shortest side, which finds the lesions of phantoms best; but at least half of the footprint of a
    latent pixel, so that the map does not show where footprints meet, whatever lies there.

    Args:
        size: the image's spatial size.
        stride: size of a latent pixel in image pixels, one number or one an axis; 1 for pixels.

    Example:
        >>> default_smoothing((32, 48)), default_smoothing((224, 224), 32), default_smoothing((224, 224), (8, 32))
        ((2.0, 2.0), (16.0, 16.0), (14.0, 16.0))
    """
    strides = [stride] * len(size) if isinstance(stride, int) else list(stride)
    return tuple(max(min(size) * SHARE_OF_SIDE, step * SHARE_OF_STRIDE) for step in strides)


def smooth_map(maps: torch.Tensor, sigma: float | Sequence[float] | None = None) -> torch.Tensor:
    """Gaussian smoothing that keeps the sum of each map [B, *spatial].

    The errors of single pixels are mostly noise; what is left after smoothing is where the classes differ. Reflected
    edges keep what would leave the image. The maps of an inferer are smoothed already.

    Args:
        maps: maps [B, *spatial], 2D or 3D.
        sigma: standard deviation in pixels, one number or one an axis; None for that of :func:`default_smoothing`.

    Raises:
        ValueError: when the shape does not fit or ``sigma`` is not positive.

    Example:
        >>> spot = torch.zeros(1, 32, 32)
        >>> spot[0, 3, 30] = 1.0
        >>> smoothed = smooth_map(spot)
        >>> round(float(smoothed.sum()), 5), bool(smoothed.max() < 0.1)
        (1.0, True)
    """
    if maps.ndim not in (3, 4):
        raise ValueError(f"maps: expected [B, H, W] or [B, H, W, D], got {list(maps.shape)}")
    size = maps.shape[1:]
    if sigma is None:
        sigma = default_smoothing(size)
    sigmas = list(sigma) if isinstance(sigma, Sequence) else [sigma] * len(size)
    if len(sigmas) != len(size) or not all(each > 0 for each in sigmas):
        raise ValueError(
            f"sigma: expected a positive number of pixels, or one for each of {len(size)} axes, got {sigma}"
        )
    rows = [gaussian_filter1d(np.eye(n), each, axis=0, mode="reflect") for n, each in zip(size, sigmas, strict=True)]
    return along_axes(maps, [torch.from_numpy(row) for row in rows])


def smooth_error_maps(
    maps: torch.Tensor, sigma: float | None = None, *, stride: int | Sequence[int] = 1
) -> torch.Tensor:
    """Error maps in image pixels [B, K, *spatial], smoothed; see :func:`smooth_map`. Those over tokens are left alone.

    Args:
        maps: maps of the classes [B, K, *spatial].
        sigma: standard deviation in pixels, 0 for none; None for that of :func:`default_smoothing`.
        stride: stride of the latent space that they were made in.

    Example:
        >>> maps = torch.rand(1, 2, 32, 32)
        >>> torch.equal(smooth_error_maps(maps)[0], smooth_map(maps[0], 2.0)), smooth_error_maps(maps, 0) is maps
        (True, True)
    """
    if sigma == 0 or maps.ndim not in (4, 5):
        return maps
    own = default_smoothing(maps.shape[2:], stride) if sigma is None else sigma
    return smooth_map(maps.flatten(0, 1), own).view_as(maps)


def along_axes(maps: torch.Tensor, matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """Apply one matrix [new, old] along each spatial axis of maps [B, *spatial]; float64 inside."""
    out = maps.double()
    for axis, matrix in enumerate(matrices, start=1):
        out = torch.tensordot(out, matrix.to(out), dims=([axis], [1])).movedim(-1, axis)
    return out.to(maps.dtype)
