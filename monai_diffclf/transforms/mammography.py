# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Transforms that prepare mammograms: read, turn to one side, crop, blacken, equalise, fit to a square."""

from __future__ import annotations

import os

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import Flip, Resize, SpatialCrop, SpatialPad, Transform
from monai.utils import optional_import

from .._checks import check_integer
from ..data.mammogram_tables import SIDES
from ..image_io import crop_and_resize, image_warnings, read_grid
from ..image_io.doubts import as_text, collect_doubts
from ..image_io.mammogram import read_mammogram
from .breast_mask import as_grey_image, breast_mask, name_of

equalize_adapthist, _ = optional_import("skimage.exposure", name="equalize_adapthist")


class ReadMammogram(Transform):
    """Read a mammogram, a DICOM file, as a float32 MetaTensor ``[1, H, W]`` in [0, 1]; see `read_mammogram`.

    Its affine leads from (row, column, slice) to millimetres, RAS, as ITK places the file. Pixels that are not square
    are resampled to squares of their shorter side.

    Raises:
        ValueError: naming the file and the DICOM field.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> ReadMammogram()(get_testdata_file("MR_small.dcm")).shape
        torch.Size([1, 64, 64])
    """

    def __call__(self, path: str | os.PathLike[str]) -> MetaTensor:
        """Read one file.

        ``meta["filename_or_obj"]`` is its path, ``meta["spatial_shape"]`` the size of the file, ``meta["warnings"]``
        says what may be wrong with the image (see `monai_diffclf.image_io.image_warnings`), "" if nothing.
        """
        with collect_doubts() as found:
            array = read_mammogram(path)
            grid = read_grid(path)
        pixel_size = grid.plane_pixel_size(array.shape)
        meta = {
            "filename_or_obj": os.fspath(path),
            "spatial_shape": np.asarray(array.shape),
            "warnings": as_text([*found, *grid.doubts, *image_warnings(array[..., None])]),
        }
        affine = torch.from_numpy(grid.upright_affine(array.shape))
        image = MetaTensor(torch.from_numpy(array)[None], affine=affine, meta=meta)
        if pixel_size is None:
            return image
        size = [round(n * one / min(pixel_size)) for n, one in zip(array.shape, pixel_size, strict=True)]
        return MetaTensor(crop_and_resize(image, size, pixel_size))


class CropBreast(Transform):
    """Crop a mammogram to the rectangle around the breast.

    Args:
        margin: pixels to keep around it, as far as the image goes.

    Raises:
        ValueError: when the margin is negative; when called, naming an image without a breast, see `breast_mask`.

    Example:
        >>> image = torch.zeros(1, 40, 30)
        >>> image[:, 10:30, :12] = 0.5
        >>> tuple(CropBreast(margin=2)(image).shape)
        (1, 24, 14)
    """

    def __init__(self, margin: int = 0) -> None:
        if margin < 0:
            raise ValueError(f"margin: expected 0 or more pixels, got {margin!r}")
        self.margin = margin

    def __call__(self, img: NdarrayOrTensor, *, name: str = "") -> torch.Tensor:
        """Crop one image ``[1, H, W]``."""
        image = as_grey_image(img, name)
        where = breast_mask(image, name=name).nonzero()
        start = (where.amin(0) - self.margin).clamp(min=0)
        end = where.amax(0) + 1 + self.margin
        cropped: torch.Tensor = SpatialCrop(roi_start=start.tolist(), roi_end=end.tolist())(image)
        return cropped


class SuppressBackground(Transform):
    """Set all that is not breast to 0: labels, tape, film edges, the glow of the background.

    Raises:
        ValueError: when called, naming an image without a breast, see `breast_mask`.

    Example:
        >>> image = torch.zeros(1, 40, 30)
        >>> image[:, 10:30, :12] = 0.5
        >>> image[:, 2:6, 20:28] = 1.0
        >>> float(SuppressBackground()(image).max())
        0.5
    """

    def __call__(self, img: NdarrayOrTensor, *, name: str = "") -> torch.Tensor:
        """Blacken the background of one image ``[1, H, W]``."""
        image = as_grey_image(img, name)
        return image * breast_mask(image, name=name).to(image.device)


