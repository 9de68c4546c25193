# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""NIH ChestX-ray14 as it is distributed, as MONAI datalists: its 14 labels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._text_path import text_path
from .finding_labels import chosen_findings, warn_of_missing_findings
from .missing_images import present_images
from .splits import NoSplitError, check_split, split_by_hash
from .table_rows import Row, each_once, read_rows

__all__ = ["ADDRESS", "FINDINGS", "TERMS", "is_nih_chest_xray14", "load_nih_chest_xray14"]

FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"),
    *("Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
)
"""The 14 labels, in the order of the paper."""
ADDRESS = "https://nihcc.app.box.com/v/ChestXray-NIHCC"
TERMS = (
    "NIH Clinical Center: free to use, with a link to the download site, the paper (Wang et al., CVPR 2017, "
    "arXiv:1705.02315) and the NIH Clinical Center named"
)

_TABLES = "Data_Entry_2017*.csv"
_LISTS = {"train": "train_val_list.txt", "validation": "train_val_list.txt", "test": "test_list.txt"}
_FOLDERS = ("images", "images_*/images", "images_*")
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
_NONE = "No Finding"


def is_nih_chest_xray14(root: str | os.PathLike[str]) -> bool:
    """Whether a folder holds ``Data_Entry_2017*.csv`` and the official lists of images."""
    folder = Path(root)
    return folder.is_dir() and any(folder.glob(_TABLES)) and any((folder / name).is_file() for name in _LISTS.values())


def load_nih_chest_xray14(
    root: str | os.PathLike[str],
    split: str,
    *,
    findings: Sequence[str] | None = None,
    allow_missing: bool = False,
) -> list[dict[str, Any]]:
    """One split of NIH ChestX-ray14 (Wang et al. 2017; 112,120 frontal films of 30,805 patients) with its 14 labels.

    The folder holds ``Data_Entry_2017.csv`` (or ``Data_Entry_2017_v2020.csv``), ``train_val_list.txt``,
    ``test_list.txt`` and the films, in ``images_001/images`` to ``images_012/images``, in ``images_001`` to
    ``images_012``, or in ``images``. The official lists share no patient; a tenth of the patients of
    ``train_val_list.txt``, by hash, is for validation. All labels are read from reports by a program, those of the test
    set too; a finding that is not named counts as absent.

    Args:
        root: the folder.
        split: "train", "validation" or "test".
        findings: names of labels, in the order wanted; None for all 14 in the order of the paper.
        allow_missing: whether to go on without the images that are named and not there, with a warning that counts
            them.

    Returns:
        Items ``{"image": path, "label": int64 array [L], "key": "00000001_000.png", "patient": "1", "sex": "m", "age":
        "58", "view": "PA"}``, sorted by key; in labels 0 is absent, 1 present.

    Raises:
        NoSplitError: when the list of the split is not there.
        ValueError: naming file, line and column of what is missing or unknown, images of a list without a row (counted,
            the first ones listed), the images that are not there, a patient in both lists, findings that no training
            film shows, and where to get the data under which terms. A finding that validation or test films never
            show is a warning, and so are rows that neither list names.
    """
    check_split(split)
    names = chosen_findings(findings, FINDINGS)
    folder = text_path(root, "root")
    table = _find_table(folder)
    listed = {name: _read_list(folder / name) for name in dict.fromkeys(_LISTS.values()) if (folder / name).is_file()}
    wanted = _LISTS[split]
    if wanted not in listed:
        raise NoSplitError(f"split: expected {wanted} in {folder}, it is missing; it is at {ADDRESS} ({TERMS})")
    patients, items = _read_table(table, frozenset(listed[wanted]), names, _files(folder))
    _check_lists(table, patients, listed)
    if split != "test":
        held = {name for name in set(patients.values()) if split_by_hash(f"patient{name}") == "validation"}
        items = [item for item in items if (item["patient"] in held) == (split == "validation")]
    if not items:
        raise ValueError(f"split: expected films for {split!r} in {folder / wanted}, got none")
    items = present_images(
        items, where=folder / wanted, source=f"NIH ChestX-ray14 is at {ADDRESS} ({TERMS})", allow=allow_missing
    )
    labels = np.array([item["label"] for item in items], dtype=np.int64)
    warn_of_missing_findings(labels, split, names, str(folder / wanted))
    for item, label in zip(items, labels, strict=True):
        item["label"] = label
    return sorted(items, key=lambda item: str(item["key"]))


