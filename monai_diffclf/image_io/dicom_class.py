# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""DICOM files that are no pictures of a patient: reports, maps, segmentations, plans, and what this package writes."""

from __future__ import annotations

import os
from typing import Any

import pydicom

from .._file_state import once_a_file
from .dicom_header import value_of
from .file_kind import has_dicom_mark

__all__ = ["MANUFACTURER", "class_name", "no_image", "no_image_reason"]

MANUFACTURER = "monai_diffclf contributors"
"""Of the objects that this package writes, see :mod:`monai_diffclf.dicom_out`."""

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# Families of SOP classes (PS3.4, B.5) by how their identifiers go on; some have pixels, but none that were acquired.
_NO_IMAGES = (
    *("9.", "11.", "30", "66", "67", "68.", "78.", "79.", "80.", "88.", "90.", "104.", "200."),
    *("4.2", "77.1.5.3", "481.2", "481.3", "481.4", "481.5", "481.6", "481.7", "481.8", "481.9"),
    *(f"481.{number}" for number in (*range(10, 23), 25)),
)


def no_image(dataset: Any) -> str:
    """What a file is that is no picture of a patient: its class in words; empty where it may be one.

    A report, a presentation state, an encapsulated document, a waveform, a segmentation, a parametric map, a dose, a
    plan, measurements; and results of this package, overlays among them.

    Args:
        dataset: its header, with SOPClassUID and Manufacturer.
    """
    uid = str(value_of(dataset, "SOPClassUID", ""))
    if uid.startswith(_STORAGE) and _is_of(uid.removeprefix(_STORAGE)):
        return f"no image, but DICOM of the class {class_name(dataset)}"
    if str(value_of(dataset, "Manufacturer", "")) == MANUFACTURER:
        return "a result of this package, no image to classify"
    return ""


@once_a_file
def no_image_reason(path: str | os.PathLike[str]) -> str:
    """`no_image` of a file; empty where it is not DICOM, or its header cannot be read."""
    if not has_dicom_mark(path):
        return ""
    try:
        return no_image(
            pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "Manufacturer"], force=True)
        )
    except Exception:  # pydicom raises whatever it meets; reading the image will say what is wrong
        return ""


def class_name(dataset: Any) -> str:
    """Name of the file's class, as far as it is known."""
    return str(getattr(value_of(dataset, "SOPClassUID"), "name", "unknown"))


def _is_of(rest: str) -> bool:
    return any(rest.startswith(family) if family.endswith(".") else _begins(rest, family) for family in _NO_IMAGES)


def _begins(rest: str, family: str) -> bool:
    """The class itself, or one of a family that has it for its root, such as 66 and 66.4."""
    return rest == family or rest.startswith(f"{family}.")
