# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Numbers that say what an image looks like: its grey values, its detail at several scales, and where things lie."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["image_statistics", "latent_statistics"]

SCALES = 3
SMALLEST_SIDE = 8
_CELLS = {2: 4, 3: 2}  # cells a side, of what is said of places; of planes and volumes
_BANDS = {2: 8, 3: 4}  # bands of frequencies along each axis
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SMALLEST = 1e-8  # of a variance whose logarithm is taken: a step of 1 / 255 of the range, squared, is 6e-5


def image_statistics(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Statistics of each image as the network sees it, part by part [B, S of the part], float64.

    - ``values``: mean, standard deviation, smallest and largest value and five quantiles of the mean of the channels.
    - ``detail``: at three scales, each half as fine as the one before, the log energy of differences of neighbours
      along each axis and along all of them; at the finest also how much of it lies in few pixels (log kurtosis).
    - ``places``: in each of 4 x 4 (2 x 2 x 2) cells the mean, and the log energy of differences.
    - ``colour``, of several channels: mean and log variance of each channel less the mean of all.
    - ``everything``: those before, side by side, which also shows when they do not go together.
    - ``spectrum``: log energies of the cosine transform in bands of frequencies along the axes.

    Args:
        images: images [B, C, *spatial], 2D or 3D, of at least 8 pixels a side, in [-1, 1].

    Raises:
        ValueError: when the shape does not fit or a value is not finite.

    Example:
        >>> found = image_statistics(torch.rand(2, 1, 28, 28))
        >>> {name: values.shape[1] for name, values in found.items()}
        {'values': 9, 'detail': 12, 'places': 32, 'everything': 53, 'spectrum': 63}
    """
    if images.ndim not in (4, 5) or min(images.shape[2:]) < SMALLEST_SIDE:
        raise ValueError(
            f"images: expected [B, C, *spatial] of at least {SMALLEST_SIDE} pixels a side, got {list(images.shape)}"
        )
    values = torch.as_tensor(images.detach()).double()
    if not bool(torch.isfinite(values).all()):
        raise ValueError("images: expected finite values, got NaN or infinity")
    grey = values.mean(1, keepdim=True)
    found = {"values": _of_values(grey.flatten(1)), "detail": _of_detail(grey), "places": _of_places(grey)}
    if values.shape[1] > 1:
        rest = (values - grey).flatten(2)
        found["colour"] = torch.cat([rest.mean(2), _log(_variance(rest))], 1)
    found["everything"] = torch.cat(list(found.values()), 1)
    found["spectrum"] = _spectrum(grey[:, 0])
    return found


def latent_statistics(latents: torch.Tensor) -> dict[str, torch.Tensor]:
    """What latents say of an image as a whole: mean and log variance of each channel over the places [B, 2 c].

    Args:
        latents: latents [B, c, *grid].

    Example:
        >>> latent_statistics(torch.rand(2, 64, 7, 7))["latents"].shape
        torch.Size([2, 128])
    """
    values = latents.detach().double().flatten(2)
    return {"latents": torch.cat([values.mean(2), _log(_variance(values))], 1)}


def _of_values(values: torch.Tensor) -> torch.Tensor:
    """Mean, standard deviation, extremes and quantiles of values [B, P]: [B, 9]."""
    places = [round(level * (values.shape[1] - 1)) for level in (0, *_QUANTILES, 1)]
    moments = torch.stack([values.mean(1), _variance(values).sqrt()], 1)
    return torch.cat([moments, values.sort(1).values[:, places]], 1)


def _of_detail(grey: torch.Tensor) -> torch.Tensor:
    """Log energies and log kurtoses of differences at each scale."""
    axes = range(2, grey.ndim)
    pool = torch.nn.functional.avg_pool2d if grey.ndim == 4 else torch.nn.functional.avg_pool3d
    found = []
    for scale in range(SCALES):
        grey = pool(grey, 2) if scale else grey
        mixed = grey
        for axis in axes:
            mixed = mixed.diff(dim=axis)
        for detail in (*(grey.diff(dim=axis) for axis in axes), mixed):
            squares = detail.flatten(1).square()
            energy = squares.mean(1)
            found.append(_log(energy))
            if scale == 0:
                found.append(_log(squares.square().mean(1) / energy.square().clamp(min=_SMALLEST**2)))
    return torch.stack(found, 1)


def _of_places(grey: torch.Tensor) -> torch.Tensor:
    """Mean and log energy of differences in each cell."""
    planes = grey.ndim == 4
    pool = torch.nn.functional.adaptive_avg_pool2d if planes else torch.nn.functional.adaptive_avg_pool3d
    cells, energy = _CELLS[grey.ndim - 2], torch.zeros_like(grey)
    for axis in range(2, grey.ndim):
        step = grey.diff(dim=axis).square()
        energy += torch.cat([step, step.narrow(axis, step.shape[axis] - 1, 1)], axis)
    return torch.cat([pool(grey, cells).flatten(1), _log(pool(energy, cells).flatten(1))], 1)


def _spectrum(grey: torch.Tensor) -> torch.Tensor:
    """Log of the mean squared coefficients of the orthonormal cosine transform in each band but that of the mean."""
    energy = grey
    for axis in range(1, grey.ndim):
        matrix = torch.from_numpy(_cosines(grey.shape[axis])).to(grey)
        energy = torch.tensordot(energy, matrix, dims=([axis], [1])).movedim(-1, axis)
    energy = energy.square()
    for axis in range(1, grey.ndim):
        bands = torch.from_numpy(_bands(grey.shape[axis], _BANDS[grey.ndim - 1])).to(grey)
        energy = torch.tensordot(energy, bands, dims=([axis], [1])).movedim(-1, axis)
    return _log(energy.flatten(1)[:, 1:])


@lru_cache(maxsize=16)
def _cosines(size: int) -> NDArray[np.float64]:
    """The orthonormal cosine transform (DCT-II) as a matrix [frequency, place]."""
    frequency, place = np.arange(size)[:, None], np.arange(size)[None]
    matrix = np.sqrt(2 / size) * np.cos(math.pi * (2 * place + 1) * frequency / (2 * size))
    matrix[0] /= math.sqrt(2)
    return np.asarray(matrix)


@lru_cache(maxsize=16)
def _bands(size: int, count: int) -> NDArray[np.float64]:
    """Means over bands of frequencies [band, frequency]: the mean alone, then bands that grow by a factor."""
    edges = np.unique(np.r_[0, np.geomspace(1, size, count).round().astype(int)])
    band = np.searchsorted(edges[1:], np.arange(size), side="right")
    share = (band == np.arange(len(edges) - 1)[:, None]).astype(np.float64)
    return np.asarray(share / share.sum(1, keepdims=True))


def _variance(values: torch.Tensor) -> torch.Tensor:
    """Mean squared distance from the mean along the last axis; torch's own warns where there is no image."""
    return (values - values.mean(-1, keepdim=True)).square().mean(-1)


def _log(values: torch.Tensor) -> torch.Tensor:
    return values.clamp(min=_SMALLEST).log()