class FlipToSide(Transform):
    """Flip a mammogram left to right where needed, so that the chest wall is on one side.

    Where it is shows the image: the breast is broad at the chest wall, so that more of it is on that half. With
    `laterality` the breast decides instead: that of a left breast is on the left, as the usual way to hang
    mammograms has it, whatever the image shows.

    Args:
        side: where the chest wall is to be, "left" or "right".

    Raises:
        ValueError: when `side` is something else; when called, if `laterality` is, or naming an image without a breast.

    Example:
        >>> image = torch.zeros(1, 40, 30)
        >>> image[:, 10:30, 18:] = 0.5
        >>> FlipToSide("left")(image)[0, 20, :3].tolist()
        [0.5, 0.5, 0.5]
        >>> FlipToSide("left")(image, laterality="L")[0, 20, :3].tolist()
        [0.0, 0.0, 0.0]
    """

    def __init__(self, side: str = "left") -> None:
        if side not in ("left", "right"):
            raise ValueError(f"side: expected 'left' or 'right', got {side!r}")
        self.side = side

    def __call__(self, img: NdarrayOrTensor, *, laterality: str | None = None, name: str = "") -> torch.Tensor:
        """Flip one image ``[1, H, W]``, by its content, or as an image of the breast `laterality` ("L" or "R")."""
        image = as_grey_image(img, name)
        if laterality is None:
            columns = breast_mask(image, name=name).sum(0)
            half = len(columns) // 2
            on_left = bool(columns[:half].sum() >= columns[len(columns) - half :].sum())
        elif laterality in SIDES:
            on_left = laterality == "L"
        else:
            raise ValueError(f"{name or name_of(image)}: expected the laterality 'L' or 'R', got {laterality!r}")
        if on_left == (self.side == "left"):
            return image
        flipped: torch.Tensor = Flip(spatial_axis=1)(image)
        return flipped


class EqualizeAdaptive(Transform):
    """Contrast-limited adaptive histogram equalisation (CLAHE), by `skimage.exposure.equalize_adapthist`.

    Pixels that are 0 stay 0, so that a suppressed background is not lit up.

    Args:
        kernel_size: side of the tiles in pixels; None for an eighth of the image.
        clip_limit: share of a tile's pixels that one bin may hold, in (0, 1]; more is more contrast.
        nbins: number of bins of the histogram.

    Raises:
        ValueError: when `clip_limit` is out of range; when called, naming a blank image or pixels not in [0, 1].

    Example:
        >>> image = torch.linspace(0, 0.5, 64).repeat(64, 1)[None]
        >>> equal = EqualizeAdaptive()(image)
        >>> float(equal.min()), round(float(equal.max()), 3)
        (0.0, 1.0)
    """

    def __init__(self, kernel_size: int | None = None, clip_limit: float = 0.01, nbins: int = 256) -> None:
        if not 0 < clip_limit <= 1:
            raise ValueError(f"clip_limit: expected a number in (0, 1], got {clip_limit!r}")
        self.kernel_size, self.clip_limit, self.nbins = kernel_size, clip_limit, nbins

    def __call__(self, img: NdarrayOrTensor, *, name: str = "") -> torch.Tensor:
        """Equalise one image ``[1, H, W]`` with values in [0, 1]."""
        image = as_grey_image(img, name)
        array = torch.as_tensor(image).detach().cpu().float().numpy()[0]
        low, high = float(array.min()), float(array.max())
        if low < 0 or high > 1 or low == high:
            raise ValueError(
                f"{name or name_of(image)}: expected different pixels in [0, 1], got [{low:.4g}, {high:.4g}]; scale "
                "them first, and leave out blank images"
            )
        equal = equalize_adapthist(array, self.kernel_size, self.clip_limit, self.nbins) * (array > 0)
        result: torch.Tensor = image.clone()
        result[0] = torch.as_tensor(equal, dtype=image.dtype, device=image.device)
        return result


class ResizeAndPad(Transform):
    """Resize an image until its longer side fits a square, and pad the other with zeros; nothing is squashed.

    MONAI's ``Resize(size_mode="longest")`` and ``SpatialPad``.

    Args:
        spatial_size: side of the square.
        method: where to pad: "end" (right or bottom, which leaves a chest wall on the left at the edge) or
            "symmetric".

    Raises:
        ValueError: when an argument is none of these; when called, naming an image of another shape.

    Example:
        >>> tuple(ResizeAndPad(384)(torch.ones(1, 1000, 500)).shape)
        (1, 384, 384)
    """

    def __init__(self, spatial_size: int = 384, method: str = "end") -> None:
        spatial_size = check_integer(spatial_size, "spatial_size")
        if method not in ("end", "symmetric"):
            raise ValueError(f"method: expected 'end' or 'symmetric', got {method!r}")
        # "area" is the mean over the pixels that a new pixel covers: the few microcalcifications are not skipped.
        self.resize = Resize(spatial_size, size_mode="longest", mode="area")
        self.pad = SpatialPad((spatial_size, spatial_size), method=method)

    def __call__(self, img: NdarrayOrTensor, *, name: str = "") -> torch.Tensor:
        """Fit one image ``[1, H, W]``."""
        fitted: torch.Tensor = self.pad(self.resize(as_grey_image(img, name)))
        return fitted
