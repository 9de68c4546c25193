# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The images that results refer to: their headers, from which patient, study and geometry are taken."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from .text import clean_header, is_uid

__all__ = ["Source", "read_source"]

_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
# Type 2: present in every object, empty where nothing is known.
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
_SEXES = ("M", "F", "O", "")


@dataclass(frozen=True)
class Source:
    """One image: a file, or the slices of a series in their order.

    Args:
        headers: a header for each file, of one series of one study, cleaned (see `clean_header`), without pixels.
        is_slice: whether it is one slice of a volume, see `slice_at`.
        frame: of an image of several frames the one that is meant, from 1; None for all.
    """

    headers: tuple[Dataset, ...]
    is_slice: bool = False
    frame: int | None = None

    @property
    def first(self) -> Dataset:
        """The first header."""
        return self.headers[0]

    @property
    def num_frames(self) -> int:
        """Frames of all files together."""
        return sum(int(header.get("NumberOfFrames") or 1) for header in self.headers)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.first.Rows), int(self.first.Columns)

    @property
    def instances(self) -> list[str]:
        """SOPInstanceUID of every file."""
        return [str(header.SOPInstanceUID) for header in self.headers]

    def slice_at(self, place: int) -> Source:
        """One slice of several: its file, or of one file with several frames that frame.

        Args:
            place: which one, from 0, in the order of the files or frames.

        Raises:
            ValueError: when there is none.
        """
        if not 0 <= place < self.num_frames:
            raise ValueError(f"place: expected one of {self.num_frames} slices, from 0, got {place}")
        if len(self.headers) == 1:
            return replace(self, is_slice=True, frame=place + 1)
        return Source((self.headers[place],), is_slice=True)

    @cached_property
    def laterality(self) -> str:
        """``"L"`` or ``"R"``, of the image or else of its series; ``""`` where there is none, or both."""
        places = [self.first, *_shared(self.first, "FrameAnatomySequence")]
        names = ("ImageLaterality", "FrameLaterality", "Laterality")
        found = next((str(place.get(name)) for name in names for place in places if place.get(name)), "")
        return found if found in ("L", "R") else ""


def read_source(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Source:
    """The header of a DICOM file, or those of the slices of a series in the order given.

    Args:
        paths: a file or several.

    Raises:
        ValueError: naming the file, when it is no DICOM image, lacks the UIDs by which one refers to it, or is not of
            the same series and size as the others.
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not files:
        raise ValueError("paths: expected at least one DICOM file, got none")
    headers = [_read(Path(file)) for file in files]
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns"):
        if len({str(header[name].value) for header in headers}) > 1:
            raise ValueError(f"paths: expected files of one {name}, got several; give those of one series")
    if len({str(header.SOPInstanceUID) for header in headers}) < len(headers):
        raise ValueError("paths: expected each image once, got a SOPInstanceUID twice")
    return Source(tuple(headers))


def _read(path: Path) -> Dataset:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        # Its character set is of the file; what is written has UTF-8.
        header.decode()
    except OSError:
        raise
    except Exception as error:  # pydicom raises whatever it meets
        raise ValueError(f"{path}: expected a DICOM file whose header can be read, got {error}") from error
    clean_header(header)
    for name in _IDENTITY:
        if not is_uid(header.get(name) or "?"):
            raise ValueError(f"{path}: expected a {name}, by which results refer to the image, got none that is valid")
    if not (header.get("Rows") and header.get("Columns")):
        raise ValueError(f"{path}: expected an image, got a DICOM file without Rows and Columns")
    for name in _MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, "")
    if header.PatientSex not in _SEXES:
        header.PatientSex = ""
    return header


def _shared(header: Dataset, sequence: str) -> list[Any]:
    """Items of a sequence of the shared functional groups."""
    groups = header.get("SharedFunctionalGroupsSequence") or ()
    return [item for group in groups for item in group.get(sequence) or ()]
