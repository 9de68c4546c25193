# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Mammograms as float32 arrays in [0, 1]."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.utils import optional_import

from .image_files import read_image_file

pydicom, _ = optional_import("pydicom")
pixels, _ = optional_import("pydicom.pixels")
datadict, _ = optional_import("pydicom.datadict")

__all__ = ["read_mammogram"]


def read_mammogram(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """The pixels of one mammogram, a DICOM file, as a viewer shows them.

    `read_image_file` applies modality LUT, VOI LUT or (first) window, scales by the range of the stored bits and
    inverts MONOCHROME1. Pixels that the file declares as padding (PixelPaddingValue) are black, also where a
    MONOCHROME1 file stores them as zeros. A file that declares no modality LUT has none (identity), as DICOM says
    (PS3.3, C.11.1); one that declares half of it is refused.

    Args:
        path: the file; uncompressed or compressed by a codec that pydicom finds installed.

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
    if not path.is_file():
        raise ValueError(f"{path}: expected a mammogram (a DICOM file), but there is no such file")
    try:
        dataset = pydicom.dcmread(path, defer_size="1 KB")
    except Exception as error:  # pydicom raises whatever it meets in a damaged file
        raise ValueError(
            f"{path}: expected a DICOM file, but pydicom cannot read it: {type(error).__name__}: {error}; "
            "ReadImage reads mammograms that were saved as PNG or TIFF"
        ) from error
    _check_image(dataset, path)
    _check_luts(dataset, path)
    others = _check_decoder(dataset, path)
    try:
        image = read_image_file(path)[..., 0]
    except ValueError as error:
        # Pillow, say, decodes JPEG Extended of 8 bits, but not of the 12 bits that mammograms have.
        raise ValueError(f"{error}{others}") from error
    if _has(dataset, "PixelPaddingValue"):
        names = ("PixelPaddingValue", "PixelPaddingRangeLimit")
        ends = [int(dataset[name].value) for name in names if _has(dataset, name)]
        stored = dataset.pixel_array
        image[(stored >= min(ends)) & (stored <= max(ends))] = 0
    return image


def _check_image(dataset: Any, path: Path) -> None:
    if "PixelData" not in dataset:
        raise ValueError(
            f"{path}: expected a mammogram, but {_field('PixelData')} is missing, the file is of the class "
            f"{getattr(dataset.get('SOPClassUID'), 'name', 'unknown')}; give the file of the image"
        )
    kind = dataset.get("PhotometricInterpretation")
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(
            f"{path}: expected {_field('PhotometricInterpretation')} MONOCHROME1 or MONOCHROME2, got {kind!r}; "
            "give the mammogram itself, not a screenshot or report"
        )
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ValueError(
            f"{path}: expected one frame, got {_field('NumberOfFrames')} {frames} (tomosynthesis?); "
            "give the two-dimensional mammogram, or save each frame as its own file"
        )


def _check_luts(dataset: Any, path: Path) -> None:
    slope, intercept = "RescaleSlope", "RescaleIntercept"
    declared = slope in dataset or intercept in dataset
    if declared and not (_has(dataset, slope) and _has(dataset, intercept)):
        raise ValueError(
            f"{path}: expected both {_field(slope)} and {_field(intercept)} or neither, got {dataset.get(slope)!r} and "
            f"{dataset.get(intercept)!r}; write the missing one (1 and 0 change nothing), or remove both"
        )
    if "ModalityLUTSequence" in dataset:
        tables = dataset.ModalityLUTSequence or []
        if not tables or any(not _has(tables[0], name) for name in ("LUTDescriptor", "LUTData")):
            raise ValueError(
                f"{path}: {_field('ModalityLUTSequence')} declares a modality LUT, but LUTDescriptor or LUTData is "
                "missing; get the file again, or remove the empty sequence if the pixels need no LUT"
            )
    # Empty windows are common in anonymised files and mean none; half a window is a fault that pydicom would overlook.
    center, width = "WindowCenter", "WindowWidth"
    if _has(dataset, center) != _has(dataset, width):
        raise ValueError(
            f"{path}: expected both {_field(center)} and {_field(width)} or neither, got {dataset.get(center)!r} and "
            f"{dataset.get(width)!r}; write the missing one, or remove both"
        )


def _check_decoder(dataset: Any, path: Path) -> str:
    """Refuse what no installed decoder reads; else what to say of other decoders should they fail."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    what = f"{_field('TransferSyntaxUID')} {getattr(syntax, 'name', syntax)} ({syntax})"
    try:
        decoder = pixels.get_decoder(syntax)
    except Exception as error:
        raise ValueError(
            f"{path}: expected a transfer syntax that pydicom knows, got {what}; convert the file to Explicit VR "
            "Little Endian (1.2.840.10008.1.2.1), for example with gdcmconv --raw"
        ) from error
    others = decoder.missing_dependencies
    install = "run `pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg` or `pip install python-gdcm`"
    if not decoder.is_available:
        raise ValueError(f"{path}: {what} needs a decoder that is not installed ({'; '.join(others)}); {install}")
    return f"; if the file is not damaged, another decoder may read its {what}: {install}" if others else ""


def _has(dataset: Any, name: str) -> bool:
    value = dataset.get(name)
    return value is not None and not (isinstance(value, str | bytes | Sequence) and len(value) == 0)


def _field(name: str) -> str:
    return f"{name} {pydicom.tag.Tag(datadict.tag_for_keyword(name))}"
