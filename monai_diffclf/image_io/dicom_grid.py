# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where the pixels of a DICOM file are, as ITK and 3D Slicer place them, and what shape they have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .dicom_header import field, is_absent

__all__ = ["dicom_affine", "dicom_pixel_size"]

# GDCM, which reads DICOM for ITK, trusts one spacing for each class of image: of a projection that at the detector,
# of others that in the patient, with that of the scanner for scanned films. Without it a pixel has 1 mm.
_CLASS = "1.2.840.10008.5.1.4.1.1."
_AT_DETECTOR = {
    _CLASS + end
    for end in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1"),  # CR, DX, mammography, intra-oral
        *("12.1", "12.2", "12.3"),  # XA, XRF
    )
}
_SECONDARY_CAPTURE = _CLASS + "7"
_RADIOTHERAPY = _CLASS + "481.1"
# Enhanced and multi-frame images: functional groups or nothing; of enhanced angiograms, and eyes, nothing at all.
_IN_GROUPS = tuple(
    _CLASS + start for start in ("2.1", "2.2", "4.1", "4.3", "4.4", "7.1", "7.2", "7.3", "7.4", "13.1.", "66.4", "130")
)
_NOWHERE = (_CLASS + "12.1.1", _CLASS + "12.2.1")
_WITHOUT_SPACING = (*_IN_GROUPS, *_NOWHERE, _CLASS + "77.1.5.")
_WITHOUT_SLICE_SPACING = (_CLASS + "6", _CLASS + "6.1", _CLASS + "3", _CLASS + "3.1", _CLASS + "77.1")
_NUCLEAR = _CLASS + "20"
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "ImagePlanePixelSpacing")

Affine = npt.NDArray[np.float64]


