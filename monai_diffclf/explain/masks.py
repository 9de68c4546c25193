# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Masks: where a map is strongest, and masks grown by some pixels."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter

__all__ = ["dilate_mask", "mask_from_map"]


def dilate_mask(mask: torch.Tensor, radius: float) -> torch.Tensor:
    """All pixels within a distance of the mask [B, 1, *spatial], bool, on the mask's device.

    Args:
        mask: masks [B, 1, *spatial]; what is not 0 is inside.
        radius: Euclidean distance in pixels, 0 or more; 0 leaves the mask as it is.

    Raises:
        ValueError: when the mask has another shape, or the radius is negative.

    Example:
        >>> mask = torch.zeros(1, 1, 5, 5)
        >>> mask[..., 2, 2] = 1
        >>> int(dilate_mask(mask, 1).sum()), int(dilate_mask(mask, 1.5).sum())
        (5, 9)
    """
    if mask.ndim not in (4, 5) or mask.shape[1] != 1:
        raise ValueError(f"mask: expected [B, 1, H, W] or [B, 1, H, W, D], got {list(mask.shape)}")
    if not radius >= 0:
        raise ValueError(f"radius: expected 0 or more pixels, got {radius!r}")
    inside = (mask != 0).cpu().numpy()
    # The distance to the mask of an empty mask is that to the border in SciPy.
    grown = [distance_transform_edt(~one[0]) <= radius if one.any() else one[0] for one in inside]
    return torch.from_numpy(np.stack(grown)[:, None] if grown else inside).to(mask.device)


def mask_from_map(
    maps: torch.Tensor, *, fraction: float = 0.02, smooth: float | None = None, dilate: float | None = None
) -> torch.Tensor:
    """Where a map is highest [B, 1, *spatial], bool, on the map's device: the place for a masked edit.

    The map is smoothed, as single pixels of it are noise; the highest ``fraction`` of its pixels are taken and the mask
    is grown. Take the map's absolute value first if both signs count. A map that is the same everywhere gives the whole
    image.

    Args:
        maps: maps [B, *spatial] or [B, 1, *spatial], such as `class_difference` of the class to edit away.
        fraction: share of the pixels to take, in (0, 1].
        smooth: standard deviation of the smoothing in pixels, 0 for none; None for 1/20 of the shortest side.
        dilate: distance by which the mask is grown, in pixels, 0 for none; None for 1/32 of the shortest side.

    Raises:
        ValueError: when an argument is out of range, or a map is not finite.

    Example:
        >>> maps = torch.zeros(1, 8, 8)
        >>> maps[0, 5, 5] = 1
        >>> mask = mask_from_map(maps, fraction=1 / 64, smooth=0, dilate=0)
        >>> mask.shape, mask.nonzero().tolist()
        (torch.Size([1, 1, 8, 8]), [[0, 0, 5, 5]])
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction: expected a number above 0 and up to 1, got {fraction!r}")
    if smooth is not None and not smooth >= 0:
        raise ValueError(f"smooth: expected 0 or more pixels, got {smooth!r}")
    if maps.ndim in (4, 5) and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim not in (3, 4) or maps[:1].numel() == 0:
        raise ValueError(f"maps: expected [B, *spatial] or [B, 1, *spatial], 2D or 3D, got {list(maps.shape)}")
    if not bool(torch.isfinite(maps).all()):
        raise ValueError("maps: expected finite values, got NaN or infinity")
    side = min(maps.shape[1:])
    smooth, dilate = side / 20 if smooth is None else smooth, side / 32 if dilate is None else dilate
    masks = []
    for each in maps.detach().cpu().double().numpy():
        smoothed = gaussian_filter(each, smooth) if smooth else each
        count = math.ceil(fraction * smoothed.size)
        masks.append(smoothed >= np.partition(smoothed, -count, axis=None)[-count])
    return dilate_mask(torch.from_numpy(np.stack(masks))[:, None], dilate).to(maps.device)
