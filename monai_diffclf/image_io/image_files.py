# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Image files as float32 arrays in [0, 1], upright: what a viewer shows at row r and column c is ``array[r, c]``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._checks import check_integer
from .._text import joined
from .dicom_file import read_dicom
from .file_kind import DICOM_SUFFIXES, NIFTI_SUFFIXES, PICTURE_SUFFIXES, has_dicom_mark, kind_of
from .limits import MAX_PIXELS
from .nifti_file import read_nifti
from .picture_file import read_picture
from .pixel_values import check_finite, merge_equal_channels, scale_by_type
from .series_archive import is_series_archive
from .tiff_file import read_tiff

__all__ = [
    "DICOM_SUFFIXES",
    "NIFTI_SUFFIXES",
    "PICTURE_SUFFIXES",
    "has_dicom_mark",
    "is_image_file",
    "merge_equal_channels",
    "read_image_file",
    "scale_by_type",
]


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an image by its content (DICOM without preamble, pictures without suffix) or by its suffix.

    Hidden files and DICOMDIRs are none. An image that is damaged is one by its suffix, so that it is not left out
    unseen: `read_image_file` says what is wrong with it.
    """
    path = Path(path)
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    if path.name.lower().endswith(PICTURE_SUFFIXES + DICOM_SUFFIXES + NIFTI_SUFFIXES):
        return True
    return kind_of(path) is not None


def read_image_file(
    path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS, window: Sequence[float] | None = None
) -> npt.NDArray[np.float32]:
    """The pixels of a PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000, PNM, DICOM or NIfTI file, whatever its suffix.

    - Pictures: EXIF orientation applied, palettes resolved; 8 bits are divided by 255, 16 bits by 65535; of an MPO
      file (a JPEG with previews) the first picture. TIFF of any depth up to 16 bits, by the range of its bits, or of
      floats in [0, 1]; WhiteIsZero is inverted.
    - DICOM: modality LUT or rescale slope, then VOI LUT or (first) window, then scaled by the range that the stored
      bits can take (never by the image's own extremes, unless the pixels are stored as floats); MONOCHROME1, or
      PresentationLUTShape INVERSE, is inverted. See docs/images.md.
    - NIfTI: brought to the nearest anatomical axes, whatever their stored order and direction, as viewers show them:
      planes with the head or front up and the patient's left (or back) to the right, volumes as axial planes from the
      feet to the head; obliques are not resampled. A file without an orientation (no sform and qform code, or an
      identity rotation with voxels of size 1) is taken as stored, array axis 0 the column and axis 1 the row. uint8 is
      divided by 255; anything else is stretched from its minimum and maximum to [0, 1].

    Args:
        path: the file.
        max_pixels: most pixels (rows x columns x slices or frames) that are decoded. Larger files are refused by
            their header, before they take memory.
        window: values of a NIfTI file that become 0 and 1, such as -1000 and 1000 HU; a file of another kind is
            refused, as it says itself how it is shown.

    Returns:
        float32 ``[H, W, C]``, or ``[H, W, D, C]`` when there is more than one slice or frame; C is 1, or 3 for colour.

    Raises:
        ValueError: naming the file and the cause, when it is absent, empty, damaged, too large, of an unknown kind,
            transparent, or holds NaN or infinite pixels.
    """
    path = Path(path)
    check_integer(max_pixels, "max_pixels")
    if path.is_dir():
        raise ValueError(f"{path}: expected an image file, got a folder; give one file for each image")
    if not path.is_file():
        raise ValueError(f"{path}: expected an image file, but there is none")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: expected an image file, but it is empty (0 bytes)")
    try:
        image = _read(path, max_pixels, window)
    except Exception as error:
        # The decoders raise whatever they meet (OSError, KeyError, struct.error, ...): one kind, one line for the user.
        raise ValueError(f"{path}: cannot be read as an image: {cause(error)}") from error
    check_finite(image, f"{path}: ")
    return np.ascontiguousarray(image, dtype=np.float32)


def cause(error: Exception) -> str:
    r"""What a decoder said, in one line; with the kind of error where the text alone does not tell it.

    Example:
        >>> cause(ValueError("expected a\n PNG file")), cause(KeyError("Rows")), cause(EOFError())
        ('expected a PNG file', "KeyError: 'Rows'", 'EOFError')
    """
    text, kind = joined(error), type(error)
    if not text:
        return kind.__name__
    return text if kind in (ValueError, OSError) else f"{kind.__name__}: {text}"


def _read(path: Path, max_pixels: int, window: Sequence[float] | None) -> npt.NDArray[Any]:
    kind = kind_of(path)
    name = path.name.lower()
    if kind == "NIfTI" or (kind is None and name.endswith(NIFTI_SUFFIXES)):
        return read_nifti(path, max_pixels=max_pixels, window=window)
    if window is not None:
        raise ValueError("expected a NIfTI file, as a window of stored values is given; convert it, or give no window")
    if kind == "DICOM" or (kind is None and name.endswith(DICOM_SUFFIXES)):
        return read_dicom(path, max_pixels=max_pixels)
    if kind == "NRRD":
        raise ValueError("an NRRD file is read as a volume only; give it to a bundle for volumes, or convert it")
    if kind is None and is_series_archive(path):
        raise ValueError("a ZIP file is read as a volume only, of its slices; unpack it, or give it to such a bundle")
    if kind == "TIFF":
        return read_tiff(path, max_pixels=max_pixels)
    return read_picture(path, max_pixels=max_pixels)