def dicom_affine(dataset: Any) -> Affine:
    """Voxel (column, row, slice) -> millimetres in DICOM's axes (left, back, head) [4, 4].

    DICOM PS3.3, C.7.6.2.1.1, with the spacing that ITK takes for the file's class: ImagerPixelSpacing for projection
    radiographs, whatever PixelSpacing says beside it; PixelSpacing for others (or NominalScannedPixelSpacing, of
    secondary captures); functional groups for enhanced images. What is absent is taken as the identity's.

    Raises:
        ValueError: naming the field, when a number in it cannot be read.
    """
    kind = str(dataset.get("SOPClassUID", ""))
    if kind in _NOWHERE:
        return np.eye(4)
    rows, columns = _world_spacing(dataset)
    orientation = _numbers(_nested(dataset, "PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    axes = np.asarray(orientation or (1.0, 0, 0, 0, 1, 0))
    along_row, along_column = axes[:3], axes[3:]
    across = np.cross(along_row, along_column)
    affine = np.eye(4)
    affine[:3, 0] = along_row * columns
    affine[:3, 1] = along_column * rows
    affine[:3, 2] = across * _slice_spacing(dataset, across)
    position = next(iter(_positions(dataset)), None)
    if position is not None:
        affine[:3, 3] = position
    return affine


def dicom_pixel_size(dataset: Any) -> tuple[tuple[float, float], tuple[str, ...]]:
    """Height and width of a pixel, in millimetres or only in relation to each other, and what is doubtful about them.

    What the file's class says first (see `dicom_affine`), else any spacing there is, else PixelAspectRatio; without any
    pixels are square.

    Raises:
        ValueError: naming the field, when a number in it cannot be read.
    """
    names = sorted(SPACINGS, key=lambda name: name not in _spacing_names(dataset))
    known = {name: size for name in names if (size := _spacing(dataset, name))}
    grouped = _positive(_nested(dataset, "PixelMeasuresSequence", "PixelSpacing", grouped_only=True))
    if grouped:
        known = {"PixelMeasuresSequence": grouped, **known}
    useless = tuple(
        f"{name} is {_value(dataset, name)!r}, no height and width of a pixel; left aside"
        for name in (*SPACINGS, "PixelAspectRatio")
        if not is_absent(_value(dataset, name)) and _spacing(dataset, name) is None
    )
    if not known:
        ratio = _spacing(dataset, "PixelAspectRatio")
        return ratio or (1.0, 1.0), useless
    first, *others = known
    doubts = useless + tuple(
        f"{first} makes pixels {_shape(known[first])}, {name} {_shape(known[name])}; taken as the first"
        for name in others
        if not np.isclose(known[first][0] / known[first][1], known[name][0] / known[name][1], rtol=0.01)
    )
    return known[first], doubts


def _world_spacing(dataset: Any) -> tuple[float, float]:
    grouped = _positive(_nested(dataset, "PixelMeasuresSequence", "PixelSpacing", grouped_only=True))
    if grouped:
        return grouped
    known = (_spacing(dataset, name) for name in _spacing_names(dataset))
    return next((size for size in known if size), (1.0, 1.0))


def _spacing_names(dataset: Any) -> tuple[str, ...]:
    kind = str(dataset.get("SOPClassUID", ""))
    if kind in _AT_DETECTOR:
        return ("ImagerPixelSpacing",)
    if kind == _RADIOTHERAPY:
        return ("ImagePlanePixelSpacing",)
    if kind.startswith(_WITHOUT_SPACING):
        return ()
    return ("PixelSpacing", "NominalScannedPixelSpacing") if kind == _SECONDARY_CAPTURE else ("PixelSpacing",)


def _spacing(dataset: Any, name: str) -> tuple[float, float] | None:
    return _positive(_value(dataset, name))


def _positive(value: Any) -> tuple[float, float] | None:
    numbers = _numbers(value, 2)
    return (numbers[0], numbers[1]) if numbers and min(numbers) > 0 else None


def _slice_spacing(dataset: Any, across: Affine) -> float:
    places = [np.asarray(place) for place in _positions(dataset)]
    if len(places) > 1 and (distance := float(np.dot(places[1] - places[0], across))):
        return distance
    if str(dataset.get("SOPClassUID", "")).startswith(_WITHOUT_SLICE_SPACING):
        return 1.0
    numbers = _numbers(_value(dataset, "SpacingBetweenSlices"), 1)
    return abs(numbers[0]) if numbers and numbers[0] else 1.0


def _positions(dataset: Any) -> Iterator[tuple[float, ...]]:
    """Where each frame's first pixel is, as far as the file says so."""
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or ())
    groups = frames or list(dataset.get("SharedFunctionalGroupsSequence") or ())
    for group in groups:
        for item in group.get("PlanePositionSequence") or ():
            if numbers := _numbers(_value(item, "ImagePositionPatient"), 3):
                yield numbers
    if str(dataset.get("SOPClassUID", "")).startswith(_IN_GROUPS):
        return
    place = dataset
    if str(dataset.get("SOPClassUID", "")) == _NUCLEAR:
        detectors = dataset.get("DetectorInformationSequence") or ()
        place = next(iter(detectors), {})
    if numbers := _numbers(_value(place, "ImagePositionPatient"), 3):
        yield numbers


def _nested(dataset: Any, sequence: str, name: str, *, grouped_only: bool = False) -> Any:
    """A field of the functional groups (shared, else the first frame's), or of the file itself."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in list(dataset.get(groups) or ())[:1]:
            for item in list(group.get(sequence) or ())[:1]:
                value = _value(item, name)
                if value:
                    return value
    return None if grouped_only else _value(dataset, name)


def _value(dataset: Any, name: str) -> Any:
    try:
        return dataset.get(name)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{field(name)}: expected numbers, got {error}") from error


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """So many finite numbers, or None where the field is absent, empty or holds others."""
    try:
        values = tuple(float(number) for number in (value if count > 1 else (value,)))
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _shape(size: tuple[float, float]) -> str:
    return f"{size[0]:g} x {size[1]:g}"
