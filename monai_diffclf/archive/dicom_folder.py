# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The folder of an archive's DICOM results: files about each image, notes of what to read first, and the worklist."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom

from ..dicom_out import (
    Algorithm,
    Source,
    WorklistItem,
    key_objects,
    read_first,
    read_source,
    read_volume_source,
    sort_by_urgency,
    to_bytes,
    write_worklist,
)
from ..image_io.series_archive import series_folder
from ..storage.atomic_file import replace_text
from .block_record import BlockRecord
from .dicom_results import is_dicom
from .inputs import ArchiveImage
from .maps import file_stem
from .plan import ArchivePlan

__all__ = ["DicomFolder"]

WORKLIST, ABOUT = "worklist.csv", "dicom.json"
_OURS = re.compile(r"\d{6,}_.*_(report|map|overlay)\.dcm|read_first_\d{4,}\.dcm|worklist\.csv|dicom\.json")


class DicomFolder:
    """The folder of the DICOM results of a plan.

    They are made in a folder of their own in it, ``.classify_FINGERPRINT``, and put in place when they are complete.
    ``dicom.json`` says whose they are, and which images have none.

    Args:
        folder: the folder; the caller holds its lock.
        plan: what is to be done.
        volumes: whether images are whole volumes.
        several: whether classes are findings, any of which an image may have.
    """

    def __init__(self, folder: Path, plan: ArchivePlan, *, volumes: bool = False, several: bool = False) -> None:
        self.folder, self.plan, self._volumes, self._several = folder, plan, volumes, several
        self.staged = folder / f".classify_{plan.fingerprint}"
        self._items: list[WorklistItem] = []
        self._left_out: list[tuple[str, str]] = []

    def is_done(self) -> bool:
        """Whether all results of this plan are there."""
        about = self.about()
        whole = about.get("run") == self.plan.fingerprint and about.get("complete") is True
        return whole and all((self.folder / name).is_file() for name in about["files"])

    def about(self) -> dict[str, Any]:
        """What ``dicom.json`` says; nothing where there is none."""
        try:
            return dict(json.loads((self.folder / ABOUT).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    def prepare(self, *, replace: bool = False) -> None:
        """Make the folder ready.

        Args:
            replace: remove the results of another run.

        Raises:
            ValueError: when the folder holds another run's results, or files that are nobody's.
        """
        found = sorted(path for path in self.folder.iterdir() if not path.name.startswith("."))
        strange = [path.name for path in found if not _OURS.fullmatch(path.name) or not path.is_file()]
        if strange:
            raise ValueError(
                f"--dicom-out: expected an empty folder, or one with results of this command, but {self.folder} holds "
                f"{strange[0]}; name another folder"
            )
        if found and self.about().get("run") != self.plan.fingerprint:
            if not replace:
                raise ValueError(
                    f"--dicom-out: {self.folder} holds results of another run; name another folder, or add --replace "
                    "to remove them"
                )
            # What says whose the others are goes last.
            for path in sorted(found, key=lambda each: each.name == ABOUT):
                path.unlink()

    def begin(self) -> None:
        """Begin to put records together."""
        for old in self.folder.glob(".classify_*"):
            shutil.rmtree(old, ignore_errors=True)
        self.staged.mkdir(parents=True)
        self._items, self._left_out = [], []

    def add(self, record: BlockRecord) -> None:
        """Add the results of a block."""
        for name, content in record.dicom.items():
            (self.staged / name).write_bytes(content)
        first = self.plan.first(record.number)
        for place, (image, row) in enumerate(zip(self.plan.block(record.number), record.rows, strict=True), first):
            if not is_dicom(image):
                continue
            error = record.faults.get(image.key, "")
            if error or row["error"]:
                self._left_out.append((image.key, error or row["error"]))
            report = f"{file_stem(image, place)}_report.dcm"
            try:
                source = self._source(image, place, record)
            except (ValueError, OSError):  # the reason is known from the block
                source = None
            report = report if report in record.dicom else ""
            self._items.append(WorklistItem(row, source, report, error, several=self._several))

    def publish(self, algorithm: Algorithm) -> None:
        """Make worklist and notes, and put all in place.

        Args:
            algorithm: what has classified.
        """
        positive = list(self.plan.settings.positive)
        if positive:
            self._write_notes(positive, algorithm)
            write_worklist(self.staged / WORKLIST, self._items, positive)
        names = sorted(path.name for path in self.staged.iterdir())
        about = {
            "run": self.plan.fingerprint,
            "complete": False,
            "files": names,
            "left_out": self._left_out,
            "positive": positive,
            "algorithm": algorithm.__dict__,
        }
        # First, so that what a kill leaves between is known as this plan's.
        replace_text(self.folder / ABOUT, json.dumps(about))
        for name in names:
            os.replace(self.staged / name, self.folder / name)
        replace_text(self.folder / ABOUT, json.dumps({**about, "complete": True}))
        shutil.rmtree(self.staged, ignore_errors=True)

    def _source(self, image: ArchiveImage, place: int, record: BlockRecord) -> Source:
        """What worklist and notes refer to: the image; of a volume with a map the slice that its picture shows."""
        if not self._volumes:
            return read_source(image.path)
        with series_folder(image.path) as where:
            source = read_volume_source(where).source
        begin = f"{file_stem(image, place)}_"
        pictures = [name for name in sorted(record.dicom) if name.startswith(begin) and name.endswith("_overlay.dcm")]
        return shown_by(source, record.dicom[pictures[0]]) if pictures else source

    def _write_notes(self, positive: list[str], algorithm: Algorithm) -> None:
        """A note for each study of a patient with images that are to be read first, the most urgent study first."""
        studies: dict[tuple[str, str], list[Any]] = {}
        for item in sort_by_urgency(self._items, positive):
            if item.source is not None and item.report and read_first(item, positive):
                header = item.source.first
                place = str(header.StudyInstanceUID), str(header.get("PatientID") or "")
                studies.setdefault(place, []).append(item.source)
        when = datetime.fromisoformat(self.plan.settings.begun)
        for number, sources in enumerate(studies.values(), start=1):
            note = key_objects(sources, positive, algorithm, when=when)
            (self.staged / f"read_first_{number:04d}.dcm").write_bytes(to_bytes(note))


def shown_by(source: Source, picture: bytes) -> Source:
    """The slice of a volume that a picture of `secondary_capture` shows.

    Args:
        source: the volume.
        picture: the file of the picture.
    """
    (reference,) = pydicom.dcmread(BytesIO(picture), stop_before_pixels=True).SourceImageSequence
    frame = reference.get("ReferencedFrameNumber")
    return source.slice_at(source.instances.index(reference.ReferencedSOPInstanceUID) if frame is None else frame - 1)
