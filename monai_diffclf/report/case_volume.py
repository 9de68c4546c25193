# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A volume of a case, as the page keeps it: all slices in one picture, from which it draws three planes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .case_pictures import as_pixels, png_address

__all__ = ["CaseVolume", "encode_volume", "strongest_voxel"]

LONGEST = 64
"""Voxels along a side that the page keeps at most."""
_ZERO, _FULL = 128, 127  # grey levels that stand for no difference, and for the full colour less that


@dataclass(frozen=True, kw_only=True)
class CaseVolume:
    """A volume with its map, upright: rows from front to back, columns from right to left, slices from feet to head.

    Args:
        image: the volume [C, H, W, D] in [-1, 1], C = 1 or 3.
        decision_map: its map [H, W, D], None without one.
        voxel_size: mm along H, W and D.

    Raises:
        ValueError: when shapes do not fit or numbers are not finite.
    """

    image: NDArray[Any]
    decision_map: NDArray[Any] | None = None
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        shape = np.shape(self.image)
        if len(shape) != 4 or shape[0] not in (1, 3) or 0 in shape:
            raise ValueError(f"image: expected a volume [1 or 3, H, W, D], got {list(shape)}")
        if self.decision_map is not None and np.shape(self.decision_map) != shape[1:]:
            raise ValueError(
                f"decision_map: expected the volume's shape {list(shape[1:])}, got {list(np.shape(self.decision_map))}"
            )
        if len(self.voxel_size) != 3 or not all(0 < size < np.inf for size in self.voxel_size):
            raise ValueError(f"voxel_size: expected three positive lengths in mm, got {self.voxel_size}")
        for name in ("image", "decision_map"):
            if getattr(self, name) is not None and not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")


def strongest_voxel(shape: tuple[int, ...], difference: NDArray[Any] | None = None) -> tuple[int, ...]:
    """Where a map is strongest, else the middle: the voxel that all three planes go through when a case is opened.

    Args:
        shape: size of the volume.
        difference: signed map of that size.

    Example:
        >>> strongest_voxel((4, 4, 9)), strongest_voxel((1, 1, 3), np.array([[[0.1, 0.2, -0.9]]]))
        ((2, 2, 4), (0, 0, 2))
    """
    if difference is None:
        return tuple(side // 2 for side in shape)
    return tuple(int(n) for n in np.unravel_index(int(np.abs(difference).argmax()), shape))


def encode_volume(volume: CaseVolume, colours: tuple[str, str]) -> tuple[dict[str, Any], float | None]:
    """What the page keeps of a volume, and the difference that has the full colour in its map.

    Sides of more than 64 voxels are averaged down; the page says so. Slices stand side by side in one PNG, the map in
    another one, whose grey level 128 is 0.

    Args:
        volume: the volume.
        colours: of positive and of negative differences.

    Example:
        >>> found, limit = encode_volume(CaseVolume(image=np.zeros((1, 4, 5, 6))), ("#ff0000", "#0000ff"))
        >>> found["size"], found["at"], found["columns"], limit
        ([4, 5, 6], [2, 2, 3], 3, None)
    """
    whole = volume.image.shape[1:]
    size = [min(side, LONGEST) for side in whole]
    image, difference, limit = _averaged(volume.image, size), None, None
    if volume.decision_map is not None:
        difference = _averaged(volume.decision_map[None], size)[0]
        limit = float(np.quantile(np.abs(difference), 0.995))
    columns = math.ceil(math.sqrt(size[-1]))
    spacing = [length * old / new for length, old, new in zip(volume.voxel_size, whole, size, strict=True)]
    found = {
        "image": png_address(_tiles(as_pixels(image.reshape(len(image), size[0], -1)), size, columns)),
        "map": None if difference is None else png_address(_tiles(_levels(difference, limit), size, columns)),
        "colours": list(colours),
        "size": size,
        "reducedFrom": None if size == list(whole) else list(whole),
        "voxelSize": spacing,
        "columns": columns,
        "at": list(strongest_voxel(tuple(size), difference)),
    }
    return found, limit


def _averaged(values: NDArray[Any], size: list[int]) -> NDArray[np.float64]:
    """Volumes [C, H, W, D] of a smaller size: each new voxel the mean of those that it covers."""
    tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
    height, width, depth = size
    return np.asarray(torch.nn.functional.adaptive_avg_pool3d(tensor, (height, width, depth)).numpy())


def _levels(difference: NDArray[np.float64], limit: float | None) -> NDArray[np.uint8]:
    """A map [H, W, D] as grey levels [H, W D]."""
    scaled = np.clip(difference / limit, -1, 1) if limit else np.zeros_like(difference)
    return (_ZERO + np.rint(_FULL * scaled)).astype(np.uint8).reshape(len(difference), -1)


def _tiles(pixels: NDArray[np.uint8], size: list[int], columns: int) -> NDArray[np.uint8]:
    """Slices side by side, from pixels [H, W D] or [H, W D, 3]: slice k in column k % columns, row k // columns."""
    height, width, depth = size
    rows = -(-depth // columns)
    colours = pixels.shape[2:]
    tiles = np.zeros((rows * columns, height, width, *colours), np.uint8)
    tiles[:depth] = np.moveaxis(pixels.reshape(height, width, depth, *colours), 2, 0)
    picture = np.moveaxis(tiles.reshape(rows, columns, height, width, *colours), 1, 2)
    return np.ascontiguousarray(picture.reshape(rows * height, columns * width, *colours))
