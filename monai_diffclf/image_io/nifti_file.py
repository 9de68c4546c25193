# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""NIfTI files as arrays of pixels, upright."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.utils import optional_import

nibabel, _ = optional_import("nibabel")

__all__ = ["AGAINST_THE_SCREEN", "nifti_orientation", "read_nifti"]

# A NIfTI axis that runs towards the patient's right, front or head runs against the screen's columns and rows.
AGAINST_THE_SCREEN = ("R", "A", "S")


def read_nifti(path: Path) -> npt.NDArray[np.float32]:
    """The pixels of a NIfTI file, see `read_image_file`."""
    file = nibabel.load(path)
    array = np.asanyarray(file.dataobj)
    if array.dtype.names:  # RGB24 and RGBA32 store a record for each pixel
        array = np.stack([array[name] for name in array.dtype.names[:3]], axis=-1)
    elif array.ndim in (2, 3, 4) and all(size == 1 for size in array.shape[3:]):
        array = array.reshape(array.shape[:3])[..., None]
    else:
        raise ValueError(f"expected a NIfTI array [X, Y], [X, Y, 1] or [X, Y, Z], got {list(array.shape)}")
    for axis, code in enumerate(nifti_orientation(file)):
        if code in AGAINST_THE_SCREEN:
            array = np.flip(array, axis)
    array = np.swapaxes(array, 0, 1)
    if array.ndim == 4 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype == np.uint8:
        return np.asarray(array / np.float32(255), dtype=np.float32)
    array = array.astype(np.float64)
    low, high = array.min(), array.max()
    # A constant image has no contrast to stretch; NaN passes through and is refused by the caller.
    return np.asarray((array - low) / (high - low) if high != low else array - low, dtype=np.float32)


def nifti_orientation(file: Any) -> tuple[str, ...]:
    """Where array axes 0 and 1 point, or nothing when the file does not say."""
    header, affine = file.header, file.affine
    unknown = header["sform_code"] == 0 and header["qform_code"] == 0
    if unknown or np.array_equal(affine[:3, :3], np.eye(3)):
        return ()
    return tuple(nibabel.aff2axcodes(affine)[:2])
