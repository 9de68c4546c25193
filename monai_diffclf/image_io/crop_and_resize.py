# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From an image's own pixels to those of a network, and back: the centre is cropped, then resized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from monai.data import MetaTensor
from monai.transforms import CenterSpatialCrop, Crop, InvertibleTransform, Resize
from monai.transforms.utils import scale_affine
from monai.utils import TraceKeys

__all__ = ["CropAndResize", "crop_and_resize", "crop_size"]


def crop_size(
    shape: Sequence[int], spatial_size: Sequence[int], pixel_size: Sequence[float] | None = None
) -> list[int]:
    """The largest size within ``shape`` that has the aspect ratio of ``spatial_size`` once pixels are square.

    Args:
        shape: size of the image in pixels.
        spatial_size: the size whose aspect ratio is wanted.
        pixel_size: size of a pixel along each axis, in any unit; None for square pixels.

    Example:
        >>> crop_size([100, 60], [28, 28]), crop_size([64, 32], [28, 28], pixel_size=[1, 2])
        ([60, 60], [64, 32])
    """
    sizes = [1.0] * len(shape) if pixel_size is None else [float(size) / max(pixel_size) for size in pixel_size]
    extent = [have * size for have, size in zip(shape, sizes, strict=True)]
    factor = min(have / want for have, want in zip(extent, spatial_size, strict=True))
    crop = [round(want * factor / size) for want, size in zip(spatial_size, sizes, strict=True)]
    return [min(have, max(1, want)) for have, want in zip(shape, crop, strict=True)]


def crop_and_resize(
    image: torch.Tensor, spatial_size: Sequence[int], pixel_size: Sequence[float] | None = None
) -> torch.Tensor:
    """Crop an image's centre to the aspect ratio of a size, then resize it to that size (bilinear, antialiased).

    MedMNIST was made in this way (with bicubic interpolation). Cropping keeps circles round; `monai.transforms.Resize`
    alone would squash them. Pixels that are not square become so: what is cropped has the aspect ratio of the size in
    millimetres, not in pixels.

    Args:
        image: float tensor ``[C, H, W]`` or ``[C, H, W, D]``. The affine of a MetaTensor follows, and what was done is
            traced, see `CropAndResize`.
        spatial_size: target ``[H, W]`` or ``[H, W, D]``.
        pixel_size: size of a pixel along each axis, in any unit; None for square pixels.

    Returns:
        Tensor ``[C, *spatial_size]`` with values within those of `image`.

    Example:
        >>> import torch
        >>> crop_and_resize(torch.ones(1, 100, 60), [28, 28]).shape
        torch.Size([1, 28, 28])
    """
    return CropAndResize(spatial_size)(image, pixel_size)


class CropAndResize(InvertibleTransform):
    """`crop_and_resize` as an invertible transform.

    The inverse resizes to the size that was cropped and puts zeros around, so that a map made on the network's grid
    lies on the image again: bilinear (trilinear for volumes), or nearest where `monai.transforms.Invertd` asks for it.

    Args:
        spatial_size: target ``[H, W]`` or ``[H, W, D]``.

    Example:
        >>> fit = CropAndResize([2, 2])
        >>> small = fit(MetaTensor(torch.ones(1, 2, 4)))
        >>> fit.inverse(small).tolist()
        [[[0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]]]
    """

    def __init__(self, spatial_size: Sequence[int]) -> None:
        self.spatial_size = tuple(int(n) for n in spatial_size)
        self._crop = _CropCentre()
        self._resize = _ResizeSmoothly()

    def __call__(self, img: torch.Tensor, pixel_size: Sequence[float] | None = None) -> torch.Tensor:
        """Crop and resize one image ``[C, *spatial]``."""
        cropped = self._crop(img, crop_size(img.shape[1:], self.spatial_size, pixel_size))
        return self._resize(cropped, self.spatial_size)

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Bring ``[C, *spatial_size]``, with the trace of its image, back to that image's grid."""
        return self._crop.inverse(self._resize.inverse(data))


class _CropCentre(Crop):
    """`monai.transforms.CenterSpatialCrop` to a size that is given with the image: one instance inverts them all."""

    def __call__(self, img: torch.Tensor, roi_size: Sequence[int]) -> torch.Tensor:  # type: ignore[override]
        slices = CenterSpatialCrop(roi_size).compute_slices(img.shape[1:])
        return super().__call__(img, slices)


class _ResizeSmoothly(InvertibleTransform):
    """Resize with an antialiasing filter; MONAI's `Resize` smooths planes by another one."""

    def __call__(  # type: ignore[override]
        self, img: torch.Tensor, size: Sequence[int], mode: str = "linear"
    ) -> torch.Tensor:
        size = tuple(int(n) for n in size)
        old = tuple(img.shape[1:])
        resized = _resize(torch.as_tensor(img.as_tensor() if isinstance(img, MetaTensor) else img), size, mode)
        if not isinstance(img, MetaTensor):
            return resized
        traced: Any = self.track_transform_meta(
            img,
            sp_size=size,
            affine=scale_affine(old, size),
            extra_info={"mode": mode},
            orig_size=old,
            transform_info=self.get_transform_info(),
        )
        return cast(MetaTensor, MetaTensor(resized).copy_meta_from(traced))

    def inverse(self, data: MetaTensor) -> MetaTensor:
        done = self.pop_transform(data)
        mode = "nearest" if str(done[TraceKeys.EXTRA_INFO]["mode"]).startswith("nearest") else "linear"
        with self.trace_transform(False):
            return cast(MetaTensor, self(data, done[TraceKeys.ORIG_SIZE], mode))


def _resize(image: torch.Tensor, size: tuple[int, ...], mode: str) -> torch.Tensor:
    if tuple(image.shape[1:]) == size:
        return image
    if mode == "nearest":
        return torch.nn.functional.interpolate(image[None], size, mode="nearest-exact")[0]
    if len(size) == 2:
        resized = torch.nn.functional.interpolate(
            image[None], size, mode="bilinear", align_corners=False, antialias=True
        )[0]
    else:
        # torch has no antialiased trilinear resize; MONAI smooths before it samples.
        resized = torch.as_tensor(Resize(size, mode="trilinear", anti_aliasing=True)(image))
        resized = resized.as_tensor() if isinstance(resized, MetaTensor) else resized
    low, high = image.amin(), image.amax()
    return resized.clamp(min=low, max=high)
