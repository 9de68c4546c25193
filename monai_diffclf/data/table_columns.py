# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which column of a user's table holds the images, labels, splits and patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._text_path import text_of

__all__ = ["LABEL_TYPES", "Columns", "find_columns"]

LABEL_TYPES = ("name", "index")
_IMAGE = ("image", "file", "filename", "path", "filepath", "imagepath", "imagefile", "imagefilename", "imagename")
_LABEL = ("label", "labelindex", "labelname")
_SPLIT = ("split", "set", "subset", "partition")
_PATIENT = ("patient", "patientid", "patientname", "patientnumber", "subject", "subjectid")


@dataclass(frozen=True)
class Columns:
    """Columns of a table.

    Args:
        image: paths of the images.
        label: classes.
        split: splits; None where a hash makes them.
        patient: patients; None where the table has none.
        by_index: whether the label is the place of a class in the list of classes, and not its name.
    """

    image: str
    label: str
    split: str | None
    patient: str | None
    by_index: bool


def find_columns(
    table: Path,
    header: Sequence[str],
    *,
    image: Any = None,
    label: Any = None,
    split: Any = "split",
    patient: Any = None,
    label_type: Any = None,
) -> Columns:
    """The columns that are named, or else those with a common name; case, spaces, ``-`` and ``_`` do not matter.

    Args:
        table: the file, for messages.
        header: its columns.
        image: column of the images, None for image, file, filename, path, image_path and the like.
        label: column of the classes, None for label, label_name or label_index.
        split: column of the splits, "split" for split, set, subset or partition; "hash" (or None,
            which MONAI's command line does not hand on) for none.
        patient: column of the patients, None for patient, patient_id, subject and the like, which may be absent.
        label_type: "name" or "index"; None takes a column whose name ends in "index" as indices, others as names.

    Raises:
        TypeError: when a name is no text.
        ValueError: when a column is absent, or two could be meant.

    Example:
        >>> find_columns(Path("t.csv"), ["File", "label_index", "split"])
        Columns(image='File', label='label_index', split='split', patient=None, by_index=True)
    """
    if label_type not in (None, *LABEL_TYPES):
        raise ValueError(f"label_type: expected 'name', 'index' or None, got {label_type!r}")
    label_column = _find(table, header, "label_column", label, _LABEL)
    split_column = None
    if split not in (None, "hash"):
        split_column = _find(table, header, "split_column", None if split == "split" else split, _SPLIT)
    return Columns(
        image=_find(table, header, "image_column", image, _IMAGE),
        label=label_column,
        split=split_column,
        patient=_find_optional(table, header, patient),
        by_index=_plain(label_column).endswith("index") if label_type is None else label_type == "index",
    )


def _find(table: Path, header: Sequence[str], option: str, given: Any, names: Sequence[str]) -> str:
    if given is not None:
        return _named(table, header, option, text_of(given, option))
    found = [column for column in header if _plain(column) in names]
    if len(found) == 1:
        return found[0]
    what = option.removesuffix("_column")
    if found:
        raise ValueError(
            f"{table}: expected one column for the {what}, got {found}; name the one that is meant: "
            f"--{option} {found[0]}"
        )
    choices = ", or split by a hash: --split_column hash" if what == "split" else ""
    raise ValueError(
        f"{table}: expected a column of each {what} in the first line, but {[names[0]]} is missing from "
        f"{list(header)}; name the column with --{option}{choices} (or is the line of names missing?)"
    )


def _find_optional(table: Path, header: Sequence[str], given: Any) -> str | None:
    if given is None and not any(_plain(column) in _PATIENT for column in header):
        return None
    return _find(table, header, "patient_column", given, _PATIENT)


def _named(table: Path, header: Sequence[str], option: str, name: str) -> str:
    """The column that a user named: as written, or else in other case."""
    if name in header:
        return name
    found = [column for column in header if _plain(column) == _plain(name)]
    if len(found) == 1:
        return found[0]
    problem = f"could be any of {found}" if found else f"{[name]} is missing from {list(header)}"
    raise ValueError(f"{table}: {option}: expected a column of the first line, but {problem}")


def _plain(column: str) -> str:
    return "".join(c for c in column.casefold() if c not in " _-.\t")
