# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The pixel grid of an image file: where its voxels are, what shape they have, and how it is stored."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.utils import optional_import

from .dicom_file import open_dicom
from .dicom_grid import dicom_affine, dicom_pixel_size
from .file_kind import DICOM_SUFFIXES, NIFTI_SUFFIXES, kind_of
from .limits import MAX_PIXELS
from .nifti_file import nifti_shape, open_nifti, orientation_doubts, upright_orientation
from .picture_grid import ITK_FLIPS, TURNS, read_picture_header

affines, _ = optional_import("nibabel.affines")
orientations, _ = optional_import("nibabel.orientations")

__all__ = ["ImageGrid", "read_grid"]

Array = npt.NDArray[Any]

# DICOM counts x towards the patient's left and y towards the back, NIfTI towards the right and the front.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A stored [column, row, slice] becomes [row, column, slice].
_COLUMN_FIRST = np.array([[1.0, 1.0], [0.0, 1.0], [2.0, 1.0]])
# Sides of a pixel that differ by more cannot be meant; that differ by less are equal.
_LONGEST, SQUARE = 20.0, 0.001


@dataclass(frozen=True, eq=False)
class ImageGrid:
    """Where the voxels of an image file are, in NIfTI's convention.

    Args:
        affine: voxel of the stored array [X, Y, Z] -> millimetres, RAS [4, 4]. X is the column and Y the row, but in
            NIfTI files, whose axes have any order.
        orientation: how the stored array becomes the upright one [H, W, D] of `monai_diffclf.image_io.ReadImage`: axis
            and direction of each stored axis, as in `nibabel.orientations` [3, 2].
        shape: shape of the array in a NIfTI file, as it is stored; None where the image is none.
        header: header of that NIfTI file.
        pixel_size: height and width of an upright pixel (and its depth), to tell whether it is square.
        doubts: what cannot be decided about the grid, in words.
    """

    affine: npt.NDArray[np.float64]
    orientation: npt.NDArray[np.float64] = field(default_factory=_COLUMN_FIRST.copy)
    shape: tuple[int, ...] | None = None
    header: Any = None
    pixel_size: tuple[float, ...] = (1.0, 1.0)
    doubts: tuple[str, ...] = ()

    @property
    def flipped(self) -> tuple[int, ...]:
        """The stored axes that are turned round to show the image upright."""
        return tuple(int(axis) for axis in np.flatnonzero(self.orientation[:, 1] < 0))

    def to_stored(self, upright: Array) -> Array:
        """From an upright array [H, W] or [H, W, D] to the stored order: [X, Y] or [X, Y, Z].

        Example:
            >>> ImageGrid(np.eye(4)).to_stored(np.array([[1, 2, 3], [4, 5, 6]]))[:, :, 0].tolist()
            [[1, 4], [2, 5], [3, 6]]
        """
        whole = upright if upright.ndim == 3 else upright[:, :, None]
        inverse = np.empty((3, 2))
        for axis, (target, direction) in enumerate(self.orientation):
            inverse[int(target)] = axis, direction
        stored = orientations.apply_orientation(whole, inverse)
        return np.asarray(stored if self.shape is None else stored.reshape(self.shape))

    def upright_affine(self, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Voxel (row, column, slice) of the upright array -> millimetres, RAS [4, 4]: MONAI's convention.

        Args:
            shape: size of the upright image [H, W] or [H, W, D].
        """
        upright = (*shape, 1)[:3]
        stored = tuple(upright[int(axis)] for axis in self.orientation[:, 0])
        return np.asarray(self.affine @ orientations.inv_ornt_aff(self.orientation, stored))

    def plane_pixel_size(self, shape: tuple[int, ...]) -> tuple[float, ...] | None:
        """Size of a pixel along each axis of the upright image, slices as far apart as rows; None if it is square.

        It is if its height and width differ so little that this adds up to less than half a pixel over the image.

        Args:
            shape: size of the upright image [H, W] or [H, W, D].
        """
        height, width = self.pixel_size[:2]
        stretch = max(height / width, width / height)
        if (stretch - 1) * max(shape[:2]) < 0.5:
            return None
        return (height, width, min(height, width))[: len(shape)]


# A picture, or an array, of which nothing more is known.
PICTURE = ImageGrid(_LPS_TO_RAS)


def read_grid(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> ImageGrid:
    """The grid of an image file that `monai_diffclf.image_io.read_image_file` can read.

    NIfTI: as stored. DICOM: position, orientation and spacing as ITK takes them, see
    `monai_diffclf.image_io.dicom_grid`. Pictures: where ITK and 3D Slicer put them, columns towards the patient's left
    and rows towards the back, voxels of 1 mm or of the resolution in JPEG and TIFF files, not turned by EXIF.

    Args:
        path: the file.
        max_pixels: as for `read_image_file`.

    Raises:
        ValueError: naming the file, when a pixel's sides differ more than twentyfold, or a number cannot be read.
    """
    path = Path(path)
    kind, name = kind_of(path), path.name.lower()
    try:
        if kind == "NIfTI" or (kind is None and name.endswith(NIFTI_SUFFIXES)):
            grid = _nifti_grid(path)
        elif kind == "DICOM" or (kind is None and name.endswith(DICOM_SUFFIXES)):
            grid = _dicom_grid(path, max_pixels)
        else:
            grid = _picture_grid(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    height, width = grid.pixel_size[:2]
    if not 1 / _LONGEST <= height / width <= _LONGEST:
        raise ValueError(
            f"{path}: expected pixels that are nearly square, got some of {height:g} x {width:g} (spacing, resolution "
            "or aspect ratio in the file); write the right one into it"
        )
    return grid


def _nifti_grid(path: Path) -> ImageGrid:
    file = open_nifti(path)
    orientation = upright_orientation(file)
    sizes = affines.voxel_sizes(file.affine)
    upright = [float(sizes[list(orientation[:, 0]).index(axis)]) for axis in range(3)]
    usable = np.isfinite(upright[:2]).all() and min(upright[:2]) > 0
    # Only 3 dimensions are the image's; trailing ones have size 1.
    shape = tuple(file.shape[:3])
    stored = nifti_shape(file)
    return ImageGrid(
        np.asarray(file.affine, dtype=np.float64),
        orientation,
        shape if len(shape) == 3 else stored[:2],
        file.header,
        tuple(upright) if usable else (1.0, 1.0, 1.0),
        orientation_doubts(file),
    )


def _dicom_grid(path: Path, max_pixels: int) -> ImageGrid:
    dataset = open_dicom(path, max_pixels=max_pixels)
    size, doubts = dicom_pixel_size(dataset)
    return ImageGrid(np.asarray(_LPS_TO_RAS @ dicom_affine(dataset)), pixel_size=size, doubts=doubts)


def _picture_grid(path: Path) -> ImageGrid:
    header = read_picture_header(path)
    turn = np.array([*TURNS[header.orientation], (2, 1)], dtype=np.float64)
    height, width = (header.aspect[list(turn[:, 0]).index(axis)] for axis in (0, 1))
    if header.is_tiff:
        # ITK turns a TIFF file upside down or left to right where it asks for it, but never swaps rows and columns.
        turn[:2, 1] *= ITK_FLIPS[header.orientation]
    doubts: tuple[str, ...] = ()
    if abs(height / width - 1) > SQUARE:
        doubts = (f"by its resolution a pixel is {height / width:.4g} times as high as wide; taken so",)
    affine = _LPS_TO_RAS @ np.diag([*header.spacing, 1.0, 1.0])
    return ImageGrid(affine, turn, pixel_size=(height, width), doubts=doubts)
