# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An image as the reading page shows it: upright, 16 bits, and how maps of the model are brought to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..image_io.image_files import read_image_file
from ..image_io.image_grid import read_grid
from ..image_io.upright import upright_volume
from ..image_io.volume_file import read_volume_file

__all__ = ["FULL", "ShownImage", "read_shown", "shrink"]

FULL = 65535


@dataclass(frozen=True)
class ShownImage:
    """An image as it is shown: rows from top to bottom, columns from left to right, slices from the feet to the head.

    Args:
        values: uint16 [H, W, C], of a volume [H, W, D, C].
        affine: of a volume, voxel of the file -> millimetres, RAS [4, 4]; None for an image whose maps are upright.
        spacing: height and width of a pixel, of which only the ratio counts.
        window: values that are shown black and white at first, as shares of the range of ``values``.
    """

    values: npt.NDArray[np.uint16]
    affine: npt.NDArray[np.float64] | None = None
    spacing: tuple[float, float] = (1.0, 1.0)
    window: tuple[float, float] = (0.0, 1.0)

    def upright(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values of the model [..., *spatial], in the axes in which it has read the image, as the image is shown."""
        return values if self.affine is None else upright_volume(values, self.affine)[0]


def read_shown(path: str, *, volumes: bool, window: tuple[float, float] | None = None) -> ShownImage:
    """An image, or a volume in whatever form a model of volumes reads it.

    Args:
        path: a file, or the folder of a DICOM series.
        volumes: whether the model reads volumes; its maps are in the axes of the file then.
        window: units of a volume that are shown black and white at first; None for all that are in it.

    Raises:
        ValueError: when it cannot be read.
    """
    if not volumes and not os.path.isdir(path):
        return _read_plane(path)
    try:
        volume = read_volume_file(path)
    except ValueError as refused:
        # A plane among volumes can be looked at and called bad; the model says for itself why it does not take it.
        try:
            return _read_plane(path)
        except ValueError:
            raise refused from None
    values, (height, width, _) = upright_volume(volume.values, volume.grid.affine)
    low, high = float(values.min()), float(values.max())
    shares = (values - low) / ((high - low) or 1.0)
    first = (0.0, 1.0) if window is None or high == low else _shares(window, low, high)
    return ShownImage(_sixteen_bits(shares)[..., None], volume.grid.affine, (height, width), first)


def _read_plane(path: str) -> ShownImage:
    """An image that is upright as it is read, or a volume as a model of planes sees it."""
    values = _sixteen_bits(read_image_file(path))
    try:
        height, width = read_grid(path).pixel_size[:2]
    except ValueError:  # of a shape that cannot be meant, which the model refuses; it can be looked at
        height = width = 1.0
    return ShownImage(values, spacing=(float(height), float(width)))


def _shares(window: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """A window as shares of a range; all of it where the two do not meet."""
    first, last = (min(1.0, max(0.0, (end - low) / (high - low))) for end in window)
    return (first, last) if last > first else (0.0, 1.0)


def _sixteen_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    return np.asarray(np.rint(FULL * values), dtype=np.uint16)


def shrink(values: npt.NDArray[Any], longest: int) -> npt.NDArray[Any]:
    """A plane [H, W, C] whose sides are at most so long.

    Example:
        >>> shrink(np.zeros((40, 20, 1), np.uint16), 10).shape
        (10, 5, 1)
    """
    factor = longest / max(values.shape[:2])
    if factor >= 1:
        return values
    size = [max(1, round(n * factor)) for n in values.shape[:2]]
    planes = torch.from_numpy(np.moveaxis(values, -1, 0).astype(np.float32))[None]
    smaller = torch.nn.functional.interpolate(planes, size, mode="bilinear", antialias=True)[0]
    shrunk: npt.NDArray[Any] = np.rint(np.moveaxis(smaller.numpy(), 0, -1)).astype(values.dtype)
    return shrunk
