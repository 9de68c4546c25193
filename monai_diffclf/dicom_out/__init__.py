# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Results as DICOM objects, by highdicom: reports, maps, pictures, and what to read first."""

from __future__ import annotations

from .finding import Algorithm, Finding, finding_of
from .image_results import dicom_files
from .key_objects import key_objects
from .library import to_bytes
from .parametric_map import parametric_map
from .secondary_capture import secondary_capture
from .source import Source, read_source
from .structured_report import structured_report
from .volume_source import VolumeSource, read_volume_source
from .worklist import WorklistItem, read_first, sort_by_urgency, write_worklist

__all__ = [
    "Algorithm",
    "Finding",
    "Source",
    "VolumeSource",
    "WorklistItem",
    "dicom_files",
    "finding_of",
    "key_objects",
    "parametric_map",
    "read_first",
    "read_source",
    "read_volume_source",
    "secondary_capture",
    "sort_by_urgency",
    "structured_report",
    "to_bytes",
    "write_worklist",
]
