# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Error maps on a coarse grid."""

from __future__ import annotations

import torch

from .._checks import check_integer

__all__ = ["pool_maps"]


def pool_maps(error_maps: torch.Tensor, grid: int) -> torch.Tensor:
    """Error maps averaged over the cells of a grid [B, K, grid, grid] ([B, K, grid, grid, grid] for volumes), float64.

    Args:
        error_maps: error of each pixel and class [B, K, *spatial], at least ``grid`` pixels a side.
        grid: cells a side.

    Raises:
        ValueError: when the maps have another number of dimensions or are smaller than the grid.

    Example:
        >>> pool_maps(torch.arange(16.0).view(1, 1, 4, 4), 2).tolist()
        [[[[2.5, 4.5], [10.5, 12.5]]]]
    """
    grid = check_integer(grid, "grid")
    if error_maps.ndim not in (4, 5) or min(error_maps.shape[2:]) < grid:
        raise ValueError(
            f"error_maps: expected [B, K, *spatial] of at least {grid} pixels a side (grid), got "
            f"{list(error_maps.shape)}"
        )
    pool = torch.nn.functional.adaptive_avg_pool2d if error_maps.ndim == 4 else torch.nn.functional.adaptive_avg_pool3d
    return pool(error_maps.double(), grid)
