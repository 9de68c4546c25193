# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""NIfTI files as arrays of pixels, upright, and what their orientation means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.utils import optional_import

from .file_kind import NIFTI_SUFFIXES
from .limits import MAX_PIXELS, byte_limit, check_pixel_count, read_bytes
from .pixel_values import warn_if_faint

nibabel, _ = optional_import("nibabel")
orientations, _ = optional_import("nibabel.orientations")

__all__ = [
    "nifti_shape",
    "open_nifti",
    "orientation_doubts",
    "read_nifti",
    "upright_orientation",
]

# Where rows, columns and slices of an upright image point to, by the direction across its plane: left-right,
# front-back, feet-head. Volumes are stacks of the last, axial ones.
_UPRIGHT = (("I", "P", "R"), ("I", "L", "A"), ("P", "L", "S"))
_AXIAL = 2


def read_nifti(
    path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS, window: Sequence[float] | None = None
) -> npt.NDArray[np.float32]:
    """The pixels of a NIfTI file as a viewer shows them.

    The axes are brought to the nearest anatomical ones (as `nibabel.as_closest_canonical` does; an oblique image is not
    resampled), in whatever order and direction they are stored: a plane to rows downwards and columns to the
    right of a screen in the radiological convention (axial: back and left; coronal: feet and left; sagittal: feet
    and back), a volume to axial planes from the feet to the head. A file without an orientation (no sform and qform
    code, or an identity rotation with voxels of size 1) is taken as stored, axis 0 the column and axis 1 the row, of a
    plane the first and the second axis of more than one voxel, so that ``[1, X, Y]`` and ``[X, 1, Y]`` are read as
    ``[X, Y, 1]`` is. uint8 is divided by 255; anything else is stretched from its minimum and maximum to [0, 1].

    Args:
        path: a single file, ``.nii`` or ``.nii.gz``, NIfTI-1 or NIfTI-2.
        max_pixels: most voxels that are decoded.
        window: values, scaled by slope and intercept, that become 0 and 1 instead, what lies beyond cut off.

    Returns:
        float32 ``[H, W, C]``, or ``[H, W, D, C]`` when there is more than one slice.

    Raises:
        ValueError: when it is no NIfTI image of a plane or volume, has complex numbers, an affine that orients
            nothing, or transparent pixels.
    """
    content = read_bytes(path, byte_limit(max_pixels))  # refuses what unpacks to more
    file = type(open_nifti(path)).from_bytes(content)
    check_pixel_count(file.shape, max_pixels)
    array = np.asanyarray(file.dataobj)
    if array.dtype.names:  # RGB24 and RGBA32 store a record for each pixel
        array = _colours(array)
        array = array.reshape(*nifti_shape(file), array.shape[-1])
    else:
        array = array.reshape(*nifti_shape(file), 1)
    if np.iscomplexobj(array):
        raise ValueError("expected real pixels, got complex ones; write their magnitude, say, into the file")
    orientation = upright_orientation(file)
    array = orientations.apply_orientation(array, orientation)
    if array.shape[2] == 1:
        array = array[:, :, 0]
    if window is not None:
        low, high = window
        return np.asarray(((array.astype(np.float64) - low) / (high - low)).clip(0, 1), dtype=np.float32)
    if array.dtype == np.uint8:
        scaled = np.asarray(array / np.float32(255), dtype=np.float32)
        warn_if_faint(scaled, 8, path)
        return scaled
    array = array.astype(np.float64)
    low, high = array.min(), array.max()
    # A constant image has no contrast to stretch; NaN passes through and is refused by the caller.
    return np.asarray((array - low) / (high - low) if high != low else array - low, dtype=np.float32)


def open_nifti(path: str | os.PathLike[str]) -> Any:
    """The nibabel image of a single-file NIfTI image.

    Raises:
        ValueError: when the file is of another kind.
    """
    name = os.fspath(path).lower()
    if name.endswith((".hdr", ".img", ".hdr.gz", ".img.gz")):
        raise ValueError(
            "expected a NIfTI image in one file (.nii or .nii.gz), got half of a pair of .hdr and .img; write one with "
            "nibabel.save(nibabel.load('NAME.hdr'), 'NAME.nii')"
        )
    if not name.endswith(NIFTI_SUFFIXES):
        raise ValueError("expected a NIfTI file to have the suffix .nii or .nii.gz; rename it")
    file: Any = nibabel.load(path)
    # Analyze files and pairs of .hdr and .img have pixels elsewhere; a CIFTI file is no grid.
    if not isinstance(file, nibabel.Nifti1Image):
        raise ValueError(
            f"expected a NIfTI image in one file (.nii or .nii.gz), got a {type(file).__name__}; convert it with "
            "nibabel.save"
        )
    return file


