# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which images of a study are to be read first, as a key object selection note."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from .finding import Algorithm
from .library import common, highdicom, observer, settle
from .source import Source
from .structured_report import DISCLAIMER
from .text import vr_text
from .uids import new_uid

__all__ = ["key_objects"]

_SERIES_NUMBER = 9604
_TITLE = Code("113000", "DCM", "Of Interest")


def key_objects(sources: Sequence[Source], positive: Sequence[str], algorithm: Algorithm, *, when: datetime) -> Dataset:
    """A Key Object Selection Document (TID 2010, "Of Interest") that refers to images of one study.

    DICOM has no title for a priority, so that the description says "Read first". What a reader opens first of a volume
    is a slice, so that a note refers to one of each volume (`Source.slice_at`), or where there is none, to all of them.

    Args:
        sources: the images, or slices of volumes, the most urgent first.
        positive: classes because of which they are read first.
        algorithm: what has classified.
        when: time of the document.

    Returns:
        the document, as highdicom makes it.

    Raises:
        ValueError: when highdicom is not installed, there are no images, or they are of several studies or patients.
    """
    hd = highdicom()
    headers = [header for source in sources for header in source.headers]
    studies = {str(header.StudyInstanceUID) for header in headers}
    if len(studies) != 1:
        raise ValueError(f"sources: expected images of one study, got those of {len(studies)}; make a note for each")
    patients = {str(header.get("PatientID") or "") for header in headers}
    if len(patients) != 1:
        raise ValueError(f"sources: expected images of one patient, got those of {len(patients)}; make a note for each")
    instances = [(source.instances, source.frame) for source in sources]
    facts = (*studies, instances, list(positive), algorithm.__dict__, when.isoformat())
    slices = " Of a volume, the slice in which the map speaks most for it." if any(s.is_slice for s in sources) else ""
    content = hd.ko.KeyObjectSelection(
        document_title=_TITLE,
        referenced_objects=headers,
        observer_device_context=observer(algorithm),
        description=vr_text(f"Read first: found to be {' or '.join(positive)}.{slices} {DISCLAIMER}", "UT"),
    )
    frames = [source.frame for source in sources for _ in source.headers]
    for item, frame in zip(content.get_references(), frames, strict=True):
        if frame is not None:
            item.ReferencedSOPSequence[0].ReferencedFrameNumber = frame
    made = hd.ko.KeyObjectSelectionDocument(
        evidence=headers,
        content=content,
        series_instance_uid=new_uid("series", "key objects", *facts),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=new_uid("key objects", *facts),
        instance_number=1,
        content_date=when.date(),
        content_time=when.time(),
        **common(algorithm.name, f"Read first by {algorithm.name}, research only", when),
    )
    settle(made, when)
    return made  # type: ignore[no-any-return]
