# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""In which series results are, and their numbers in it."""

from __future__ import annotations

from datetime import datetime

from .finding import Algorithm, Finding
from .source import Source
from .uids import new_uid

__all__ = ["instance_number", "of_finding", "series_uid"]


def series_uid(
    source: Source, kind: str, algorithm: Algorithm, when: datetime, finding: str = "", *, frame: str | None = None
) -> str:
    """The series of a kind of result: one for each series, side and frame of reference of the images, and each run.

    Of several findings each has its own, so that a viewer lists it by its name.

    A series has one laterality and one frame of reference (PS3.3, A.1.2.5), which the images of one may not.

    Args:
        source: the image.
        kind: what the series holds.
        algorithm: what has classified.
        when: time of the run.
        finding: name of one of several findings.
        frame: frame of reference of the result; None for that of the image.
    """
    first = source.first
    frame = str(first.get("FrameOfReferenceUID", "")) if frame is None else frame
    place = (str(first.StudyInstanceUID), str(first.SeriesInstanceUID), frame)
    named = (finding,) if finding else ()
    return new_uid("series", kind, place, source.laterality, algorithm.__dict__, when.isoformat(), *named)


def of_finding(finding: Finding) -> str:
    """Words for the name of a series: which of several findings it is about; ``""`` where an image has one class."""
    return f" of {finding.name}" if finding.name else ""


def instance_number(source: Source) -> int:
    """The number of the image in its own series, 1 where it has none."""
    try:
        return max(1, int(source.first.get("InstanceNumber") or 1))
    except (TypeError, ValueError):
        return 1
