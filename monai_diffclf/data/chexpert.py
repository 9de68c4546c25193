# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""CheXpert (chest X-rays), v1.0 or small, as it is distributed, as MONAI datalists: pleural effusion or none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._text_path import text_path
from .chexpert_files import (
    ADDRESS,
    TERMS,
    find_table,
    official_test_films,
    parts_folders,
    path_parts,
    place,
    sex,
    within,
)
from .missing_images import present_images
from .splits import check_split, chosen, in_order, split_by_hash
from .table_rows import Row, each_once, read_rows

__all__ = ["ADDRESS", "CLASSES", "PROTOCOLS", "TERMS", "is_chexpert", "load_chexpert"]

CLASSES = ("no_effusion", "pleural_effusion")
PROTOCOLS = ("balanced", "natural")
_EFFUSION, _NONE = "Pleural Effusion", "No Finding"
_VALUES = {"": 0.0, "0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0, "-1": -1.0, "-1.0": -1.0}
_COLUMNS = ("Path", "Sex", "Age", _NONE, _EFFUSION)


def is_chexpert(root: str | os.PathLike[str]) -> bool:
    """Whether a folder, or one in it called CheXpert..., holds ``train.csv`` with CheXpert's columns."""
    table = find_table(Path(root))
    if table is None:
        return False
    with table.open(encoding="utf-8", errors="replace") as file:
        header = [name.strip().strip('"') for name in file.readline(10_000).split(",")]
    return set(_COLUMNS) <= set(header)


def load_chexpert(
    root: str | os.PathLike[str],
    split: str,
    *,
    protocol: str = "balanced",
    allow_missing: bool = False,
) -> list[dict[str, Any]]:
    """One split of CheXpert (Irvin et al. 2019): no pleural effusion 0, pleural effusion 1; one film a patient.

    The folder is that of the distribution, ``CheXpert-v1.0`` or ``CheXpert-v1.0-small``, with ``train.csv``, or the
    folder that holds it; the parts of v1.0 ("CheXpert-v1.0 batch 2 (train 1)") may lie beside one another.

    - ``"balanced"`` is the task of Favero et al. (2025): from ``train.csv`` the films ``study1/view1_frontal``, blank
      labels taken as 0; those with an uncertain (-1) label of effusion or no finding are dropped, and so are those of
      which not exactly one of the two holds; the larger class is thinned out, the rest shuffled (numpy's RandomState,
      seed 42) and split 80/10/10. On v1.0 16,324, 2,040 and 2,040 films. Prevalence is one half, and films with other
      findings are missing: scores on it say little about a clinic.
    - ``"natural"``: such films at their natural prevalence, other findings included, uncertain effusions dropped; a
      tenth of the patients, by hash, is for validation. Test is the official test set, labelled by radiologists: all
      its frontal films, from the folder ``test`` with ``test_labels.csv`` (or ``groundtruth.csv``) as CheXlocalize and
      the labels' repository distribute them.

    Args:
        root: the folder.
        split: "train", "validation" or "test".
        protocol: "balanced" or "natural".
        allow_missing: whether to go on without the images that are named and not there, with a warning that counts
            them.

    Returns:
        Items ``{"image": path, "label": int, "key": "patient00001/study1/view1_frontal.jpg", "patient":
        "patient00001", "sex": str, "age": str}``, sorted by key.

    Raises:
        NoSplitError: when the official test set is asked for and not there.
        ValueError: naming file, line and column of what is missing or unknown, the images that are not there (counted,
            the first ones listed), and where to get the data under which terms.
    """
    check_split(split)
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    root = text_path(root, "root")
    table = find_table(root)
    if table is None:
        raise ValueError(
            f"root: expected train.csv of CheXpert in {root}, it is missing; CheXpert is at {ADDRESS} ({TERMS})"
        )
    if protocol == "balanced":
        items = _balanced(table)[split]
    elif split == "test":
        items = _official_test(root, table.parent)
    else:
        held = split == "validation"
        items = [item for item in _natural(table) if (split_by_hash(item["patient"]) == "validation") == held]
    if not items:
        raise ValueError(f"split: expected films for {split!r} in {table}, got none")
    parts = parts_folders(table)
    for item in items:
        item["image"] = place(table.parent, parts, item.pop("path"))
    items = present_images(items, where=table, source=f"CheXpert is at {ADDRESS} ({TERMS})", allow=allow_missing)
    return sorted(items, key=lambda item: str(item["key"]))


def _films(table: Path) -> Iterator[tuple[Row, str, str]]:
    """Rows of the films ``study1/view1_frontal``, with their patient and place in the data set."""
    for row in each_once(read_rows(table, _COLUMNS, delimiter=","), "Path"):
        patient, study, view, key = path_parts(row, "Path")
        if study == "study1" and view.startswith("view1_frontal"):
            yield row, patient, key


def _item(row: Row, patient: str, key: str, label: int) -> dict[str, Any]:
    return {
        "path": within(row["Path"]),
        "label": label,
        "key": key,
        "patient": patient,
        "sex": sex(row),
        "age": row.get("Age"),
    }


def _balanced(table: Path) -> dict[str, list[dict[str, Any]]]:
    """The three splits of Favero et al. (2025)."""
    by_label: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for row, patient, key in _films(table):
        effusion, none = row.one_of(_EFFUSION, _VALUES), row.one_of(_NONE, _VALUES)
        if -1 not in (effusion, none) and (effusion == 1) != (none == 1):
            by_label[int(effusion)].append(_item(row, patient, key, int(effusion)))
    count = min(map(len, by_label))
    if count < 5:
        raise ValueError(f"{table}: expected at least 5 films of each class, got {[len(each) for each in by_label]}")
    kept = [item for items in by_label for item in chosen(items, count)]
    return in_order(chosen(kept, len(kept)))


def _natural(table: Path) -> Iterator[dict[str, Any]]:
    for row, patient, key in _films(table):
        effusion = row.one_of(_EFFUSION, _VALUES)
        if effusion != -1:
            yield _item(row, patient, key, int(effusion))


def _official_test(root: Path, folder: Path) -> list[dict[str, Any]]:
    """All frontal films of the radiologists' test set."""
    return [
        {
            "path": film.path,
            "label": int(film.row.one_of(_EFFUSION, {"0": 0, "0.0": 0, "1": 1, "1.0": 1})),
            "key": film.key,
            "patient": film.patient,
            "sex": "",
            "age": "",
        }
        for film in official_test_films(root, folder, (_EFFUSION,), ("frontal",))
    ]
