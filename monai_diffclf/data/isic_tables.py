# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""ISIC 2018 (task 3), 2019 and 2020 (dermoscopy), as they are distributed, as MONAI datalists."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._text_path import text_path
from .missing_images import present_images
from .splits import NoSplitError, check_split, split_by_hash
from .table_rows import Row, each_once, read_rows

__all__ = ["ADDRESS", "CLASSES", "TERMS", "is_isic", "load_isic2018", "load_isic2019", "load_isic2020", "read_isic"]

CLASSES = {
    2018: ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"),
    2019: ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"),
    2020: ("benign", "melanoma"),
}
"""Year -> classes in the order of their labels."""
ADDRESS = "https://challenge.isic-archive.com/data/"
TERMS = "CC BY-NC 4.0: with attribution, not commercial"

_NAMES = {
    (2018, "train"): "ISIC2018_Task3_Training",
    (2018, "validation"): "ISIC2018_Task3_Validation",
    (2018, "test"): "ISIC2018_Task3_Test",
    (2019, "train"): "ISIC_2019_Training",
    (2019, "test"): "ISIC_2019_Test",
    (2020, "train"): "ISIC_2020_Training",
}
_IMAGES_2020 = ("ISIC_2020_Training_JPEG/train", "ISIC_2020_Training_JPEG", "train", "jpeg/train")
_TABLES_2020 = ("ISIC_2020_Training_GroundTruth_v2.csv", "ISIC_2020_Training_GroundTruth.csv")


def is_isic(root: str | os.PathLike[str], year: int) -> bool:
    """Whether a folder holds a table of labels of ISIC 2018 (task 3), 2019 or 2020."""
    return any(each == year and _table(Path(root), year, part) is not None for each, part in _NAMES)


def load_isic2018(root: str | os.PathLike[str], split: str, *, allow_missing: bool = False) -> list[dict[str, Any]]:
    """One official split of ISIC 2018, task 3 (10,015, 193 and 1,512 images): the seven classes of HAM10000.

    The folder holds, unpacked, ``ISIC2018_Task3_PART_GroundTruth`` and ``ISIC2018_Task3_PART_Input`` (PART is Training,
    Validation or Test), and for training ``ISIC2018_Task3_Training_LesionGroupings.csv``, if it is there: an item's
    patient is its lesion. See `load_isic2020` for the rest.
    """
    check_split(split)
    return _checked(read_isic(root, 2018, split), root, 2018, allow_missing)


def load_isic2019(root: str | os.PathLike[str], split: str, *, allow_missing: bool = False) -> list[dict[str, Any]]:
    """One split of ISIC 2019 (25,331 and 8,238 images): eight classes; those of the test set called UNK are left out.

    The folder holds, unpacked, ``ISIC_2019_PART_GroundTruth.csv``, ``ISIC_2019_PART_Input`` and
    ``ISIC_2019_PART_Metadata.csv`` (PART is Training or Test). A tenth of the training images, by a hash of the lesion
    (of the image, where it is not known), is for validation. See `load_isic2020` for the rest.
    """
    check_split(split)
    items = read_isic(root, 2019, "test" if split == "test" else "train")
    if split != "test":
        held = split == "validation"
        items = [item for item in items if (split_by_hash(_group(item)) == "validation") == held]
    return _checked(items, root, 2019, allow_missing)


def load_isic2020(root: str | os.PathLike[str], split: str, *, allow_missing: bool = False) -> list[dict[str, Any]]:
    """One split of ISIC 2020 (33,126 images, 584 of them melanomas): benign 0, melanoma 1.

    The folder holds ``ISIC_2020_Training_GroundTruth.csv`` (or ``_v2``, or ``train.csv``) and the images in
    ``ISIC_2020_Training_JPEG/train`` (or ``jpeg/train``). The official test set has no labels: patients are split
    80/10/10 by a hash.

    Args:
        root: the folder.
        split: "train", "validation" or "test".
        allow_missing: whether to go on without images that are named and not there, with a warning that counts them.

    Returns:
        Items ``{"image": path, "label": int, "key": image id, "patient": str, "age": str, "sex": str, "source": where
        the image is from, such as "2019 HAM"}``, sorted by key; patient is a lesion in 2018 and 2019.

    Raises:
        NoSplitError: when the split's table is not there.
        ValueError: naming file and line of a missing table, column or image or of contradictory labels, and where to
            get the data under which terms.
    """
    check_split(split)
    items = [item for item in read_isic(root, 2020, "train") if split_by_hash(_group(item)) == split]
    return _checked(items, root, 2020, allow_missing)


