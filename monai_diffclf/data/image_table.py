# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A user's own images, listed in a CSV table, as MONAI datalists."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .._class_names import class_names, find_name, shown
from .._patients import known_patient
from .._text import from_csv_text
from .._text_path import text_path
from ..image_io.dicom_volume import holds_dicom
from .image_folder import load_image_folder
from .patients import check_patients, patient_reader
from .splits import SPLITS, NoSplitError, check_split, split_by_hash, split_name
from .table_columns import Columns, find_columns
from .table_rows import Row, open_table

__all__ = ["SPLITS", "check_split", "load_image_folder", "load_image_table", "split_by_hash"]


def load_image_table(
    csv_path: str | os.PathLike[str],
    split: str,
    *,
    classes: Sequence[str],
    image_column: str | None = None,
    label_column: str | None = None,
    label_type: str | None = None,
    split_column: str | None = "split",
    patient_column: str | None = None,
    patient_pattern: str | None = None,
    allow_shared_patients: Sequence[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    volumes: bool = False,
) -> list[dict[str, Any]]:
    r"""One split of the images listed in a CSV table, one row an image.

    The whole table is checked, whichever split is asked for: it must be strict CSV (see
    :func:`monai_diffclf.data.table_rows.read_rows`), have each image once, known splits, and each patient in one split.
    A label is matched by name (case and spaces do not matter), and never by its place unless the table says so: by a
    column called label_index, or `label_type`.

    Args:
        csv_path: the table, with a header.
        split: "train", "validation" or "test".
        classes: class names in the order of their labels.
        image_column: column of the paths, relative to `root` or absolute, with ``/`` or ``\``; None: a column with a
            common name, see :func:`monai_diffclf.data.table_columns.find_columns`, as for the others.
        label_column: column of the class.
        label_type: "name" or "index" (the place in `classes`, from 0); None: indices in a column whose name ends in
            "index", names in others.
        split_column: column with train, validation (or val, valid, dev) or test; "hash" or None splits 80/10/10 by a
            hash of the patient (of the path where there is no patient).
        patient_column: column of the patient; None: one with a common name, if there is one.
        patient_pattern: regular expression with one group that finds the patient in a path, instead of a column.
        allow_shared_patients: names of splits that may share patients, see `check_patients`.
        root: folder of the images; None means the folder of the table. Paths may lead out of it.
        volumes: whether images are volumes: then a path may be that of a folder of DICOM slices.

    Returns:
        Items ``{"image": path, "label": int, "key": path as in the table, "patient": str or ""}``, in its order.

    Raises:
        TypeError: when a path or name is no text.
        ValueError: naming the row (the header is line 1) of an unknown split or label, of a missing file, or of an
            image that is listed twice; on a missing column, a patient in two splits, or a split without rows.

    Warns:
        UserWarning: when the table is not in Unicode, naming the encoding that was taken.
    """
    check_split(split)
    names = class_names(classes)
    path = text_path(csv_path, "csv_path")
    if not path.is_file():
        raise ValueError(f"csv_path: expected a CSV table, but {path} does not exist")
    folder = path.parent if root is None else text_path(root, "root")
    wanted = [column for column in (image_column, label_column, patient_column) if isinstance(column, str)]
    table = open_table(path, delimiter=None, expected=wanted)
    columns = find_columns(
        path,
        table.header,
        image=image_column,
        label=label_column,
        split=split_column,
        patient=patient_column,
        label_type=label_type,
    )
    read_patient = _patient_reader(columns, patient_pattern)
    rows = [row for row in table.rows if any(field.strip() for field in row.fields.values())]
    _check_images_once(rows, columns, folder)
    found: dict[str, dict[str, str]] = {name: {} for name in SPLITS}
    items = []
    for row in rows:
        key = row.text(columns.image)
        patient = read_patient(row)
        where = _split_of_row(row, columns.split, patient or key)
        if patient:
            found[where].setdefault(patient, f"line {row.line}")
        if where == split:
            items.append((row, key, patient))
    check_patients(found, allow_shared_patients, where=str(path))
    if not items:
        state = "" if rows else ": it holds a header alone"
        raise NoSplitError(f"split: {path} has no row for the split {split!r}{state}")
    labels = [_label(row, columns, names) for row, *_ in items]
    return [
        {"image": str(_file(row, key, folder, volumes)), "label": label, "key": key, "patient": patient}
        for (row, key, patient), label in zip(items, labels, strict=True)
    ]


def _patient_reader(columns: Columns, pattern: str | None) -> Callable[[Row], str]:
    if pattern is None:
        column = columns.patient
        return (lambda row: "") if column is None else (lambda row: known_patient(row.unmarked(column)))
    if columns.patient is not None:
        raise ValueError(
            f"patient_pattern: the table has a column of patients, {columns.patient!r}; leave the pattern out, or "
            "rename the column"
        )
    read = patient_reader(pattern)

    def from_key(row: Row) -> str:
        try:
            return read(row.text(columns.image))
        except ValueError as error:
            raise ValueError(f"{row.where}: {error}") from None

    return from_key


def _split_of_row(row: Row, column: str | None, name: str) -> str:
    if column is None:
        return split_by_hash(name)
    split = split_name(row[column])
    if split is None:
        raise ValueError(
            f"{row.where}: expected the split {', '.join(SPLITS)}, got {shown(row[column])!r} in {column!r}"
        )
    return split


def _label(row: Row, columns: Columns, classes: list[str]) -> int:
    text, column = row[columns.label], columns.label
    if columns.by_index:
        if text.isascii() and text.isdecimal() and int(text) < len(classes):
            return int(text)
        raise ValueError(
            f"{row.where}: unknown label {shown(text)!r} in {column!r}; expected an index below {len(classes)}, the "
            f"place in {classes} counted from 0; for names give --label_type name"
        )
    label = find_name(text, classes) if text else None
    if label is None and row.unmarked(column) != text:
        label = find_name(row.unmarked(column), classes)
    if label is None:
        hint = "; if the table has other classes, name all of them with --classes" if text else ""
        if text.isascii() and text.isdecimal():
            numbered = ", ".join(f"{n} for {name!r}" for n, name in enumerate(classes[:3]))
            hint = f"; if it is a place in this list ({numbered}{', ...' if len(classes) > 3 else ''}), say so: "
            hint += "--label_type index, or call the column label_index"
        raise ValueError(f"{row.where}: unknown label {shown(text)!r} in {column!r}; expected one of {classes}{hint}")
    return label


def _check_images_once(rows: Sequence[Row], columns: Columns, folder: Path) -> None:
    """Refuse an image that is listed twice, and rows that a quote left open has swallowed."""
    first: dict[str, Row] = {}
    for row in rows:
        key = row.text(columns.image)
        for name, value in row.fields.items():
            if "\n" in value or "\r" in value:
                _check_swallowed(row, name, value, folder)
        place = os.path.normpath(unicodedata.normalize("NFC", str(folder / key.replace("\\", "/"))))
        other = first.setdefault(place, row)
        if other is row:
            continue
        differ = [name for name in row.fields if name != columns.image and row[name] != other[name]]
        what = "the same row" if not differ else f"another {', '.join(map(repr, differ))}"
        if columns.label in differ:
            what = f"two labels, {shown(other[columns.label])!r} and {shown(row[columns.label])!r} in {columns.label!r}"
        raise ValueError(
            f"{row.where}: expected each image once in {columns.image!r}, got {shown(key)!r} again, in line "
            f"{other.line} already, with {what}; remove one of the rows"
        )


def _check_swallowed(row: Row, column: str, value: str, folder: Path) -> None:
    for line in value.splitlines()[1:]:
        for part in re.split(r"[,;\t|]", line):
            if part.strip() and (folder / part.strip()).is_file():
                raise ValueError(
                    f"{row.where}: expected a text in {column!r}, got one with a line break and another row, that of "
                    f"{shown(part.strip())!r}, in it; close the quote before it"
                )


def _file(row: Row, key: str, folder: Path, volumes: bool) -> Path:
    """The image that a row names: as it stands, else with ``/`` for a backslash or with letters composed otherwise."""
    slashed = key.replace("\\", "/")
    forms = [key, slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD")), from_csv_text(key)]
    for form in forms:
        if "\0" not in form and ((folder / form).is_file() or (volumes and holds_dicom(folder / form))):
            return folder / form
    path, what = folder / key, "a volume" if volumes else "an image file"
    problem = "is a link to nothing" if path.is_symlink() else f"does not exist{_near(folder / slashed)}"
    if path.is_dir():
        problem = "is a folder without DICOM files" if volumes else "is a folder"
    raise ValueError(f"{row.where}: expected {what}, but {shown(path, 300)} {problem}")


def _near(path: Path) -> str:
    """Of a file that is not there: one whose name differs in case or suffix only."""
    if not path.parent.is_dir():
        return f"; there is no folder {shown(path.parent, 200)}"
    wanted = unicodedata.normalize("NFC", path.name).casefold()
    for file in sorted(path.parent.iterdir()):
        name = unicodedata.normalize("NFC", file.name).casefold()
        if name == wanted or os.path.splitext(name)[0] == wanted:
            return f"; there is {shown(file.name)!r}: write it so"
    return ""
