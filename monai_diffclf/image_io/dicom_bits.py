# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From the cells of DICOM pixel data to stored values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .dicom_header import field, value_of

__all__ = ["cut_unused_bits"]


def cut_unused_bits(
    cells: npt.NDArray[Any], dataset: Any, *, native: bool, warn: Callable[[str], None]
) -> npt.NDArray[Any]:
    """The stored values in the cells of pixel data: bits HighBit - BitsStored + 1 to HighBit, with their sign.

    Other bits hold overlays in old files, or anything. PS3.5, 8.1.1; PS3.3, C.9.2 of 2004 (overlays in pixel data).

    Args:
        cells: integers of BitsAllocated bits; floats are returned as they are.
        dataset: the image's elements.
        native: whether the cells are as they lie in the file. Samples from a codestream hold their value alone.
        warn: is given the text of each warning.

    Raises:
        ValueError: naming the tags, when the numbers of bits contradict each other.

    Example:
        >>> import pydicom
        >>> dataset = pydicom.Dataset()
        >>> dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 15, 1
        >>> cut_unused_bits(np.array([-9, 16], np.int16), dataset, native=True, warn=print).tolist()
        [-1, 1]
    """
    if not np.issubdtype(cells.dtype, np.integer):
        return cells
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    high = int(value_of(dataset, "HighBit", stored - 1))
    shift = high + 1 - stored
    if not 1 <= stored <= allocated or not 0 <= shift <= allocated - stored:
        raise ValueError(
            f"{field('BitsAllocated')} {allocated}, {field('BitsStored')} {stored} and {field('HighBit')} {high} "
            "contradict each other"
        )
    if not native and shift:
        raise ValueError(
            f"expected {field('HighBit')} {stored - 1} of compressed pixels of {stored} bits, got {high}; "
            "whether their values are shifted cannot be decided"
        )
    signed = value_of(dataset, "PixelRepresentation", 0) == 1
    if allocated < 8 or (shift == 0 and stored == allocated):
        return cells
    values = cells.astype(np.int64 if allocated > 16 else np.int32)
    if not native:
        return values
    _warn_of_lost_bits(values >> shift, dataset, stored, signed, warn)
    values = (values >> shift) & (2**stored - 1)
    if signed:
        sign = 2 ** (stored - 1)
        values = (values ^ sign) - sign
    return np.asarray(values)


def _warn_of_lost_bits(
    values: npt.NDArray[Any], dataset: Any, stored: int, signed: bool, warn: Callable[[str], None]
) -> None:
    """Bits above the stored ones are an overlay's, or repeat the sign; else BitsStored may be wrong."""
    overlays = any(element.tag.group & 0xFF00 == 0x6000 and element.tag.element == 0x0102 for element in dataset)
    if overlays:
        return
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
    outside = int(((values < low) | (values > high)).sum())
    if outside:
        warn(
            f"{outside} pixels have bits beyond the {stored} of {field('BitsStored')}, which are cut off as the "
            "standard says; correct BitsStored if they belong to the values"
        )
