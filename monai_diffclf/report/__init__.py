# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A self-contained HTML report on a diffusion classifier."""

from __future__ import annotations

from .data import ReportData
from .html import write_report

__all__ = ["ReportData", "write_report"]
