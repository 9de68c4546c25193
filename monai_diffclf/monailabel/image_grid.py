# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The pixel grid of an image file is in `monai_diffclf.image_io`; here is the way back to it without a trace."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.data import MetaTensor

from ..image_io import CropAndResize, ImageGrid, read_grid

__all__ = ["ImageGrid", "read_grid", "undo_crop_and_resize"]


def undo_crop_and_resize(values: torch.Tensor, spatial_size: Sequence[int]) -> torch.Tensor:
    """From the network's grid to the image's: `monai_diffclf.image_io.crop_and_resize` undone in place and scale.

    For a map whose image's trace is lost and whose pixels are square; else `CropAndResize.inverse`, which does this.
    Values are interpolated (bilinear; trilinear for volumes); outside the centre that was cropped there are zeros.

    Args:
        values: [h, w] or [h, w, d].
        spatial_size: size of the image, upright: [H, W] or [H, W, D].

    Returns:
        Tensor [*spatial_size].

    Example:
        >>> undo_crop_and_resize(torch.ones(2, 2), [2, 4]).tolist()
        [[0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]]
    """
    fit = CropAndResize(values.shape)
    size = [int(n) for n in spatial_size]
    trace = fit(MetaTensor(values.new_zeros(1).expand(1, *size)))
    if not isinstance(trace, MetaTensor):
        raise RuntimeError("expected MONAI to keep metadata; switch it on with monai.data.set_track_meta(True)")
    moved = MetaTensor(values[None], applied_operations=list(trace.applied_operations))
    return fit.inverse(moved).as_tensor()[0]
