# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The labels that readers gave the images of a folder, as a datalist. MONAI Label itself is not needed to read them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom

from .._patients import known_patient
from ..data.patients import patient_reader
from ..image_io.dicom_volume import holds_slices, slice_files
from ..image_io.series_archive import series_folder
from .hand_out import BAD, READING, UNSURE
from .names import check_name

__all__ = ["DAMAGED", "STORE_FILE", "LabelledImage", "LabelledImages", "read_labels"]

STORE_FILE = "datastore_v2.json"
DAMAGED = (
    "put a copy of it back, or remove it and start the server on the folder: it reads the classes in labels/ again, "
    "but who gave them, patients, scores and images set aside are lost"
)
"""What to do about a file of that name that cannot be read."""
MODELS_OWN = "original"
"""The tag of what a model has found, in MONAI Label's terms: no reader's label."""


@dataclass(frozen=True)
class LabelledImage:
    """An image and the class that readers gave it.

    Args:
        id: its id in the datastore.
        path: its file.
        label: the class.
        tags: tags of the labels, sorted; several where several readers agree.
        patient: patient, where known; else empty.
    """

    id: str
    path: Path
    label: str
    tags: tuple[str, ...]
    patient: str = ""

    @property
    def group(self) -> str:
        """What must stay together: the patient, or the image by itself."""
        return self.patient or f"image {self.id}"


@dataclass(frozen=True)
class LabelledImages:
    """Labelled images, and those that were left out.

    Args:
        items: in the order of their ids.
        left_out: reason -> how many images.
        classes: names of the classes, where the reader of the labels knows them.
    """

    items: list[LabelledImage]
    left_out: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Class -> how many images."""
        return dict(sorted(Counter(item.label for item in self.items).items()))


def read_labels(
    folder: str | Path,
    *,
    classes: Sequence[str] | None = None,
    tags: Collection[str] | None = None,
    patient_pattern: str | None = None,
    volumes: bool = False,
) -> LabelledImages:
    """The labels that a folder's datastore holds.

    An image has the class on which all its labels agree. Left out, and counted by their reason, are images without a
    label (skipped ones are among them), images of which readers were only unsure, images that one of them called bad,
    images whose labels disagree, and labels that are no class of ``classes``. What a model found (tag "original") is
    no label.

    The patient is what the image's info says under "patient" (PUT /datastore/image/info), else what the pattern finds
    in the file's name, else the PatientID of a DICOM file, or of the first slice of a series.

    Args:
        folder: the folder of the images, with ``datastore_v2.json``.
        classes: names of the classes; None for any.
        tags: whose labels count; None for all but "original".
        patient_pattern: regular expression with one group that finds the patient in a file's name.
        volumes: whether images may be volumes: then a folder of DICOM slices is one.

    Raises:
        ValueError: when there is no datastore, it cannot be read, or the pattern is none.
    """
    root = Path(folder)
    store = root / STORE_FILE
    if not store.is_file():
        raise ValueError(f"studies: expected a folder with {STORE_FILE}, which MONAI Label makes, got {root}")
    try:
        objects = json.loads(store.read_text(encoding="utf-8"))["objects"]
        entries = sorted(objects.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"studies: {store} is no datastore of MONAI Label, or damaged: {error!r}; {DAMAGED}"
        ) from error
    find = None if patient_pattern is None else patient_reader(patient_pattern)
    items: list[LabelledImage] = []
    left_out: Counter[str] = Counter()
    for name, entry in entries:
        found = _judge(root, name, entry, classes, tags, volumes)
        if isinstance(found, str):
            left_out[found] += 1
            continue
        path, label, given = found
        items.append(LabelledImage(name, path, label, given, _patient(path, entry["image"].get("info") or {}, find)))
    return LabelledImages(items, dict(sorted(left_out.items())))


def _judge(
    root: Path,
    name: str,
    entry: Any,
    classes: Sequence[str] | None,
    tags: Collection[str] | None,
    volumes: bool,
) -> tuple[Path, str, tuple[str, ...]] | str:
    """File, class and tags of an image; or why it is left out."""
    try:
        path = root / check_name(check_name(name, "image") + str(entry["image"].get("ext") or ""), "image")
        labels = {check_name(tag, "tag"): label.get("info") or {} for tag, label in entry["labels"].items()}
        aside = _set_aside(entry["image"].get("info") or {})
    except (ValueError, KeyError, TypeError, AttributeError):
        return "unreadable entries"
    if aside == BAD:
        return "bad images"
    if path.is_symlink() or not path.exists():
        return "images that are not there"
    if path.is_dir() and not (volumes and holds_slices(path)):
        return "folders, of which a model of volumes takes those of slices alone"
    wanted = {tag: info for tag, info in labels.items() if (tag in tags if tags is not None else tag != MODELS_OWN)}
    if not wanted and aside:
        return "of which readers were unsure"
    if not wanted:
        return "only what a model found" if tags is None and labels else "without a label"
    names = {str(info.get("label", "")) for info in wanted.values()}
    if len(names) > 1:
        return "readers disagree"
    label = names.pop()
    if not label or (classes is not None and label not in classes):
        return "labels that are no class"
    return path, label, tuple(sorted(wanted))


def _set_aside(info: Mapping[str, Any]) -> str:
    """What readers said of an image instead of a class: the worst of it, "" for nothing."""
    said = info.get(READING)
    verdicts = {one.get("verdict") for one in said.values()} if isinstance(said, dict) else set()
    return BAD if BAD in verdicts else UNSURE if UNSURE in verdicts else ""


def _patient(path: Path, info: Mapping[str, Any], find: Callable[[str], str] | None) -> str:
    if patient := known_patient(info.get("patient") or ""):
        return patient
    if find is not None:
        return known_patient(find(path.name))
    try:
        with series_folder(path) as found:
            file = next(slice_files(found), found) if found.is_dir() else found
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["PatientID"])
    except (pydicom.errors.InvalidDicomError, OSError, ValueError, TypeError, EOFError):
        return ""
    return known_patient(header.get("PatientID") or "")
