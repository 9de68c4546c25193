# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""CheXpert (chest X-rays), v1.0 or small, as it is distributed, as MONAI datalists: its 14 labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._text_path import text_path
from .chexpert_files import (
    ADDRESS,
    FINDINGS,
    TERMS,
    find_table,
    official_test_films,
    parts_folders,
    path_parts,
    place,
    sex,
    within,
)
from .finding_labels import chosen_findings, finding_labels, policy, warn_of_missing_findings
from .missing_images import present_images
from .splits import NoSplitError, check_split, split_by_hash
from .table_rows import each_once, read_rows

__all__ = ["VALIDATIONS", "VIEWS", "load_chexpert_findings"]

VIEWS = {"frontal": ("frontal",), "lateral": ("lateral",), "all": ("frontal", "lateral")}
VALIDATIONS = ("official", "hash")


def load_chexpert_findings(
    root: str | os.PathLike[str],
    split: str,
    *,
    findings: Sequence[str] | None = None,
    views: str = "frontal",
    uncertain: str = "unknown",
    blank: str = "zeros",
    validation: str = "official",
    allow_missing: bool = False,
) -> list[dict[str, Any]]:
    """One split of CheXpert (Irvin et al. 2019) with its 14 labels, for one network of several findings.

    The folder is that of :func:`load_chexpert`. Training films come from ``train.csv`` (labels read from reports by a
    program: 1, 0, -1 uncertain, blank not mentioned), those for validation from ``valid.csv`` (234 films of 200
    studies), those of the test set from ``test_labels.csv`` or ``groundtruth.csv`` (500 studies); both of these are
    labelled by radiologists and have neither uncertain nor blank labels.

    Args:
        root: the folder.
        split: "train", "validation" or "test".
        findings: names of labels of CheXpert, in the order wanted; None for all 14 in the order of the tables.
        views: "frontal", "lateral" or "all".
        uncertain: what -1 counts as: "unknown" (U-Ignore of the paper), "zeros", "ones", or "leave_out": films with
            such a label of one of `findings` are left out.
        blank: the same for blank labels; the paper takes them as zeros.
        validation: "official", or "hash": a tenth of the patients of ``train.csv``, by hash, which training then goes
            without; some findings are never there in the official set.
        allow_missing: whether to go on without the images that are named and not there, with a warning that counts
            them.

    Returns:
        Items ``{"image": path, "label": int64 array [L], "key": "patient00001/study1/view1_frontal.jpg", "patient":
        "patient00001", "sex": str, "age": str}``, sorted by key; in labels 0 is absent, 1 present, 2 unknown.

    Raises:
        NoSplitError: when the official validation or test set is asked for and not there.
        ValueError: naming file, line and column of what is missing or unknown, the images that are not there (counted,
            the first ones listed), findings that no training film shows, and where to get the data under which terms.
            A finding that validation or test films never show is a warning.
    """
    check_split(split)
    names = chosen_findings(findings, FINDINGS)
    for value, known, argument in ((views, VIEWS, "views"), (validation, VALIDATIONS, "validation")):
        if value not in known:
            raise ValueError(f"{argument}: expected one of {', '.join(known)}, got {value!r}")
    states = _states(uncertain, blank)
    root = text_path(root, "root")
    table = find_table(root)
    if table is None:
        raise ValueError(
            f"root: expected train.csv of CheXpert in {root}, it is missing; CheXpert is at {ADDRESS} ({TERMS})"
        )
    if split == "test":
        items = list(_test(root, table.parent, names, VIEWS[views]))
    elif split == "validation" and validation == "official":
        table = _official(root)
        items = list(_films(table, names, VIEWS[views], states))
    else:
        items = list(_films(table, names, VIEWS[views], states))
        if validation == "hash":
            held = split == "validation"
            items = [item for item in items if (split_by_hash(item["patient"]) == "validation") == held]
    if not items:
        raise ValueError(
            f"split: expected {views} films for {split!r} in {table}, got none; films with uncertain or blank labels "
            "are left out where that was asked for"
        )
    items = present_images(items, where=table, source=f"CheXpert is at {ADDRESS} ({TERMS})", allow=allow_missing)
    labels = np.array([item["label"] for item in items], dtype=np.int64)
    warn_of_missing_findings(labels, split, names, str(table))
    for item, label in zip(items, labels, strict=True):
        item["label"] = label
    return sorted(items, key=lambda item: str(item["key"]))


def _states(uncertain: str, blank: str) -> dict[str, int | None]:
    said: dict[str, int | None] = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}
    return said | dict.fromkeys(("-1", "-1.0"), policy(uncertain, "uncertain")) | {"": policy(blank, "blank")}


def _official(root: Path) -> Path:
    table = find_table(root, "valid.csv")
    if table is None:
        raise NoSplitError(
            f"split: expected valid.csv, CheXpert's official validation set, in {root}, it is missing; it comes with "
            f"{ADDRESS} ({TERMS}), or give validation='hash' for a tenth of the training patients"
        )
    return table


def _films(
    table: Path, findings: Sequence[str], sides: Sequence[str], states: Mapping[str, int | None]
) -> Iterator[dict[str, Any]]:
    """Films of ``train.csv`` or ``valid.csv``."""
    folder, parts = table.parent, parts_folders(table)
    ends = tuple(f"_{side}" for side in sides)
    for row in each_once(read_rows(table, ("Path", "Sex", "Age", *findings), delimiter=","), "Path"):
        patient, _, view, key = path_parts(row, "Path")
        if not view.partition(".")[0].endswith(ends):
            continue
        label = finding_labels(row, findings, states)
        if None not in label:
            yield {
                "image": place(folder, parts, within(row["Path"])),
                "label": label,
                "key": key,
                "patient": patient,
                "sex": sex(row),
                "age": row["Age"],
            }


def _test(root: Path, folder: Path, findings: Sequence[str], sides: Sequence[str]) -> Iterator[dict[str, Any]]:
    states: dict[str, int | None] = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}
    for film in official_test_films(root, folder, findings, sides):
        label = finding_labels(film.row, findings, states)
        yield {
            "image": film.path,
            "label": label,
            "key": film.key,
            "patient": film.patient,
            "sex": sex(film.row),
            "age": film.row.get("Age"),
        }
