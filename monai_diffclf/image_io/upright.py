# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Volumes with their axes as people look at them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from nibabel import affines, orientations

from .._checks import plain_tensor

__all__ = ["plain_array", "upright_volume"]

# Rows to the back, columns to the left, slices to the head: axial planes in the radiological convention.
_UPRIGHT = orientations.axcodes2ornt(("P", "L", "S"))


def upright_volume(
    values: npt.NDArray[Any] | torch.Tensor, affine: npt.NDArray[Any] | torch.Tensor | None = None
) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    """A volume with its axes flipped and exchanged so that rows point to the back, columns to the left, slices up.

    Nothing is resampled: oblique axes go to the nearest of the anatomical ones.

    Args:
        values: the volume [..., X, Y, Z].
        affine: voxel -> millimetres, RAS [4, 4]; None for that of a MetaTensor. Other volumes are taken as upright.

    Returns:
        array [..., H, W, D], and the size of its voxels in mm along H, W and D.

    Raises:
        ValueError: when there are fewer than three axes.

    Example:
        >>> upright_volume(np.arange(4).reshape(2, 2, 1), np.eye(4))[0][..., 0].tolist()
        [[3, 1], [2, 0]]
    """
    array = plain_array(values)
    if array.ndim < 3:
        raise ValueError(f"values: expected a volume [..., X, Y, Z], got {list(array.shape)}")
    if affine is None:
        if not isinstance(values, MetaTensor):
            return array, (1.0, 1.0, 1.0)
        affine = values.affine
    matrix = np.asarray(torch.as_tensor(affine).cpu(), dtype=np.float64)
    found = orientations.io_orientation(matrix)
    turn = orientations.ornt_transform(found, _UPRIGHT)
    moved = orientations.apply_orientation(np.moveaxis(array, (-3, -2, -1), (0, 1, 2)), turn)
    sizes = affines.voxel_sizes(matrix)
    height, width, depth = (float(sizes[list(turn[:, 0]).index(axis)]) for axis in range(3))
    return np.moveaxis(moved, (0, 1, 2), (-3, -2, -1)), (height, width, depth)


def plain_array(values: npt.NDArray[Any] | torch.Tensor) -> npt.NDArray[Any]:
    """An array as it is; a tensor as an array, without metadata."""
    if isinstance(values, torch.Tensor):
        return np.asarray(plain_tensor(values).detach().cpu().numpy())
    return values