def read_isic(root: str | os.PathLike[str], year: int, part: str) -> list[dict[str, Any]]:
    """All items of one official part of a year, whether or not their images are there.

    Raises:
        ValueError: see `load_isic2020`.
    """
    root = text_path(root, "root")
    name = f"{_NAMES[year, part]}_GroundTruth.csv"
    table = _table(root, year, part)
    if table is None:
        kind = NoSplitError if root.is_dir() and is_isic(root, year) else ValueError
        raise kind(f"root: expected {name} in {root}, it is missing; ISIC {year} is at {ADDRESS}#{year} ({TERMS})")
    files = _files(root, year, part)
    known = _people(root, year, part)
    items = []
    for row, label in _labels(table, year):
        key = row["image_name" if year == 2020 else "image"]
        person = known.get(key, {"patient": "", "age": "", "sex": ""}) if year < 2020 else _person_2020(row)
        file = files.get(key, table.parent / f"{key}.jpg")
        # Of 2019 the lesion names the collection: HAM_0000550, BCN_0003884, MSK4_0011169.
        collection = person["patient"].split("_")[0].rstrip("0123456789") or "unknown"
        source = f"2019 {collection}" if year == 2019 else f"{year}"
        items.append({"image": str(file), "label": label, "key": key, **person, "source": source})
    if not items:
        raise ValueError(f"{table}: expected one row an image, got none")
    return sorted(items, key=lambda item: str(item["key"]))


def _table(root: Path, year: int, part: str) -> Path | None:
    """The table of labels: in the folder, or in a folder of its own name."""
    name = _NAMES[year, part] + "_GroundTruth"
    places = [root / f"{name}.csv", root / name / f"{name}.csv"]
    if year == 2020:
        places = [*(root / each for each in _TABLES_2020), root / "train.csv"]
    found = next((place for place in places if place.is_file()), None)
    if found is not None and found.name == "train.csv":
        with found.open(encoding="utf-8", errors="replace") as file:
            header = file.readline(10_000)
        return found if "benign_malignant" in header and "image_name" in header else None
    return found


def _files(root: Path, year: int, part: str) -> dict[str, Path]:
    """Image id -> file, in whichever folder the images lie."""
    name = _NAMES[year, part]
    places = [root / each for each in _IMAGES_2020]
    if year < 2020:
        places = [root / f"{name}_Input" / f"{name}_Input", root / f"{name}_Input"]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        return {}
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if _is_picture(entry.name))
    return {os.path.splitext(each)[0]: folder / each for each in names}


def _is_picture(name: str) -> bool:
    """Whether a name ends as pictures do, without a look into the file: there may be tens of thousands."""
    return name.lower().endswith((".jpg", ".jpeg", ".png"))


def _labels(table: Path, year: int) -> Iterator[tuple[Row, int]]:
    if year == 2020:
        for row in each_once(read_rows(table, ("image_name", "target"), delimiter=","), "image_name"):
            yield row, row.one_of("target", {"0": 0, "1": 1})
        return
    classes = CLASSES[year]
    for row in each_once(read_rows(table, ("image", *classes), delimiter=","), "image"):
        flags = [row.number(name) for name in classes]
        unknown = row.get("UNK") not in ("", "0", "0.0")
        if set(flags) - {0.0, 1.0} or sum(flags) + unknown != 1:
            said = f"expected one of {', '.join(classes)} to be 1.0, the others 0.0"
            raise ValueError(f"{row.where}: {said}, got {flags}")
        if not unknown:
            yield row, flags.index(1.0)


def _people(root: Path, year: int, part: str) -> dict[str, dict[str, str]]:
    """Lesion, age and sex of each image, as far as a table tells them."""
    name = _NAMES[year, part]
    file = f"{name}_LesionGroupings.csv" if year == 2018 else f"{name}_Metadata.csv"
    table = next((place for place in (root / file, root / f"{name}_GroundTruth" / file) if place.is_file()), None)
    if table is None or year == 2020:
        return {}
    return {
        row["image"]: {"patient": row.get("lesion_id"), "age": row.get("age_approx"), "sex": row.get("sex")}
        for row in read_rows(table, ("image",), delimiter=",")
    }


def _person_2020(row: Row) -> dict[str, str]:
    return {"patient": row.get("patient_id"), "age": row.get("age_approx"), "sex": row.get("sex")}


def _group(item: dict[str, Any]) -> str:
    return str(item["patient"] or item["key"])


def _checked(items: list[dict[str, Any]], root: str | os.PathLike[str], year: int, allow: bool) -> list[dict[str, Any]]:
    if not items:
        raise ValueError(f"split: expected images in {os.fspath(root)}, got none")
    source = f"ISIC {year} is at {ADDRESS}#{year} ({TERMS})"
    return present_images(items, where=f"ISIC {year}", source=source, allow=allow)
