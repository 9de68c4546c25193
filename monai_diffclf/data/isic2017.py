# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""ISIC 2017, part 3 (dermoscopy), as it is distributed, as a MONAI datalist."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .._text_path import text_path
from ..image_io.image_files import is_image_file
from .splits import NoSplitError
from .table_rows import Row, each_once, read_rows

__all__ = ["CLASSES", "is_isic2017", "load_isic2017"]

CLASSES = ("nevus", "melanoma", "seborrheic_keratosis")
ADDRESS = "https://challenge.isic-archive.com/data/#2017"
_PARTS = {"train": "Training", "validation": "Validation", "test": "Test_v2"}
_LESIONS = ("melanoma", "seborrheic_keratosis")


def is_isic2017(root: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a table of labels of ISIC 2017, part 3."""
    return any((Path(root) / _table(split)).is_file() for split in _PARTS)


def load_isic2017(root: str | os.PathLike[str], split: str) -> list[dict[str, Any]]:
    """One official split of ISIC 2017, part 3: nevus 0, melanoma 1, seborrheic keratosis 2 (Codella et al. 2018).

    The folder holds what the challenge distributes, unpacked: the tables ``ISIC-2017_PART_Part3_GroundTruth.csv`` and
    the folders ``ISIC-2017_PART_Data`` with the images and, for training and validation, a table of age and sex; PART
    is Training (2,000 images), Validation (150) or Test_v2 (600). CC-0, from the address below.

    Args:
        root: the folder.
        split: "train", "validation" or "test".

    Returns:
        Items ``{"image": path, "label": int, "key": image id, "patient": "", "age": str, "sex": str}``, sorted by key;
        age and sex are empty where they are not known. Patients are not known.

    Raises:
        ValueError: naming the file and line of a missing table, column or image, or of contradictory labels.
    """
    if split not in _PARTS:
        raise ValueError(f"split: expected one of {', '.join(_PARTS)}, got {split!r}")
    root = text_path(root, "root")
    table, folder = root / _table(split), root / f"ISIC-2017_{_PARTS[split]}_Data"
    if not table.is_file() and not folder.is_dir() and is_isic2017(root):
        raise NoSplitError(
            f"split: expected {table.name} in {root} for the split {split!r}, it is missing, and so is "
            f"{folder.name}; ISIC 2017 is at {ADDRESS}"
        )
    for path, there in ((table, table.is_file()), (folder, folder.is_dir())):
        if not there:
            raise ValueError(f"root: expected {path.name} in {root}, it is missing; ISIC 2017 is at {ADDRESS}")
    files = {file.stem: file for file in sorted(folder.iterdir()) if is_image_file(file)}
    people = _read_people(folder)
    items = []
    for row in each_once(read_rows(table, ("image_id", *_LESIONS)), "image_id"):
        key = row["image_id"]
        if key not in files:
            raise ValueError(f"{row.where}: expected the image {key} in {folder}, it is not there")
        person = {"age": "", "sex": ""} | people.get(key, {})
        items.append({"image": str(files[key]), "label": _label(row), "key": key, "patient": "", **person})
    if not items:
        raise ValueError(f"{table}: expected one row an image, got none")
    return sorted(items, key=lambda item: str(item["key"]))


def _table(split: str) -> str:
    return f"ISIC-2017_{_PARTS[split]}_Part3_GroundTruth.csv"


def _label(row: Row) -> int:
    flags = [row.number(name) for name in _LESIONS]
    if set(flags) - {0.0, 1.0} or sum(flags) > 1:
        raise ValueError(
            f"{row.where}: expected at most one of melanoma and seborrheic_keratosis to be 1.0, the others 0.0, got "
            f"{flags}"
        )
    return flags.index(1.0) + 1 if 1.0 in flags else 0


def _read_people(folder: Path) -> dict[str, dict[str, str]]:
    """Age and sex of each image, from the table among the images; empty where there is none."""
    path = folder / f"{folder.name}_metadata.csv"
    if not path.is_file():
        return {}
    columns = {"age": "age_approximate", "sex": "sex"}
    return {
        row["image_id"]: {name: row.get(column).replace("unknown", "") for name, column in columns.items()}
        for row in read_rows(path, ("image_id",))
    }
