# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""In which series results are, and their numbers in it."""

from __future__ import annotations

from datetime import datetime

from .finding import Algorithm
from .source import Source
from .uids import new_uid

__all__ = ["instance_number", "series_uid"]


def series_uid(source: Source, kind: str, algorithm: Algorithm, when: datetime) -> str:
    """The series of a kind of result: one for each series, side and frame of reference of the images, and each run.

    A series has one laterality and one frame of reference (PS3.3, A.1.2.5), which the images of one may not.

    Args:
        source: the image.
        kind: what the series holds.
        algorithm: what has classified.
        when: time of the run.
    """
    first = source.first
    place = (str(first.StudyInstanceUID), str(first.SeriesInstanceUID), str(first.get("FrameOfReferenceUID", "")))
    return new_uid("series", kind, place, source.laterality, algorithm.__dict__, when.isoformat())


def instance_number(source: Source) -> int:
    """The number of the image in its own series, 1 where it has none."""
    try:
        return max(1, int(source.first.get("InstanceNumber") or 1))
    except (TypeError, ValueError):
        return 1
