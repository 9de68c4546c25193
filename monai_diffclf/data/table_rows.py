# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Rows of tables: the one place where they are read, with their place in the file for messages."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

__all__ = ["Row", "check_columns", "each_once", "read_rows"]

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Row:
    """One row of a table; ``row[column]`` is a field's text without the white space around it.

    Args:
        table: the file.
        line: number of the row's first line; the header is line 1.
        fields: column to text as it stands in the file.

    Example:
        >>> row = Row(Path("table.csv"), 2, {"image": "a.png ", "view": "CC", "age": "61"})
        >>> row["image"], row.one_of("view", {"CC": 0, "MLO": 1}), row.number("age")
        ('a.png', 0, 61.0)
        >>> row.one_of("view", {"L": 0, "R": 1}, "; leave the row out")
        Traceback (most recent call last):
        ValueError: table.csv, line 2: expected 'view' to be one of L, R, got 'CC'; leave the row out
    """

    table: Path
    line: int
    fields: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.fields[column].strip()

    def get(self, column: str, default: str = "") -> str:
        """The text of a column that the table may lack."""
        return self[column] if column in self.fields else default

    @property
    def where(self) -> str:
        """The row's place, for messages: ``"FILE, line N"``."""
        return f"{self.table}, line {self.line}"

    def text(self, column: str) -> str:
        """The text of a field that must not be empty.

        Raises:
            ValueError: when it is.
        """
        if not self[column]:
            raise ValueError(f"{self.where}: expected a text in {column!r}, it is empty")
        return self[column]

    def number(self, column: str) -> float:
        """The number in a field.

        Raises:
            ValueError: when it holds none.
        """
        return self._parse(column, float, "a number")

    def integer(self, column: str) -> int:
        """The whole number in a field.

        Raises:
            ValueError: when it holds none.
        """
        return self._parse(column, int, "a whole number")

    def _parse(self, column: str, parse: Callable[[str], _Value], what: str) -> _Value:
        try:
            return parse(self[column])
        except ValueError:
            raise ValueError(f"{self.where}: expected {what} in {column!r}, got {self[column]!r}") from None

    def one_of(self, column: str, values: Mapping[str, _Value], hint: str = "") -> _Value:
        """What a field stands for.

        Args:
            column: the field's column.
            values: text to what it stands for.
            hint: what to do about another text, for the end of the message.

        Raises:
            ValueError: when the field holds another text.
        """
        if self[column] not in values:
            raise ValueError(
                f"{self.where}: expected {column!r} to be one of {', '.join(values)}, got {self[column]!r}{hint}"
            )
        return values[self[column]]


def read_rows(
    table: str | os.PathLike[str], columns: Sequence[str], *, delimiter: str = ",", notes: bool = False
) -> Iterator[Row]:
    r"""The rows of a CSV table with a header, in UTF-8 (with or without the mark that Excel puts first).

    Empty lines are left out.

    Args:
        table: the file.
        columns: the columns that must be there; there may be others.
        delimiter: what separates the fields.
        notes: whether there may be notes among the rows: lines with fewer or more fields, or in another encoding. They
            are rows as others, with the columns that are missing empty.

    Raises:
        ValueError: naming the file, and the line where there is one, when it cannot be read, lacks the header or a
            column, has a column twice, or a row has other fields than the header.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = Path(folder, "table.csv")
        ...     _ = table.write_text("image,label\na.png,0\nb.png,1\n")
        ...     [(row.line, row["image"], row.number("label")) for row in read_rows(table, ["image", "label"])]
        [(2, 'a.png', 0.0), (3, 'b.png', 1.0)]
    """
    path, line = Path(table), 1
    with open(path, newline="", encoding="utf-8-sig", errors="replace" if notes else "strict") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=not notes)
        try:
            header = [name.strip() for name in next(reader, [])]
            check_columns(path, header, columns)
            line = reader.line_num + 1
            for fields in reader:
                if fields:
                    if len(fields) != len(header) and not notes:
                        raise ValueError(
                            f"{path}, line {line}: expected {len(header)} fields, as many as the header has, got "
                            f"{len(fields)}; texts with {delimiter!r} or a line break in them need quotes"
                        )
                    filled = fields + [""] * (len(header) - len(fields))
                    yield Row(path, line, dict(zip(header, filled, strict=False)))
                line = reader.line_num + 1
        except csv.Error as error:
            raise ValueError(f"{path}, line {line}: expected a row of a CSV table: {error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: expected a table in UTF-8: {error}; save it as such") from error


def each_once(rows: Iterable[Row], column: str) -> Iterator[Row]:
    """Rows of a table that has one row an image.

    Args:
        rows: the rows.
        column: what tells the images apart.

    Raises:
        ValueError: naming the place of an image's second row.
    """
    seen: set[str] = set()
    for row in rows:
        if row[column] in seen:
            raise ValueError(
                f"{row.where}: expected one row an image, got a second one with the {column!r} {row[column]}"
            )
        seen.add(row[column])
        yield row


def check_columns(table: Path, found: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse a table that lacks a column, or has one twice.

    Raises:
        ValueError: naming the file and the columns.
    """
    if missing := [name for name in columns if name not in found]:
        raise ValueError(
            f"{table}: expected the columns {list(columns)} in the first line, but {missing} is missing from "
            f"{list(found)}"
        )
    if twice := sorted({name for name in columns if found.count(name) > 1}):
        raise ValueError(f"{table}: expected each column once, got {twice} more than once; rename or remove one")
