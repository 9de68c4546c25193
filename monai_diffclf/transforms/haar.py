# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The orthonormal Haar wavelet packet of :mod:`monai_diffclf.networks.layers.haar` as MONAI transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import InvertibleTransform, MapTransform, TraceableTransform, Transform
from monai.utils import TransformBackends, convert_to_tensor

from .._checks import plain_tensor
from ..networks.layers.haar import check_levels, haar_forward, haar_inverse

__all__ = [
    "HaarTransform",
    "HaarTransformD",
    "HaarTransformDict",
    "HaarTransformd",
    "InverseHaarTransform",
    "InverseHaarTransformD",
    "InverseHaarTransformDict",
    "InverseHaarTransformd",
]


class HaarTransform(InvertibleTransform):
    """Orthonormal Haar wavelet packet of one channel-first image, in two or three dimensions.

    Takes ``[C, *spatial]`` to ``[C * 2**(d * levels), *(spatial / 2**levels)]``; the module says in which order the
    channels are. Integer images become float32. Metadata is kept, the affine follows the coarser grid, and ``inverse``
    gives the image back.

    Args:
        levels: how often to apply the transform to all channels, at least 1.

    Raises:
        ValueError: when ``levels`` is less than 1; when called, if a spatial size is not divisible by ``2**levels``.

    Example:
        >>> transform = HaarTransform(levels=1)
        >>> coefficients = transform(torch.ones(3, 8, 6))
        >>> tuple(coefficients.shape), tuple(transform.inverse(coefficients).shape)
        ((12, 4, 3), (3, 8, 6))
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's own way to declare it

    def __init__(self, levels: int = 1) -> None:
        check_levels(levels)
        self.levels = levels

    def __call__(self, img: NdarrayOrTensor) -> torch.Tensor:
        """Transform one image ``[C, *spatial]``."""
        image, spatial_dims = _as_image(img)
        size = tuple(image.shape[1:])
        out = _with_meta_of(image, haar_forward(plain_tensor(image), self.levels, spatial_dims=spatial_dims))
        result: torch.Tensor = self.push_transform(
            out,
            orig_size=size,
            affine=_grid_change(2.0**self.levels, spatial_dims),
            extra_info={"levels": self.levels},
        )
        return result

    def inverse(self, data: torch.Tensor) -> torch.Tensor:
        """Undo the most recent call on ``data``, a ``MetaTensor`` that carries its trace."""
        levels = self.pop_transform(data)["extra_info"]["levels"]
        return InverseHaarTransform(levels)(data)


class InverseHaarTransform(Transform):
    """Image from its Haar coefficients, without the trace that ``HaarTransform.inverse`` needs.

    Takes ``[C * 2**(d * levels), *spatial]`` to ``[C, *(spatial * 2**levels)]``, for images made in wavelet space.

    Args:
        levels: how often the transform was applied, at least 1.

    Raises:
        ValueError: when ``levels`` is less than 1; when called, if the number of channels does not fit.

    Example:
        >>> tuple(InverseHaarTransform(levels=2)(torch.zeros(16, 5, 5)).shape)
        (1, 20, 20)
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's own way to declare it

    def __init__(self, levels: int = 1) -> None:
        check_levels(levels)
        self.levels = levels

    def __call__(self, img: NdarrayOrTensor) -> torch.Tensor:
        """Transform the coefficients ``[C * 2**(d * levels), *spatial]`` of one image."""
        image, spatial_dims = _as_image(img)
        out = _with_meta_of(image, haar_inverse(plain_tensor(image), self.levels, spatial_dims=spatial_dims))
        if isinstance(out, MetaTensor):
            affine = _grid_change(2.0**-self.levels, spatial_dims)
            out.copy_meta_from(TraceableTransform.track_transform_meta(out, affine=affine))
        return out


class HaarTransformd(MapTransform, InvertibleTransform):
    """Dictionary form of ``HaarTransform``, invertible with ``inverse`` and with MONAI's ``Invertd``.

    Args:
        keys: keys of the images to transform.
        levels: how often to apply the transform to all channels, at least 1.
        allow_missing_keys: do not raise when a key is missing.

    Example:
        >>> tuple(HaarTransformd("image", levels=1)({"image": torch.ones(1, 4, 4)})["image"].shape)
        (4, 2, 2)
    """

    backend = HaarTransform.backend

    def __init__(self, keys: KeysCollection, levels: int = 1, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.haar = HaarTransform(levels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform the images under the keys."""
        return _apply_to_keys(self, self.haar, data)

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Undo the most recent call on the images under the keys."""
        return _apply_to_keys(self, self.haar.inverse, data)


class InverseHaarTransformd(MapTransform):
    """Dictionary form of ``InverseHaarTransform``.

    Args:
        keys: keys of the coefficients to transform.
        levels: how often the transform was applied, at least 1.
        allow_missing_keys: do not raise when a key is missing.

    Example:
        >>> tuple(InverseHaarTransformd("pred", levels=1)({"pred": torch.ones(4, 2, 2)})["pred"].shape)
        (1, 4, 4)
    """

    backend = InverseHaarTransform.backend

    def __init__(self, keys: KeysCollection, levels: int = 1, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.inverse_haar = InverseHaarTransform(levels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform the coefficients under the keys."""
        return _apply_to_keys(self, self.inverse_haar, data)


def _apply_to_keys(owner: MapTransform, function: Any, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    out = dict(data)
    for key in owner.key_iterator(out):
        out[key] = function(out[key])
    return out


def _as_image(img: NdarrayOrTensor) -> tuple[torch.Tensor, int]:
    """The image as a floating-point (meta) tensor, and its number of spatial axes."""
    image: torch.Tensor = convert_to_tensor(img, track_meta=get_track_meta())
    if image.ndim not in (3, 4):
        raise ValueError(
            f"Expected one channel-first image, [C, H, W] or [C, H, W, D], but got the shape {tuple(image.shape)}; "
            "for batches use haar_forward and haar_inverse."
        )
    return (image if image.is_floating_point() else image.float()), image.ndim - 1


def _with_meta_of(image: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    return MetaTensor(out).copy_meta_from(image) if isinstance(image, MetaTensor) else out


def _grid_change(step: float, spatial_dims: int) -> torch.Tensor:
    """Affine from the new grid's voxel indices to the old one's, for voxels ``step`` times as large."""
    affine = torch.eye(spatial_dims + 1, dtype=torch.float64)
    affine[:-1, :-1] *= step
    # The centre of a merged voxel lies between the centres of those it was made of.
    affine[:-1, -1] = (step - 1) / 2
    return affine


HaarTransformD = HaarTransformDict = HaarTransformd
InverseHaarTransformD = InverseHaarTransformDict = InverseHaarTransformd
