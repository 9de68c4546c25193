# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Volumes as pictures: slices side by side."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from scipy.ndimage import zoom

from ..image_io.upright import plain_array, upright_volume
from .error_maps import overlay

__all__ = ["mosaic_overlay", "upright_volume"]

SLICES = 64  # of a mosaic at most
SQUARE = 0.02  # pixels whose sides differ by less are shown as they are


def mosaic_overlay(
    image: npt.NDArray[Any] | torch.Tensor,
    difference: npt.NDArray[Any] | torch.Tensor,
    affine: npt.NDArray[Any] | torch.Tensor | None = None,
    *,
    size: int = 1024,
    limit: float | None = None,
) -> npt.NDArray[np.float64]:
    """Axial slices side by side from the feet to the head, row by row, each with the map over it, on one scale.

    Of more than 64 slices every n-th is shown, the one in which the map is strongest among them.

    Args:
        image: the volume [C, X, Y, Z] in [0, 1], C = 1 or 3.
        difference: its map [X, Y, Z], see `overlay`.
        affine: see `upright_volume`; None for that of the image.
        size: the longer side is enlarged to at least this many pixels.
        limit: see `overlay`.

    Returns:
        colours [H, W, 3] in [0, 1].

    Raises:
        ValueError: when the shapes do not fit.

    Example:
        >>> mosaic_overlay(np.zeros((1, 8, 8, 9)), np.ones((8, 8, 9)), size=1).shape
        (24, 24, 3)
    """
    if image.ndim != 4 or tuple(image.shape[1:]) != tuple(difference.shape):
        raise ValueError(
            f"image: expected [C, X, Y, Z] with the map's size {list(difference.shape)}, got {list(image.shape)}"
        )
    if affine is None and isinstance(image, MetaTensor):
        affine = image.affine
    volume, (height, width, _) = upright_volume(image, affine)
    values, _ = upright_volume(plain_array(difference), affine)
    if abs(height / width - 1) > SQUARE:
        factors = (height / min(height, width), width / min(height, width), 1.0)
        volume, values = zoom(volume, (1.0, *factors), order=1), zoom(values, factors, order=1)
    every = -(-values.shape[-1] // SLICES)
    strongest = int(np.abs(values).sum((0, 1)).argmax())
    chosen = range(strongest % every, values.shape[-1], every)
    columns = math.ceil(math.sqrt(len(chosen)))
    tiles = _tiled(values[None][..., chosen], columns)[0]
    return overlay(_tiled(volume[..., chosen], columns), tiles, size=size, limit=limit)


def _tiled(volume: npt.NDArray[Any], columns: int) -> npt.NDArray[np.float64]:
    """Slices [C, H, W, n] as a picture [C, rows H, columns W], what is left over 0."""
    channels, height, width, count = volume.shape
    rows = -(-count // columns)
    tiles = np.zeros((channels, rows * columns, height, width))
    tiles[:, :count] = np.moveaxis(volume, -1, 1)
    picture = tiles.reshape(channels, rows, columns, height, width).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(picture.reshape(channels, rows * height, columns * width))
