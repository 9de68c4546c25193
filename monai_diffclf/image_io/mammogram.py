# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Mammograms as float32 arrays in [0, 1]."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._checks import check_integer
from .dicom_class import class_name
from .dicom_file import check_image, decode, has_pixels, open_dicom, show
from .dicom_header import as_number, field, number_of_frames, value_of
from .file_kind import kind_of
from .image_files import cause
from .limits import MAX_PIXELS
from .pixel_values import check_finite

__all__ = ["read_mammogram"]


def read_mammogram(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.float32]:
    """The pixels of one mammogram, a DICOM file, as a viewer shows them.

    The pipeline is that of `read_image_file`: modality LUT, VOI LUT or (first) window, else the range of the stored
    bits; MONOCHROME1 inverted. Pixels that the file declares as padding (PixelPaddingValue) are black, also where a
    MONOCHROME1 file stores them as zeros. A file that declares no modality LUT has none (identity), as DICOM says
    (PS3.3, C.11.1); one that declares half of it is refused.

    Args:
        path: the file; uncompressed or compressed by a codec that pydicom finds installed.
        max_pixels: most pixels that are decoded.

    Returns:
        float32 ``[H, W]`` in [0, 1], bright where the breast absorbs.

    Raises:
        ValueError: naming the file and the DICOM field: no pixel data, several frames, another photometric
            interpretation than MONOCHROME1 or MONOCHROME2, an incomplete modality LUT or window, an unknown transfer
            syntax, or one whose decoder is not installed.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> read_mammogram(get_testdata_file("MR_small.dcm")).shape
        (64, 64)
    """
    path = Path(path)
    check_integer(max_pixels, "max_pixels")
    if not path.is_file():
        raise ValueError(f"{path}: expected a mammogram (a DICOM file), but there is no such file")
    kind = kind_of(path)
    if kind not in ("DICOM", None):
        raise ValueError(
            f"{path}: expected a DICOM file, but pydicom cannot read it: it is a {kind} file; "
            "ReadImage reads mammograms that were saved as PNG or TIFF"
        )
    try:
        dataset = open_dicom(path, max_pixels=max_pixels)
        _check_mammogram(dataset)
        check_image(dataset, max_pixels)
        stored = decode(dataset, path)
        image = show(stored, dataset, path)[..., 0]
    except Exception as error:  # pydicom raises whatever it meets in a damaged file
        raise ValueError(f"{path}: cannot be read as an image: {cause(error)}") from error
    check_finite(image, f"{path}: ")
    image[_is_padding(stored, dataset)] = 0
    return np.ascontiguousarray(image)


def _is_padding(stored: npt.NDArray[Any], dataset: Any) -> npt.NDArray[np.bool_]:
    """Pixels that PixelPaddingValue, or the range from it to PixelPaddingRangeLimit, declares to be none."""
    names = ("PixelPaddingValue", "PixelPaddingRangeLimit")
    ends = [value_of(dataset, name) for name in names]
    if ends[0] is None or not np.issubdtype(stored.dtype, np.integer):
        return np.zeros(stored.shape, dtype=bool)
    # Files disagree on whether the value is signed; it is compared to the stored bits, with their sign.
    bits, signed = int(dataset.BitsStored), value_of(dataset, "PixelRepresentation", 0) == 1
    values = [int(as_number(end, name)) % 2**bits for end, name in zip(ends, names, strict=True) if end is not None]
    values = [value - 2**bits if signed and value >= 2 ** (bits - 1) else value for value in values]
    return np.asarray((stored >= min(values)) & (stored <= max(values)))


def _check_mammogram(dataset: Any) -> None:
    if not has_pixels(dataset):
        raise ValueError(
            f"expected a mammogram, but {field('PixelData')} is missing, the file is of the class "
            f"{class_name(dataset)}; give the file of the image"
        )
    kind = value_of(dataset, "PhotometricInterpretation")
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(
            f"expected {field('PhotometricInterpretation')} MONOCHROME1 or MONOCHROME2, got {kind!r}; "
            "give the mammogram itself, not a screenshot or report"
        )
    frames = number_of_frames(dataset)
    if frames > 1:
        raise ValueError(
            f"expected one frame, got {field('NumberOfFrames')} {frames} (tomosynthesis?); "
            "give the two-dimensional mammogram, or save each frame as its own file"
        )
