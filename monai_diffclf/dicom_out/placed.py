# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where an image lies and which side of the body it shows, as objects made of it have to say."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset

from ..image_io.dicom_grid import dicom_pixel_size
from .source import Source
from .uids import new_uid

__all__ = ["add_side", "orientation_of", "placed_headers"]

# The patient's left, back and head are where coordinates grow (PS3.3, C.7.6.2.1.1).
_DIRECTIONS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
# Values of BodyPartExamined of which there are two (PS3.16, annex L).
# fmt: off
_PAIRED = {
    "ACJOINT", "ADRENAL", "ANKLE", "ARM", "AXILLA", "BREAST", "CALCANEUS", "CALF", "CLAVICLE", "EAR", "ELBOW",
    "EXTREMITY", "EYE", "FEMUR", "FINGER", "FOOT", "FOREARM", "HAND", "HIP", "HUMERUS", "KIDNEY", "KNEE", "LEG",
    "LUNG", "OVARY", "PATELLA", "RADIUS", "RADIUSULNA", "SCAPULA", "SHOULDER", "SIJOINT", "TESTIS", "THIGH", "THUMB",
    "TIBIAFIBULA", "TOE", "ULNA", "UPRLEG", "WRIST", "ZYGOMA",
}
# fmt: on


def placed_headers(source: Source) -> list[Dataset]:
    """Headers that say where each image lies; those that do, as they are.

    A parametric map has to have a frame of reference, a position, an orientation and a spacing (PS3.3, A.75). A
    projection or a captured picture has none: it gets a frame of its own, derived from its UID, in which the centre of
    its first pixel is the origin, rows and columns run where PatientOrientation says (else to the left and the back),
    and pixels have the size that the header tells of in any way, else 1 mm.

    Args:
        source: the images.

    Raises:
        ValueError: when there are several slices or frames without positions, or a pixel size cannot be read.
    """
    first = source.first
    if first.get("FrameOfReferenceUID") and _has_position(first):
        headers = list(source.headers)
        return headers if has_thickness(source) else [_with_thickness(header) for header in headers]
    if source.num_frames > 1:
        raise ValueError("the image has several slices or frames without positions and a frame of reference")
    header = copy.deepcopy(first)
    size, _ = dicom_pixel_size(first)
    header.FrameOfReferenceUID = new_uid("frame of reference", str(first.SOPInstanceUID))
    header.PositionReferenceIndicator = ""
    header.ImagePositionPatient = [0, 0, 0]
    header.ImageOrientationPatient = orientation_of(first.get("PatientOrientation"))
    header.PixelSpacing = [round(side, 9) for side in size]
    return [header if has_thickness(source) else _with_thickness(header)]


def has_thickness(source: Source) -> bool:
    """Whether headers say how thick slices are; of functional groups highdicom itself takes it."""
    return all(header.get("SliceThickness") or _groups(header) for header in source.headers)


def _with_thickness(header: Dataset) -> Dataset:
    """A copy with a thickness, which highdicom asks for; it is not to stay."""
    copied = copy.deepcopy(header)
    copied.SliceThickness = 1.0
    return copied


def orientation_of(letters: object) -> list[int]:
    """Cosines of rows and columns for a value of PatientOrientation, by its first letters.

    Args:
        letters: two values such as ``["L", "F"]``; anything else is taken as left and back.

    Example:
        >>> orientation_of(["L", "FP"]), orientation_of(None)
        ([1, 0, 0, 0, 0, -1], [1, 0, 0, 0, 1, 0])
    """
    values = list(letters) if isinstance(letters, Sequence) and not isinstance(letters, str) else []
    found = [_DIRECTIONS.get(str(value)[:1]) for value in values]
    if len(found) != 2 or found[0] is None or found[1] is None or any(a and b for a, b in zip(*found, strict=True)):
        return [1, 0, 0, 0, 1, 0]
    return [*found[0], *found[1]]


def add_side(made: Dataset, source: Source) -> None:
    """Give an object the image's part of the body and, where there are two of it or it is unknown, the side.

    Laterality is of type 2C: absent of what there is one of, else present, and empty where it is not known.
    """
    body = str(source.first.get("BodyPartExamined") or "").replace(" ", "")  # its terms have no spaces
    if body:
        made.BodyPartExamined = body
    if not body or body in _PAIRED:
        made.Laterality = source.laterality


def _has_position(header: Dataset) -> bool:
    if _is_place(header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")):
        return True
    return any("PlanePositionSequence" in group for group in _groups(header))


def _is_place(position: object, orientation: object) -> bool:
    """Whether they are a point and two directions at a right angle, which some devices fill with zeros."""
    try:
        point, directions = (np.asarray(value, dtype=np.float64) for value in (position, orientation))
    except (TypeError, ValueError):
        return False
    if point.shape != (3,) or directions.shape != (6,) or not np.isfinite([*point, *directions]).all():
        return False
    rows, columns = directions[:3], directions[3:]
    return bool(np.allclose([rows @ rows, columns @ columns, rows @ columns], [1, 1, 0], atol=1e-3))


def _groups(header: Dataset) -> list[Dataset]:
    names = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    return [group for name in names for group in header.get(name) or ()]
