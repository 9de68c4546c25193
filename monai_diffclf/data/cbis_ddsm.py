# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""CBIS-DDSM (scanned film mammograms), as it is distributed, as a MONAI datalist."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._text_path import text_path
from .image_table import check_split, split_by_hash
from .mammogram_tables import CLASSES, VIEWS
from .table_rows import read_rows

__all__ = ["ADDRESS", "CLASSES", "TERMS", "is_cbis_ddsm", "load_cbis_ddsm"]

ADDRESS = "https://www.cancerimagingarchive.net/collection/cbis-ddsm/"
TERMS = "CC BY 3.0; cite doi:10.7937/K9/TCIA.2016.7O02S9CY and Lee et al. 2017, doi:10.1038/sdata.2017.177"

_KINDS = {"mass": "mass", "calc": "calcification"}
# In this order, so that an image in both parts has its file from the test part.
_PARTS = ("test", "train")
_PATHOLOGY = {"MALIGNANT": 1, "BENIGN": 0, "BENIGN_WITHOUT_CALLBACK": 0}
_COLUMNS = ("patient_id", "left or right breast", "image view", "assessment", "pathology", "image file path")
# The tables of masses and of calcifications do not spell it alike.
_DENSITY = ("breast_density", "breast density")


@dataclass(frozen=True)
class _Abnormality:
    """One abnormality of one mammogram."""

    where: str
    part: str
    kind: str
    patient: str
    laterality: str
    view: str
    label: int
    density: str
    assessment: str
    path: str


