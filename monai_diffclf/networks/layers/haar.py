# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Orthonormal Haar wavelet packet in two and three dimensions.

One level takes each block of 2 x 2 (x 2) pixels to 4 (8) channels of half the size. With ``a`` the earlier and ``b``
the later pixel along an axis, the low band is ``(a + b) / sqrt(2)`` and the high band ``(a - b) / sqrt(2)`` (Mallat, A
Wavelet Tour of Signal Processing, chapter 7), along each axis in turn. The map is orthonormal: it keeps the norm, its
inverse is its transpose, and white noise stays white noise of the same variance, so a diffusion model can run on the
coefficients.

Channel order: input channel ``c`` gives the channels ``c * 2**d + s``. Bit ``k`` of the band ``s`` is 1 where the band
is high along spatial axis ``k``; in two dimensions that is approximation, horizontal, vertical and diagonal detail.
Each further level is applied to all channels of the one before (a full wavelet packet), so all channels share one
resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

__all__ = ["check_levels", "haar_forward", "haar_inverse"]


def haar_forward(x: torch.Tensor, levels: int = 1, *, spatial_dims: int = 2) -> torch.Tensor:
    """Orthonormal Haar wavelet packet of images, with any number of leading batch axes.

    Args:
        x: floating-point images, ``[..., C, *spatial]``; each spatial size divisible by ``2**levels``.
        levels: how often to apply the transform to all channels, at least 1.
        spatial_dims: number of trailing spatial axes, 2 or 3.

    Returns:
        Coefficients, ``[..., C * 2**(spatial_dims * levels), *(spatial / 2**levels)]``, ordered as the module says.

    Raises:
        ValueError: when ``levels``, ``spatial_dims``, the number of axes or a spatial size does not fit.
        TypeError: when ``x`` is not a floating-point tensor.

    Example:
        >>> haar_forward(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])).flatten().tolist()
        [5.0, -2.0, -1.0, 0.0]
    """
    _check_input(x, levels, spatial_dims)
    _check_sizes(x.shape[-spatial_dims:], levels)
    channel = x.ndim - spatial_dims - 1
    for _ in range(levels):
        bands = [x]
        # Appending all high bands after all low ones makes axis k the k-th bit of the band's number.
        for axis in range(-spatial_dims, 0):
            pairs = [(_every_other(band, axis, 0), _every_other(band, axis, 1)) for band in bands]
            bands = [a + b for a, b in pairs] + [a - b for a, b in pairs]
        x = torch.stack(bands, dim=channel + 1).flatten(channel, channel + 1)
    return x * _scale(levels, spatial_dims)


def haar_inverse(x: torch.Tensor, levels: int = 1, *, spatial_dims: int = 2) -> torch.Tensor:
    """Inverse of ``haar_forward``: images from their coefficients.

    Args:
        x: floating-point coefficients, ``[..., C * 2**(spatial_dims * levels), *spatial]``, ordered as the module says.
        levels: how often the transform was applied, at least 1.
        spatial_dims: number of trailing spatial axes, 2 or 3.

    Returns:
        Images, ``[..., C, *(spatial * 2**levels)]``.

    Raises:
        ValueError: when ``levels``, ``spatial_dims``, the number of axes or the number of channels does not fit.
        TypeError: when ``x`` is not a floating-point tensor.

    Example:
        >>> image = torch.arange(16.0).reshape(1, 4, 4)
        >>> bool(torch.equal(haar_inverse(haar_forward(image, 2), 2), image))
        True
    """
    _check_input(x, levels, spatial_dims)
    channel = x.ndim - spatial_dims - 1
    _check_channels(x.shape[channel], levels, spatial_dims)
    spatial = range(channel + 1, channel + 1 + spatial_dims)
    for _ in range(levels):
        pixels = list(x.unflatten(channel, (-1, 2**spatial_dims)).unbind(channel + 1))
        # The last axis was split last, so its bands are the two halves of the list; undoing it first frees the next.
        for _ in range(spatial_dims):
            half = len(pixels) // 2
            pairs = list(zip(pixels[:half], pixels[half:], strict=True))
            pixels = [pixel for low, high in pairs for pixel in (low + high, low - high)]
        # Interleave all pixels of a block in one copy; unflattened, the position along the first axis comes last.
        blocks = torch.stack(pixels, dim=-1).unflatten(-1, (2,) * spatial_dims)
        order = [i for k, axis in enumerate(spatial) for i in (axis, blocks.ndim - 1 - k)]
        x = blocks.permute(*range(channel + 1), *order)
        for axis in spatial:
            x = x.flatten(axis, axis + 1)
    return x * _scale(levels, spatial_dims)


def _scale(levels: int, spatial_dims: int) -> float:
    """The factors 1 / sqrt(2) of all axes and levels in one: in two dimensions an exact power of two."""
    return math.pow(2.0, -0.5 * spatial_dims * levels)


def _every_other(x: torch.Tensor, axis: int, start: int) -> torch.Tensor:
    """Every second element of ``x`` along a negative ``axis``, from ``start``."""
    return x[(..., slice(start, None, 2)) + (slice(None),) * (-axis - 1)]


def _tracing() -> bool:
    """Whether torch.jit traces: sizes are traced values then, and comparing them would only warn."""
    return bool(torch.jit.is_tracing())


def check_levels(levels: int) -> None:
    """Refuse a number of levels below 1."""
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
        raise ValueError(f"Argument `levels` must be an integer of at least 1, but got {levels!r}.")


def _check_input(x: torch.Tensor, levels: int, spatial_dims: int) -> None:
    check_levels(levels)
    if spatial_dims not in (2, 3):
        raise ValueError(f"Argument `spatial_dims` must be 2 or 3, but got {spatial_dims!r}.")
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(f"Argument `x` must be a floating-point tensor, but got {kind}; convert it with `x.float()`.")
    if x.ndim < spatial_dims + 1:
        raise ValueError(
            f"Argument `x` must have a channel axis and {spatial_dims} spatial axes, [..., C, *spatial], but got the "
            f"shape {tuple(x.shape)}; add the channel axis, or set `spatial_dims`."
        )


def _check_sizes(sizes: Sequence[int], levels: int) -> None:
    block = 2**levels
    if _tracing() or all(size % block == 0 for size in sizes):
        return
    padded = tuple(-(-size // block) * block for size in sizes)
    raise ValueError(
        f"Spatial sizes must be divisible by 2**levels = {block}, but got {tuple(sizes)}; "
        f"pad to {padded}, for example with monai.transforms.DivisiblePad(k={block})."
    )


def _check_channels(channels: int, levels: int, spatial_dims: int) -> None:
    factor = 2 ** (spatial_dims * levels)
    if _tracing() or channels % factor == 0:
        return
    raise ValueError(
        f"The number of channels must be divisible by 2**(spatial_dims * levels) = {factor} for {levels} level(s) in "
        f"{spatial_dims} dimensions, but got {channels}; is this the output of as many levels of the transform?"
    )
