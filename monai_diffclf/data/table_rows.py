# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Rows of tables: read with their place, and checked field by field."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

__all__ = ["check_columns", "check_filled", "one_of", "read_rows"]

_Value = TypeVar("_Value")


def read_rows(table: Path, columns: Sequence[str], *, delimiter: str = ",") -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV table, each with its place for messages (``"FILE, line N"``), all texts stripped.

    Args:
        table: the file, with a header.
        columns: the columns that must be there.
        delimiter: what separates the columns.

    Raises:
        ValueError: naming the file on a missing column.
    """
    # Notes in other encodings are replaced rather than refused: none of the columns that are read has any.
    with open(table, newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        check_columns(table, [str(name).strip() for name in reader.fieldnames or []], columns)
        for row in reader:
            texts = {name.strip(): (text or "").strip() for name, text in row.items() if isinstance(name, str)}
            yield f"{table}, line {reader.line_num}", texts


def check_columns(table: Path, found: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse a table that lacks a column."""
    missing = [name for name in columns if name not in found]
    if missing:
        raise ValueError(
            f"{table}: expected the columns {list(columns)}, but {missing} is missing from {list(found)}; "
            "use the table as it is distributed"
        )


def check_filled(row: Mapping[str, str], columns: Sequence[str], where: str) -> None:
    """Refuse a row in which one of some fields is empty."""
    for name in columns:
        if not row[name]:
            raise ValueError(f"{where}: expected a text in {name!r}, it is empty")


def one_of(row: Mapping[str, str], column: str, values: Mapping[str, _Value], where: str, hint: str = "") -> _Value:
    """What a field stands for.

    Example:
        >>> one_of({"view": "CC"}, "view", {"CC": "CC", "MLO": "MLO"}, "table.csv, line 2")
        'CC'
        >>> one_of({"view": "XCC"}, "view", {"CC": "CC", "MLO": "MLO"}, "table.csv, line 2", "; leave the row out")
        Traceback (most recent call last):
        ValueError: table.csv, line 2: expected 'view' to be one of CC, MLO, got 'XCC'; leave the row out
    """
    if row[column] not in values:
        raise ValueError(f"{where}: expected {column!r} to be one of {', '.join(values)}, got {row[column]!r}{hint}")
    return values[row[column]]