def is_cbis_ddsm(root: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a table of CBIS-DDSM."""
    return any((Path(root) / _table(kind, part)).is_file() for kind in _KINDS for part in _PARTS)


def load_cbis_ddsm(
    root: str | os.PathLike[str], split: str, *, abnormalities: Sequence[str] = ("mass", "calc")
) -> list[dict[str, Any]]:
    """One split of CBIS-DDSM: biopsy-proven benign 0, malignant 1 (Lee et al. 2017).

    The folder holds what TCIA distributes: the tables ``KIND_case_description_PART_set.csv`` (KIND is mass or calc,
    PART train or test), and the full mammograms as the NBIA retriever saves them,
    ``CBIS-DDSM/Mass-Training_P_00001_LEFT_CC/DATE-.../...full mammogram images.../1-1.dcm`` (also below a folder
    ``manifest-...``), or below the paths of the tables. Cropped images and masks have folders of their own and are not
    needed.

    - **One item an image.** A table has a row for each abnormality, and an image may be in the tables of masses and of
      calcifications. It is malignant if any of its rows is.
    - **Splits by patient.** Masses and calcifications were split separately, so that a patient may be in the training
      part of one and the test part of the other. The official test images stay as they are; the training images of
      their patients are left out, with a warning. A tenth of the other training patients, by hash, is for validation.

    Args:
        root: the folder.
        split: "train", "validation" or "test".
        abnormalities: which tables to read: "mass", "calc" or both.

    Returns:
        Items ``{"image": path, "label": int, "key": "P_00001_LEFT_CC", "patient": "P_00001", "laterality": "L" or "R",
        "view": "CC" or "MLO", "density": "1" to "4", "assessment": highest BI-RADS of its abnormalities,
        "abnormality": "mass", "calcification" or "both"}``, sorted by key.

    Raises:
        ValueError: naming the file, line and field of a missing table, column or image, more than one image where one
            is expected, or a value that the data set does not have; and where to get the data.
    """
    check_split(split)
    if isinstance(abnormalities, str) or not abnormalities or not set(abnormalities) <= set(_KINDS):
        raise ValueError(f"abnormalities: expected a list of {' and '.join(_KINDS)}, got {abnormalities!r}")
    root = text_path(root, "root")
    images: dict[str, list[_Abnormality]] = defaultdict(list)
    for part in _PARTS:
        for kind in sorted(set(abnormalities), reverse=True):
            for row in _read_table(root, kind, part):
                side = "LEFT" if row.laterality == "L" else "RIGHT"
                images[f"{row.patient}_{side}_{row.view}"].append(row)
    chosen = _choose(images, split)
    if not chosen:
        raise ValueError(f"split: expected images for {split!r} in the tables of {root}, got none")
    folders = _image_folders(root)
    return [_item(key, rows, _find_file(root, folders, rows[0])) for key, rows in sorted(chosen.items())]


def _table(kind: str, part: str) -> str:
    return f"{kind}_case_description_{part}_set.csv"


def _read_table(root: Path, kind: str, part: str) -> list[_Abnormality]:
    table = root / _table(kind, part)
    if not table.is_file():
        raise ValueError(f"root: expected {table.name} in {root}, it is missing; CBIS-DDSM is at {ADDRESS} ({TERMS})")
    rows = []
    for row in read_rows(table, _COLUMNS):
        rows.append(
            _Abnormality(
                where=row.where,
                part=part,
                kind=_KINDS[kind],
                patient=row.text("patient_id"),
                laterality=row.one_of("left or right breast", {"LEFT": "L", "RIGHT": "R"}),
                view=row.one_of("image view", VIEWS),
                label=row.one_of("pathology", _PATHOLOGY),
                density=next((row[name] for name in _DENSITY if row.get(name)), ""),
                assessment=row["assessment"],
                path=row.text("image file path"),
            )
        )
    if not rows:
        raise ValueError(f"{table}: expected one row an abnormality, got none")
    return rows


def _choose(images: dict[str, list[_Abnormality]], split: str) -> dict[str, list[_Abnormality]]:
    """The images of a split; those in training tables whose patient is in a test table are in none."""
    tested = {row.patient for rows in images.values() for row in rows if row.part == "test"}
    left_out = {key for key, rows in images.items() if rows[0].patient in tested and _official(rows) == "train"}
    if left_out and split != "test":
        patients = {images[key][0].patient for key in left_out}
        warnings.warn(
            f"CBIS-DDSM: {len(left_out)} training images of {len(patients)} patients are left out, because these "
            "patients are in the test set with another image",
            stacklevel=3,
        )
    return {key: rows for key, rows in images.items() if key not in left_out and _split_of(rows) == split}


def _official(rows: list[_Abnormality]) -> str:
    return "test" if any(row.part == "test" for row in rows) else "train"


def _split_of(rows: list[_Abnormality]) -> str:
    if _official(rows) == "test":
        return "test"
    return "validation" if split_by_hash(rows[0].patient) == "validation" else "train"


def _image_folders(root: Path) -> list[Path]:
    """Where the folders of the mammograms may be."""
    return [root, root / "CBIS-DDSM", *sorted(root.glob("manifest-*/CBIS-DDSM"))]


def _find_file(root: Path, folders: list[Path], row: _Abnormality) -> Path:
    """The image of a row: at the path that the table gives, or the only one in the folder that the path begins with."""
    for folder in folders:
        if (folder / row.path).is_file():
            return folder / row.path
    name = row.path.split("/")[0]
    files = sorted(file for folder in folders for file in (folder / name).rglob("*") if file.suffix.lower() == ".dcm")
    if len(files) == 1:
        return files[0]
    where = f"{row.where}: expected one DICOM file below the folder {name} ('image file path')"
    if not files:
        raise ValueError(
            f"{where} in {root} or its folder CBIS-DDSM, got none; the NBIA retriever downloads it from {ADDRESS}"
        )
    raise ValueError(f"{where}, got {len(files)}: {', '.join(map(str, files))}; keep the full mammogram alone")


def _item(key: str, rows: list[_Abnormality], file: Path) -> dict[str, Any]:
    kinds = {row.kind for row in rows}
    return {
        "image": str(file),
        "label": max(row.label for row in rows),
        "key": key,
        "patient": rows[0].patient,
        "laterality": rows[0].laterality,
        "view": rows[0].view,
        "density": next((row.density for row in rows if row.density), ""),
        "assessment": max(row.assessment for row in rows),
        "abnormality": kinds.pop() if len(kinds) == 1 else "both",
    }
