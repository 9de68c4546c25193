# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The pixel grid of an image file, and the way back to it from the network's input."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pydicom
import torch
from monai.transforms import CenterSpatialCrop

from ..image_io.image_files import DICOM_SUFFIXES, NIFTI_SUFFIXES, has_dicom_mark
from ..image_io.nifti_file import AGAINST_THE_SCREEN, nifti_orientation
from ..image_io.read_image import crop_size

__all__ = ["ImageGrid", "read_grid", "undo_crop_and_resize"]

# DICOM counts x towards the patient's left and y towards the back, NIfTI towards the right and the front.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class ImageGrid:
    """Where the voxels of an image file are, in NIfTI's convention.

    Args:
        affine: voxel (column, row, slice) -> millimetres, RAS [4, 4].
        flipped: the stored axes that `monai_diffclf.image_io.ReadImage` turns round to show the image upright.
        shape: shape of the array in a NIfTI file, as it is stored; None where the image is none.
        header: header of that NIfTI file.
    """

    affine: npt.NDArray[np.float64]
    flipped: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None
    header: Any = None

    def to_stored(self, upright: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """From an upright array [H, W] or [H, W, D] to the stored order: [X, Y] or [X, Y, Z], X the column.

        Example:
            >>> ImageGrid(np.eye(4), flipped=(0,)).to_stored(np.array([[1, 2, 3], [4, 5, 6]]))[:, :, 0].tolist()
            [[3, 6], [2, 5], [1, 4]]
        """
        stored = np.flip(np.swapaxes(upright, 0, 1), self.flipped)
        return stored.reshape((*stored.shape, 1)[:3] if self.shape is None else self.shape)


def read_grid(path: str | os.PathLike[str]) -> ImageGrid:
    """The grid of an image file that `monai_diffclf.image_io.read_image_file` can read.

    NIfTI: as stored. DICOM: position, orientation and spacing as far as the file has them. Pictures: voxels of 1 mm,
    columns towards the patient's left and rows towards the back, which is where ITK and 3D Slicer put a picture.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        file: Any = nibabel.load(path)
        flipped = tuple(axis for axis, code in enumerate(nifti_orientation(file)) if code in AGAINST_THE_SCREEN)
        # Only 3 dimensions are the image's; trailing ones have size 1.
        return ImageGrid(file.affine, flipped, tuple(file.shape[:3]), file.header)
    if name.endswith(DICOM_SUFFIXES) or has_dicom_mark(path):
        return ImageGrid(_dicom_affine(pydicom.dcmread(path, stop_before_pixels=True)))
    return ImageGrid(_LPS_TO_RAS)


def _dicom_affine(dataset: Any) -> npt.NDArray[np.float64]:
    """DICOM PS3.3, C.7.6.2.1.1; whatever is absent is taken as the identity's."""
    # A plain radiograph gives the spacing at the detector or the scanner of the film.
    tags = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    rows, columns = next((dataset.get(tag) for tag in tags if dataset.get(tag)), (1.0, 1.0))
    orientation = np.asarray(dataset.get("ImageOrientationPatient") or [1, 0, 0, 0, 1, 0], dtype=np.float64)
    slices = float(dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness") or 1.0)
    along_row, along_column = orientation[:3], orientation[3:]
    affine = np.eye(4)
    affine[:3, 0] = along_row * float(columns)
    affine[:3, 1] = along_column * float(rows)
    affine[:3, 2] = np.cross(along_row, along_column) * slices
    affine[:3, 3] = np.asarray(dataset.get("ImagePositionPatient") or [0, 0, 0], dtype=np.float64)
    return np.asarray(_LPS_TO_RAS @ affine)


def undo_crop_and_resize(values: torch.Tensor, spatial_size: Sequence[int]) -> torch.Tensor:
    """From the network's grid to the image's: `monai_diffclf.image_io.crop_and_resize` undone in place and scale.

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
    size, network = tuple(int(n) for n in spatial_size), tuple(values.shape)
    if size == network:
        return values
    crop = crop_size(size, network)
    plane = len(size) == 2
    resized = torch.nn.functional.interpolate(
        values[None, None],
        tuple(crop),
        mode="bilinear" if plane else "trilinear",
        align_corners=False,
        antialias=plane,  # torch has no antialiased trilinear resize
    )[0, 0]
    whole = values.new_zeros(size)
    whole[CenterSpatialCrop(crop).compute_slices(size)] = resized
    return whole
