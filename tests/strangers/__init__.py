"""Inputs that nobody prepared for this project: each is read right, or refused in one line.

``python -m tests.strangers`` lists those for which that does not hold.
"""

from __future__ import annotations

from .cases import Case
from .dicom_cases import dicom_cases
from .nifti_cases import nifti_cases
from .picture_cases import picture_cases
from .table_cases import table_cases
from .weight_cases import weight_cases

__all__ = ["all_cases"]


def all_cases() -> list[Case]:
    """The cases of all kinds."""
    return [*dicom_cases(), *picture_cases(), *nifti_cases(), *table_cases(), *weight_cases()]
