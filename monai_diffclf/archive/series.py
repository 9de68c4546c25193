# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""DICOM series: which files are slices of one, and in which order they lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pydicom

from ..image_io.file_kind import DICOM_SUFFIXES, kind_of

__all__ = ["Slice", "find_series"]

_TAGS = ("SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber", "NumberOfFrames")


@dataclass(frozen=True)
class Slice:
    """Which slice of a series a file is.

    Args:
        series: SeriesInstanceUID.
        number: its place in the series, from 1.
    """

    series: str
    number: int


class _Header(NamedTuple):
    path: str
    series: str
    place: tuple[float, ...] | None
    """Position across the slices, mm; None where it is not known."""
    instance: float


def find_series(paths: Iterable[str]) -> dict[str, Slice]:
    """The slices of all series that consist of two files or more.

    Slices lie in the order of their positions along the normal of the first one's plane; where one has no position, or
    two have the same, in that of InstanceNumber, and else in that of their paths. A file whose header cannot be read is
    in no series; reading its pixels will say why.

    Args:
        paths: files of any kind.

    Returns:
        path -> its slice.
    """
    headers: dict[str, list[_Header]] = {}
    for path in paths:
        if (header := _read(path)) is not None:
            headers.setdefault(header.series, []).append(header)
    slices = {}
    for series, found in headers.items():
        if len(found) > 1:
            slices.update({header.path: Slice(series, i + 1) for i, header in enumerate(_ordered(found))})
    return slices


def _ordered(headers: Sequence[_Header]) -> list[_Header]:
    places = {header.place for header in headers}
    if None not in places and len(places) == len(headers):
        return sorted(headers, key=lambda header: header.place or ())
    return sorted(headers, key=lambda header: (header.instance, header.path))


def _read(path: str) -> _Header | None:
    if not (path.lower().endswith(DICOM_SUFFIXES) or kind_of(path) == "DICOM"):
        return None
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS), force=True)
        series, frames = str(header.get("SeriesInstanceUID") or ""), int(header.get("NumberOfFrames") or 1)
    except Exception:  # pydicom raises whatever it meets; reading the image will say what is wrong
        return None
    if not series or frames > 1:
        return None
    return _Header(path, series, _place(header), _number(header))


def _place(header: Any) -> tuple[float, ...] | None:
    try:
        position = np.asarray(header.get("ImagePositionPatient"), dtype=float)
        axes = np.asarray(header.get("ImageOrientationPatient"), dtype=float)
        across = float(np.cross(axes[:3], axes[3:]) @ position)
    except (TypeError, ValueError, IndexError):
        return None
    # To a thousandth of a millimetre, below which positions differ by their rounding.
    return (*np.round(axes, 3).tolist(), round(across, 3)) if np.isfinite(across) else None


def _number(header: Any) -> float:
    try:
        return float(header.get("InstanceNumber"))
    except (TypeError, ValueError):
        return float("inf")
