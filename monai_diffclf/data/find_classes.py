# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The names of the classes of a data set, where nobody has given them."""

from __future__ import annotations

import os
from pathlib import Path

from .._class_names import class_names, plain_text, shown
from .._text import from_csv_text
from .._text_path import text_path
from .datalist import DISTRIBUTED, TABLE, check_there
from .image_folder import class_folders
from .pneumonia_mnist import CLASSES, FILE_NAME
from .table_columns import find_columns
from .table_rows import open_table

__all__ = ["find_classes"]

MOST_CLASSES = 100
_MISSING = {"na", "n/a", "#n/a", "nan", "nat", "null", "<na>"}  # as spreadsheets and pandas write it


def find_classes(
    source: str | os.PathLike[str],
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    label_type: str | None = None,
) -> list[str]:
    """The names of the classes of whatever `monai_diffclf.data.load_datalist` reads.

    Args:
        source: where the images are.
        image_column: tables: see `load_datalist`, as the two below.
        label_column: column of the class.
        label_type: what it holds, "name" or "index".

    Returns:
        the names of class folders, or what the column of the class holds, sorted; of a known data set its own.

    Raises:
        ValueError: when there is nothing of the kind, the labels are numbers that count classes, or there are too many
            different ones.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("train/ill", "train/healthy", "val/ill"):
        ...         (Path(folder) / name).mkdir(parents=True)
        ...     find_classes(folder)
        ['healthy', 'ill']
    """
    path = text_path(source, "source")
    check_there(path, (), None)
    if path.suffix == ".npz" or (path / FILE_NAME).is_file():
        return list(CLASSES)
    for _, fixed, is_it, _ in DISTRIBUTED:
        if is_it(path):
            return list(fixed)
    table = path / TABLE if (path / TABLE).is_file() else path
    if table.is_dir():
        return class_folders(table)
    return _of_table(table, image_column, label_column, label_type)


def _of_table(path: Path, image_column: str | None, label_column: str | None, label_type: str | None) -> list[str]:
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise ValueError(f"source: {path} is a file of an unknown kind; expected a folder of images or a CSV table")
    table = open_table(path, delimiter=None, expected=[name for name in (image_column, label_column) if name])
    columns = find_columns(
        path, table.header, image=image_column, label=label_column, split=None, label_type=label_type
    )
    if columns.by_index:
        raise ValueError(
            f"classes: {path} has the place of each class in {columns.label!r}, and not its name; name the classes in "
            "this order: --classes a,b,c"
        )
    found: dict[str, str] = {}
    for row in table.rows:
        if any(field.strip() for field in row.fields.values()):
            text = from_csv_text(row.text(columns.label))
            if text.strip().casefold() in _MISSING:
                raise ValueError(
                    f"{row.where}: expected a class in {columns.label!r}, got {shown(text)!r}, which stands for a "
                    "missing one; give the image its class or leave it out, or name the classes where it is one: "
                    "--classes a,b,c"
                )
            found.setdefault(plain_text(text), text)
        if len(found) > MOST_CLASSES:
            raise ValueError(
                f"label_column: {path} has more than {MOST_CLASSES} different entries in {columns.label!r} (such as "
                f"{shown(next(iter(found.values())))!r}), which are hardly classes; name the column of the class: "
                "--label-column NAME"
            )
    return class_names(sorted(found.values()))
