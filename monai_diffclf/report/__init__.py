# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Self-contained HTML reports: on a diffusion classifier as a whole, and case by case."""

from __future__ import annotations

from .case import Case, CounterfactualPair
from .case_volume import CaseVolume
from .cases import write_case_report
from .data import ReportData
from .findings_page import write_findings_report
from .html import write_report

__all__ = [
    "Case",
    "CaseVolume",
    "CounterfactualPair",
    "ReportData",
    "write_case_report",
    "write_findings_report",
    "write_report",
]
