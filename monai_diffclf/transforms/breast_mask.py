# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where the breast is in a mammogram."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from monai.config import NdarrayOrTensor
from monai.data import get_track_meta
from monai.utils import convert_to_tensor, optional_import

threshold_otsu, _ = optional_import("skimage.filters", name="threshold_otsu")
label, _ = optional_import("skimage.measure", name="label")
morphology, _ = optional_import("skimage.morphology")
binary_fill_holes, _ = optional_import("scipy.ndimage", name="binary_fill_holes")

__all__ = ["breast_mask"]

# The breast is looked for in an image whose longer side has so many pixels: its outline needs no more.
_GRID = 512
# Bright areas narrower than twice this part of the longer side are no breast: film edges, tape, text that touches it.
_THIN = 0.01
# Breasts cover a tenth of a mammogram and more; a label covers less than a fiftieth.
_SMALLEST = 0.02


def breast_mask(image: NdarrayOrTensor, *, name: str = "") -> torch.Tensor:
    """Where the breast is: the largest bright area, without what is thin, with its holes filled.

    Otsu's threshold is taken of the square root of the intensities, so that the thin tissue near the skin is on the
    side of the breast and not on that of the background.

    Args:
        image: one mammogram ``[1, H, W]``, bright on a dark background.
        name: what to call it in messages; by default its file.

    Returns:
        bool ``[H, W]``.

    Raises:
        ValueError: naming the image: it has another shape, NaN or infinite pixels, no contrast, or no breast.

    Example:
        >>> image = torch.zeros(1, 40, 30)
        >>> image[:, 10:30, :12] = 0.5
        >>> int(breast_mask(image).sum())
        240
    """
    tensor = as_grey_image(image, name)
    name = name or name_of(tensor)
    plain = torch.as_tensor(tensor).detach().cpu().float()[None]
    height, width = plain.shape[2:]
    factor = max(1.0, max(height, width) / _GRID)
    size = (max(1, round(height / factor)), max(1, round(width / factor)))
    small = torch.nn.functional.interpolate(plain, size, mode="area")[0, 0].numpy()
    mask = _largest_area(np.sqrt(np.clip(small, 0, None)), name)
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None].float(), (height, width), mode="bilinear", align_corners=False
    )
    return scaled[0, 0] > 0.5


def _largest_area(image: npt.NDArray[np.float32], name: str) -> npt.NDArray[np.bool_]:
    if np.ptp(image) == 0:
        raise ValueError(f"{name}: expected a mammogram, got a blank image: all its pixels are equal; leave it out")
    bright = image > threshold_otsu(image)
    radius = max(1, round(_THIN * max(image.shape)))
    # Darkness around the image, so that the edge of a film is thin like one inside the image.
    padded = np.pad(bright, radius + 1)
    areas = label(morphology.isotropic_opening(padded, radius))
    counts = np.bincount(areas.ravel())[1:]
    share = counts.max() / image.size if len(counts) else 0.0
    if share < _SMALLEST:
        raise ValueError(
            f"{name}: expected a breast, but the largest bright area covers {share:.1%} of the image (less than "
            f"{_SMALLEST:.0%}); leave the image out, or crop it first if the breast is that small"
        )
    core = areas == 1 + counts.argmax()
    # The opening has rounded the outline; what was bright next to it belongs to the breast.
    whole = morphology.isotropic_dilation(core, radius) & padded
    inner = whole[radius + 1 : -radius - 1, radius + 1 : -radius - 1]
    filled: npt.NDArray[np.bool_] = binary_fill_holes(inner)
    return filled


def as_grey_image(img: NdarrayOrTensor, name: str) -> torch.Tensor:
    """The image as a floating-point (meta) tensor."""
    image: torch.Tensor = convert_to_tensor(img, track_meta=get_track_meta())
    name = name or name_of(image)
    if image.ndim != 3 or image.shape[0] != 1 or 0 in image.shape:
        raise ValueError(
            f"{name}: expected one grey image [1, H, W], got the shape {list(image.shape)}; give each image of a batch "
            "on its own, with its channel first"
        )
    image = image if image.is_floating_point() else image.float()
    if not torch.isfinite(image).all():
        raise ValueError(f"{name}: expected finite pixels, got NaN or infinite ones")
    return image


def name_of(image: torch.Tensor) -> str:
    """What to call an image in messages: its file."""
    return str(getattr(image, "meta", {}).get("filename_or_obj") or "image (array)")
