# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""VinDr-Mammo (full-field digital mammograms), as it is distributed, as a MONAI datalist."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .._text_path import text_path
from .image_table import check_split, split_by_hash
from .mammogram_tables import CLASSES, SIDES, VIEWS
from .table_rows import Row, each_once, read_rows

__all__ = ["ADDRESS", "CLASSES", "TERMS", "is_vindr_mammo", "load_vindr_mammo"]

ADDRESS = "https://physionet.org/content/vindr-mammo/1.0.0/"
TERMS = (
    "credentialed PhysioNet users who sign the data use agreement; PhysioNet Restricted Health Data License 1.5.0; "
    "cite Nguyen et al. 2023, doi:10.1038/s41597-023-02100-7"
)

_TABLE = "breast-level_annotations.csv"
_COLUMNS = ("study_id", "image_id", "laterality", "view_position", "breast_birads", "breast_density", "split")
_BIRADS = {"BI-RADS 1": 0, "BI-RADS 2": 0, "BI-RADS 3": 0, "BI-RADS 4": 1, "BI-RADS 5": 1}
_BIRADS_HINT = "; the data set has no other; BI-RADS 0 is an unfinished assessment: leave its row out"
_DENSITY = {f"DENSITY {letter}": letter for letter in "ABCD"}
_SPLIT = {"training": "train", "test": "test"}


def is_vindr_mammo(root: str | os.PathLike[str]) -> bool:
    """Whether a folder holds the table of VinDr-Mammo."""
    return (Path(root) / _TABLE).is_file()


def load_vindr_mammo(root: str | os.PathLike[str], split: str) -> list[dict[str, Any]]:
    """One split of VinDr-Mammo: BI-RADS 1 to 3 benign 0, BI-RADS 4 and 5 malignant 1 (Nguyen et al. 2023).

    The folder is that of PhysioNet, with ``breast-level_annotations.csv`` and ``images/STUDY/IMAGE.dicom``. Test is the
    official test set; a tenth of the studies of the official training set, by hash, is for validation. A study is a
    patient: the data set has one examination of each, and nothing else that tells patients apart. The label is a
    radiologist's assessment of the breast, not a biopsy.

    Args:
        root: the folder.
        split: "train", "validation" or "test".

    Returns:
        Items ``{"image": path, "label": int, "key": image id, "patient": study id, "laterality": "L" or "R", "view":
        "CC" or "MLO", "density": "A" to "D", "assessment": "1" to "5"}``, sorted by key.

    Raises:
        ValueError: naming the file, line and field of a missing table, column or image, a second row of an image, a
            study in two splits, or a value that the data set does not have; and where to get the data.
    """
    check_split(split)
    root = text_path(root, "root")
    table = root / _TABLE
    if not table.is_file():
        raise ValueError(f"root: expected {_TABLE} in {root}, it is missing; VinDr-Mammo is at {ADDRESS} ({TERMS})")
    items: list[dict[str, Any]] = []
    official: dict[str, str] = {}
    for row in each_once(read_rows(table, _COLUMNS), "image_id"):
        item, part = _item(row, root), row.one_of("split", _SPLIT)
        patient = item["patient"]
        if official.setdefault(patient, part) != part:
            raise ValueError(
                f"{row.where}: expected the study {patient} ('study_id') in one split, got {row['split']!r} after the "
                "other; use the table as it is distributed"
            )
        if part == "train" and split_by_hash(patient) == "validation":
            part = "validation"
        if part != split:
            continue
        if not Path(item["image"]).is_file():
            raise ValueError(
                f"{row.where}: expected the image {item['image']} ('study_id', 'image_id'), it is not there; download "
                f"it from {ADDRESS}, or remove the row"
            )
        items.append(item)
    if not items:
        raise ValueError(f"split: expected images for {split!r} in {table}, got none")
    return sorted(items, key=lambda item: str(item["key"]))


def _item(row: Row, root: Path) -> dict[str, Any]:
    study, image = row.text("study_id"), row.text("image_id")
    return {
        "image": str(root / "images" / study / f"{image}.dicom"),
        "label": row.one_of("breast_birads", _BIRADS, _BIRADS_HINT),
        "key": image,
        "patient": study,
        "laterality": row.one_of("laterality", SIDES),
        "view": row.one_of("view_position", VIEWS),
        "density": row.one_of("breast_density", _DENSITY),
        "assessment": row["breast_birads"].removeprefix("BI-RADS "),
    }