def _find_table(folder: Path) -> Path:
    tables = sorted(folder.glob(_TABLES)) if folder.is_dir() else []
    if not tables:
        raise ValueError(
            f"root: expected {_TABLES} of NIH ChestX-ray14 in {folder}, it is missing; the data set is at {ADDRESS} "
            f"({TERMS})"
        )
    if len(tables) > 1:
        raise ValueError(
            f"root: expected one table {_TABLES} in {folder}, got {', '.join(path.name for path in tables)}; move the "
            "others away"
        )
    return tables[0]


def _read_list(path: Path) -> list[str]:
    return [name for name in (line.strip() for line in path.read_text(encoding="utf-8").splitlines()) if name]


def _read_table(
    table: Path, wanted: frozenset[str], findings: Sequence[str], files: dict[str, str]
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The patient of every image, and the items of those that are wanted."""
    patients: dict[str, str] = {}
    items = []
    labels: dict[str, list[int]] = {}  # few texts, many films
    for row in each_once(read_rows(table, _COLUMNS, delimiter=","), "Image Index"):
        name, said = row["Image Index"], row["Finding Labels"]
        patients[name] = row.text("Patient ID")
        if said not in labels:
            labels[said] = _label(row, said.split("|"), findings)
        if name in wanted:
            items.append(_item(row, name, patients[name], labels[said], files))
    return patients, items


def _check_lists(table: Path, patients: dict[str, str], listed: dict[str, list[str]]) -> None:
    """Refuse images without a row and patients in both lists; warn of rows in neither."""
    found: list[set[str]] = []
    for name, images in listed.items():
        if gone := [image for image in images if image not in patients]:
            raise ValueError(
                f"{table}: expected a row for every image of {name}, got none for {len(gone)} of {len(images)}: "
                f"{_some(gone)}; are table and lists of one version?"
            )
        found.append({patients[image] for image in images})
    if shared := sorted(set.intersection(*found)) if len(found) > 1 else []:
        raise ValueError(
            f"{table}: expected no patient in both lists, got {len(shared)}: {_some(shared)}; use the official lists"
        )
    if len(found) > 1 and (left := patients.keys() - set().union(*listed.values())):
        warnings.warn(
            f"{table}: {len(left)} of {len(patients)} images are in neither list and left out: {_some(sorted(left))}",
            stacklevel=3,
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _files(folder: Path) -> dict[str, str]:
    """Name of each film to where it lies, by reading each folder once."""
    return dict(_entries(path for pattern in _FOLDERS for path in sorted(folder.glob(pattern)) if path.is_dir()))


def _entries(folders: Iterator[Path]) -> Iterator[tuple[str, str]]:
    for folder in folders:
        with os.scandir(folder) as entries:
            yield from ((entry.name, entry.path) for entry in entries if entry.name.endswith(".png"))


def _label(row: Row, said: Sequence[str], findings: Sequence[str]) -> list[int]:
    if unknown := [each for each in said if each != _NONE and each not in FINDINGS]:
        raise ValueError(
            f"{row.where}: expected 'Finding Labels' to name some of {', '.join(FINDINGS)}, separated by |, or "
            f"{_NONE!r}, got {unknown[0]!r}"
        )
    return [int(finding in said) for finding in findings]


def _item(row: Row, name: str, patient: str, label: list[int], files: dict[str, str]) -> dict[str, Any]:
    return {
        "image": files.get(name) or os.path.join(row.table.parent, "images", name),
        "label": label,
        "key": name,
        "patient": patient,
        "sex": (row.get("Patient Gender") or row.get("Patient Sex")).lower(),
        "age": row.get("Patient Age").removesuffix("Y").lstrip("0"),  # 058Y in the first version, 58 in the second
        "view": row.get("View Position"),
    }
