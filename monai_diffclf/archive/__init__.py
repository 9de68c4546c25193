# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Many images: found, classified in blocks by one process or by many, and put together into one table."""

from __future__ import annotations

from .classify_archive import ArchiveResult, classify_archive
from .inputs import ArchiveImage, find_archive
from .plan import ClassifierSettings

__all__ = ["ArchiveImage", "ArchiveResult", "ClassifierSettings", "classify_archive", "find_archive"]
