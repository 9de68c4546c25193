# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Maps of the network's size in an image's own grid, and as NIfTI."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, ScaleIntensityRange

from .image_grid import ImageGrid
from .read_image import ReadImaged
from .read_volume import ReadVolumed

__all__ = ["image_reader", "intensity_scaling", "is_of_volumes", "map_to_image_size", "nifti_bytes", "nifti_map"]


def map_to_image_size(
    values: torch.Tensor, image: MetaTensor, preprocessing: Sequence[Callable[..., Any]]
) -> torch.Tensor:
    """Undo the preprocessing of an image on a map: padding, resampling and the like, then what the reader did.

    Args:
        values: the map [*spatial], as the network sees the image.
        image: the image after preprocessing, which knows what was done to it.
        preprocessing: its transforms; the first is `ReadImaged` or `ReadVolumed`.

    Returns:
        the map in the upright image's own size, of `ReadVolumed` in the order of the file [X, Y, Z]; 0 where the image
        was cropped.

    Raises:
        TypeError: when the first transform is another one.
        ValueError: when a transform that moves pixels cannot be inverted.
    """
    reader, others = image_reader(preprocessing), preprocessing[1:]
    # Resampling finds its way back by the affine; MONAI takes apart what it inverts, which others may need still.
    moved = MetaTensor(values[None], affine=image.affine, applied_operations=deepcopy(image.applied_operations))
    item = Compose(others).inverse({"image": moved})
    found = tuple(item["image"].shape[1:])
    expected = reader.read.spatial_size if isinstance(reader, ReadImaged) else image.meta["spatial_shape"]
    if found != tuple(int(n) for n in expected):
        raise ValueError(
            f"preprocessing: expected transforms that can be inverted where they move pixels, but a map returns as "
            f"{list(found)}, not {[int(n) for n in expected]}"
        )
    returned: MetaTensor = reader.inverse(item)["image"]
    return returned.as_tensor()[0]


def image_reader(preprocessing: Sequence[Callable[..., Any]]) -> ReadImaged | ReadVolumed:
    """The transform that reads: the first one.

    Raises:
        TypeError: when it is another one.
    """
    reader = next(iter(preprocessing), None)
    if not isinstance(reader, ReadImaged | ReadVolumed):
        raise TypeError(
            f"preprocessing: expected ReadImaged or ReadVolumed as its first transform, by which maps find back to the "
            f"file, got {type(reader).__name__}"
        )
    return reader


def is_of_volumes(preprocessing: Sequence[Callable[..., Any]]) -> bool:
    """Whether the first transform is `ReadVolumed`: images are whole volumes in the axes of their files."""
    return isinstance(next(iter(preprocessing), None), ReadVolumed)


def intensity_scaling(preprocessing: Sequence[Callable[..., Any]]) -> ScaleIntensityRange | None:
    """The transform that brings a file's units to the network's range, the first of them; None where there is none."""
    found = (getattr(transform, "scaler", transform) for transform in preprocessing)
    return next((scaler for scaler in found if isinstance(scaler, ScaleIntensityRange)), None)


def nifti_map(values: npt.NDArray[Any], grid: ImageGrid) -> Any:
    """A map as a NIfTI image of nibabel's, float32, in the image's own grid.

    Args:
        values: the map [H, W] or [H, W, D], upright.
        grid: grid of the image.
    """
    array = grid.to_stored(values.astype(np.float32))
    kind = nibabel.Nifti2Image if isinstance(grid.header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    if grid.header is None:
        image = kind(array, grid.affine)
        image.header.set_xyzt_units("mm")
        return image
    # A copy of the header keeps the codes and units that say what the affine means.
    header = grid.header.copy()
    header.set_data_dtype(np.float32)
    header["cal_min"] = header["cal_max"] = 0
    return kind(array, grid.affine, header)


def nifti_bytes(values: npt.NDArray[Any], grid: ImageGrid) -> bytes:
    """`nifti_map` as a file ``.nii.gz``: the same bytes for the same map."""
    return gzip.compress(nifti_map(values, grid).to_bytes(), compresslevel=6, mtime=0)