def nifti_shape(file: Any) -> tuple[int, int, int]:
    """The size of the stored array as ``[X, Y, Z]``.

    Raises:
        ValueError: when it is neither a plane nor a volume.
    """
    shape = tuple(int(n) for n in file.shape)
    if len(shape) < 2 or 0 in shape or any(size != 1 for size in shape[3:]):
        raise ValueError(f"expected a NIfTI array [X, Y], [X, Y, 1] or [X, Y, Z], got {list(shape)}")
    x, y, z = (*shape, 1)[:3]
    return x, y, z


def upright_orientation(file: Any) -> npt.NDArray[np.float64]:
    """How the stored array ``[X, Y, Z]`` becomes upright ``[H, W, D]``, as nibabel writes orientations [3, 2].

    Raises:
        ValueError: when the file's affine orients nothing.
    """
    shape = nifti_shape(file)
    # Of several axes with one voxel the last is the one across the plane.
    across = max((axis for axis in range(3) if shape[axis] == 1), default=None)
    if not _has_orientation(file):
        column, row = (axis for axis in range(3) if axis != (2 if across is None else across))
        upright = {column: 1.0, row: 0.0}  # the axis that is left runs across, or from slice to slice
        return np.array([[upright.get(axis, 2.0), 1.0] for axis in range(3)])
    stored = _nearest_axes(file)
    direction = _AXIAL if across is None else int(stored[across, 0])
    upright = orientations.axcodes2ornt(_UPRIGHT[direction])
    return np.asarray(orientations.ornt_transform(stored, upright), dtype=np.float64)


def orientation_doubts(file: Any) -> tuple[str, ...]:
    """Whether the file's two affines orient the image differently, in words."""
    header = file.header
    if not (header["sform_code"] > 0 and header["qform_code"] > 0):
        return ()
    forms = [header.get_sform(), header.get_qform()]
    if not all(np.isfinite(form).all() for form in forms):
        return ()
    sform, qform = (nibabel.aff2axcodes(form) for form in forms)
    if sform == qform or None in (*sform, *qform):
        return ()
    return (f"sform ({''.join(sform)}) and qform ({''.join(qform)}) orient the image differently; taken as the sform",)


def _has_orientation(file: Any) -> bool:
    header = file.header
    unknown = header["sform_code"] == 0 and header["qform_code"] == 0
    return not unknown and not np.array_equal(file.affine[:3, :3], np.eye(3))


def _nearest_axes(file: Any) -> npt.NDArray[np.float64]:
    """The anatomical axis nearest to each stored one, and its direction [3, 2]."""
    affine = np.asarray(file.affine, dtype=np.float64)
    name = "sform" if file.header["sform_code"] > 0 else "qform"
    if not np.isfinite(affine).all():
        raise ValueError(f"expected a finite affine ({name}), got {affine.tolist()}; write the right one")
    stored = np.asarray(orientations.io_orientation(affine), dtype=np.float64)
    lost = np.flatnonzero(np.isnan(stored[:, 0]))
    if len(lost) > 1 or any(nifti_shape(file)[axis] > 1 for axis in lost):
        raise ValueError(
            f"expected an affine ({name}) whose columns point somewhere, got {affine[:3, :3].tolist()}; write the "
            "right one"
        )
    for axis in lost:  # a plane whose third column is empty
        stored[axis] = [({0, 1, 2} - set(stored[:, 0])).pop(), 1]
    return stored


def _colours(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The red, green and blue of records, last axis; refused where a fourth value makes pixels transparent."""
    names = array.dtype.names or ()
    if len(names) > 3 and array.size and (array[names[3]] != array[names[3]].flat[0]).any():
        raise ValueError("expected opaque pixels, got transparent ones (RGBA); write the image as RGB")
    return np.stack([array[name] for name in names[:3]], axis=-1)
