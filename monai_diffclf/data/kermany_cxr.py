# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The chest X-rays of Kermany et al. as MONAI datalists: normal, bacterial and viral pneumonia, or these as one."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._text_path import text_path
from .splits import check_split
from .table_rows import read_rows

__all__ = ["CLASSES", "TWO_CLASSES", "is_kermany_cxr", "load_kermany_cxr", "patient_of"]

CLASSES = ("normal", "bacterial", "viral")
TWO_CLASSES = ("normal", "pneumonia")
TABLE = "labels.csv"
_SUBTYPES = {"normal": 0, "bacteria": 1, "bacterial": 1, "virus": 2, "viral": 2}
_COLUMNS = ("file", "subtype", "split")
_SERIES = ((r"NORMAL2-IM-(\d+)-", "M"), (r"^IM-(\d+)-", "N"))


def is_kermany_cxr(root: str | os.PathLike[str]) -> bool:
    """Whether a folder has a table ``labels.csv`` with the columns file, subtype and split."""
    path = text_path(root, "root") / TABLE
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline(10_000).strip().split(",")
    return set(_COLUMNS) <= set(header)


def load_kermany_cxr(
    root: str | os.PathLike[str], split: str, *, classes: Sequence[str] = CLASSES
) -> list[dict[str, Any]]:
    """One split of the X-rays of Kermany et al. (Cell 2018), three classes or two, in the sets of PneumoniaMNIST.

    The official validation set shares 190 patients with the training set: it is taken without their images. Patients
    are those of the files' names, see `patient_of`.

    Args:
        root: folder of the table ``labels.csv`` with the columns file, subtype (normal, bacteria or virus) and split.
        split: "train", "validation" or "test".
        classes: ``CLASSES``, or ``TWO_CLASSES``, where bacterial and viral are pneumonia.

    Returns:
        Items ``{"image": path, "label": int, "key": file as in the table, "patient": str}``, sorted by key.

    Raises:
        ValueError: when the classes are others, a row's subtype or split is unknown, a file is missing, or a split has
            no row.
    """
    check_split(split)
    if tuple(classes) not in (CLASSES, TWO_CLASSES):
        raise ValueError(f"classes: expected {list(CLASSES)} or {list(TWO_CLASSES)}, got {list(classes)}")
    folder = text_path(root, "root")
    items: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "test": []}
    for row in read_rows(folder / TABLE, _COLUMNS):
        name, subtype = row["split"].strip(), row["subtype"].strip()
        where = "validation" if name == "val" else name
        if where not in items or subtype not in _SUBTYPES:
            raise ValueError(f"{row.where}: expected a known subtype and split, got {subtype!r} and {name!r}")
        path = folder / row["file"]
        if where == split and not path.is_file():
            raise ValueError(f"{row.where}: expected the image {path}, it is not there")
        patient = patient_of(row["file"])
        label = min(_SUBTYPES[subtype], len(classes) - 1)
        items[where].append({"image": str(path), "label": label, "key": row["file"], "patient": patient})
    known = {item["patient"] for item in items["train"]}
    items["validation"] = [item for item in items["validation"] if item["patient"] not in known]
    if not items[split]:
        raise ValueError(f"split: {folder / TABLE} has no row for the split {split!r}")
    return sorted(items[split], key=lambda item: str(item["key"]))


def patient_of(file_name: str) -> str:
    """The patient in a file name of these X-rays.

    Person numbers run separately for bacteria and virus; IM and NORMAL2-IM numbers are two further series.

    Raises:
        ValueError: when the name is none of these.

    Example:
        >>> patient_of("images/PNEUMONIA/person12_virus_34.jpeg"), patient_of("IM-0001-0001.jpeg")
        ('P12v', 'N1')
    """
    stem = Path(file_name).name
    if person := re.search(r"person(\d+)_([bv])", stem):
        return f"P{int(person.group(1))}{person.group(2)}"
    for pattern, prefix in _SERIES:
        if found := re.search(pattern, stem):
            return f"{prefix}{int(found.group(1))}"
    raise ValueError(f"file: expected a Kermany name such as person12_virus_34.jpeg or IM-0001-0001.jpeg, got {stem!r}")
