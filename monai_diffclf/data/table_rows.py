# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Rows of tables: the one place where they are read, with their place in the file for messages."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .._text import from_csv_text
from .table_text import find_delimiter, read_text, separator_line

__all__ = ["Row", "Table", "check_columns", "each_once", "open_table", "read_rows"]

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

    def unmarked(self, column: str) -> str:
        """The text of a field without the mark that our tables put before what a spreadsheet would run."""
        return from_csv_text(self[column])

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


@dataclass(frozen=True)
class Table:
    """A table that is being read.

    Args:
        path: the file.
        header: names of its columns.
        rows: its rows, each once.
    """

    path: Path
    header: list[str]
    rows: Iterator[Row]


def read_rows(
    table: str | os.PathLike[str], columns: Sequence[str], *, delimiter: str | None = None, notes: bool = False
) -> Iterator[Row]:
    r"""The rows of a CSV table with a header, in the encodings of :func:`monai_diffclf.data.table_text.read_text`.

    Empty lines are left out, and so is Excel's first line ``sep=;``.

    Args:
        table: the file.
        columns: the columns that must be there; there may be others.
        delimiter: what separates the fields; None finds out (comma, semicolon, tab or bar).
        notes: whether there may be notes among the rows: lines with fewer or more fields, or in another encoding. They
            are rows as others, with the columns that are missing empty.

    Raises:
        ValueError: naming the file, and the line where there is one, when it cannot be read, lacks the header or a
            column, has a column twice, or a row has other fields than the header.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = Path(folder, "table.csv")
        ...     _ = table.write_text("image;label\na.png;0\nb.png;1\n")
        ...     [(row.line, row["image"], row.number("label")) for row in read_rows(table, ["image", "label"])]
        [(2, 'a.png', 0.0), (3, 'b.png', 1.0)]
    """
    yield from open_table(table, columns, delimiter=delimiter, notes=notes).rows


def open_table(
    table: str | os.PathLike[str],
    columns: Sequence[str] = (),
    *,
    delimiter: str | None = None,
    notes: bool = False,
    expected: Sequence[str] = (),
) -> Table:
    """A table with its header, for callers that choose their columns by it; arguments as of :func:`read_rows`.

    Args:
        table: the file.
        columns: the columns that must be there.
        delimiter: what separates the fields; None finds out.
        notes: whether there may be notes among the rows.
        expected: columns that are likely to be there, by which the delimiter is found.

    Raises:
        ValueError: as `read_rows`; what is wrong with a row, when that row is asked for.
    """
    path = Path(table)
    text = read_text(path, notes=notes)
    said, first = separator_line(text), 1
    if said is not None:
        text, first = text.partition("\n")[2], 2
    separator = delimiter or said or find_delimiter(path, text, [*columns, *expected])
    # Lines end as they stand in the file: within quotes they are part of the field.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=not notes)
    line = first
    header: list[str] = []
    try:
        for fields in reader:
            if fields:
                header = [name.strip().removeprefix("\ufeff") for name in fields]
                break
            line = reader.line_num + first
    except csv.Error as error:
        raise ValueError(f"{path}, line {line}: expected a row of a CSV table: {error}") from error
    check_columns(path, header, columns, all_once=not notes)
    return Table(path, header, _rows(path, reader, header, first, separator, notes))


def _rows(
    path: Path, reader: Iterator[list[str]], header: list[str], first: int, separator: str, notes: bool
) -> Iterator[Row]:
    count: Any = reader  # csv.reader counts lines
    line = count.line_num + first
    try:
        for fields in reader:
            if fields:
                if len(fields) != len(header) and not notes:
                    raise ValueError(
                        f"{path}, line {line}: expected {len(header)} fields, as many as the header has, got "
                        f"{len(fields)}; texts with {separator!r} or a line break in them need quotes"
                    )
                filled = fields + [""] * (len(header) - len(fields))
                yield Row(path, line, dict(zip(header, filled, strict=False)))
            line = count.line_num + first
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {line}: expected a row of a CSV table: {error}; is a quote not closed, or not doubled?"
        ) from error


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


def check_columns(table: Path, found: Sequence[str], columns: Sequence[str], *, all_once: bool = False) -> None:
    """Refuse a table that lacks a column, or has one twice.

    Args:
        table: the file.
        found: its columns.
        columns: those that must be there.
        all_once: whether the others must not be there twice either.

    Raises:
        ValueError: naming the file and the columns.
    """
    if missing := [name for name in columns if name not in found]:
        raise ValueError(
            f"{table}: expected the columns {list(columns)} in the first line, but {missing} is missing from "
            f"{list(found)}"
        )
    checked = {name for name in found if name} if all_once else set(columns)
    if twice := sorted(name for name in checked if list(found).count(name) > 1):
        raise ValueError(f"{table}: expected each column once, got {twice} more than once; rename or remove one")
