# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""DICOM series: which files are slices of one, and in which order they lie."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pydicom

from .._class_names import shown
from ..image_io.file_kind import DICOM_SUFFIXES, kind_of

__all__ = ["Slice", "find_series"]

_TAGS = (
    *("SOPInstanceUID", "SeriesInstanceUID"),
    *("ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber", "NumberOfFrames"),
)
_NAMED = 3


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
    uid: str
    series: str
    """Empty where the file is no slice of a series."""
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

    Warns:
        UserWarning: naming files that have one SOPInstanceUID, by which results refer to an image.
    """
    read = [header for path in paths if (header := _read(path)) is not None]
    _warn_of_copies(read)
    series_of: dict[str, list[_Header]] = {}
    for header in read:
        if header.series:
            series_of.setdefault(header.series, []).append(header)
    slices = {}
    for series, found in series_of.items():
        if len(found) > 1:
            slices.update({header.path: Slice(series, i + 1) for i, header in enumerate(_ordered(found))})
    return slices


def _warn_of_copies(headers: Sequence[_Header]) -> None:
    first: dict[str, str] = {}
    pairs = []
    for header in headers:
        if header.uid and (known := first.setdefault(header.uid, header.path)) != header.path:
            pairs.append(f"{shown(header.path)} has that of {shown(known)}")
    if pairs:
        more = f" and {len(pairs) - _NAMED:,} more" if len(pairs) > _NAMED else ""
        warnings.warn(
            f"images: expected a SOPInstanceUID of its own for each, got one twice: {'; '.join(pairs[:_NAMED])}{more}. "
            "Each file is classified, but what refers to an image by its UID (DICOM results, worklists) cannot tell "
            "them apart; remove copies, or export the images again",
            stacklevel=3,
        )


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
    uid = str(header.get("SOPInstanceUID") or "")
    return _Header(path, uid, series if frames == 1 else "", _place(header), _number(header))


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
