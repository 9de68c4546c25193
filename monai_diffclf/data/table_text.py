# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From the bytes of a table to its text: which encoding, and what separates the fields."""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

__all__ = ["DELIMITERS", "find_delimiter", "read_text", "separator_line"]

DELIMITERS = (",", ";", "\t", "|")
# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_KINDS = (
    (b"PK\x03\x04", "an Excel or OpenDocument workbook, or another zip file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"%PDF", "a PDF file"),
    (b"{\\rtf", "an RTF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
)
_SEPARATOR = re.compile(r'"?sep=(.)"?')


def read_text(table: Path, *, notes: bool = False) -> str:
    """The text of a table in UTF-8 or UTF-16 (with or without a mark), UTF-32, or Windows-1252 (Latin-1 with more).

    Args:
        table: the file.
        notes: whether bytes that are no text may stand in it; they become question marks.

    Raises:
        ValueError: naming the file, when it is absent, empty, no text, or in an encoding that cannot be told.

    Warns:
        UserWarning: naming file, encoding and the first line concerned when the table is not in Unicode, as letters
            beyond ASCII may then be others than meant.
    """
    if not table.is_file():
        raise ValueError(f"{table}: expected a CSV table, but there is no such file")
    data = table.read_bytes()
    if not data.strip():
        raise ValueError(f"{table}: expected a CSV table with a header, but the file is empty")
    text = _decode(table, data, notes)
    if "\0" in text and not notes:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"{table}, line {line}: expected text, got a NUL byte; export the table anew as CSV in UTF-8")
    return text


def separator_line(text: str) -> str | None:
    r"""What Excel's first line, such as ``sep=;``, says that separates the fields; None without such a line.

    Example:
        >>> separator_line("sep=;\nimage;label\n"), separator_line("image,label\n")
        (';', None)
    """
    match = _SEPARATOR.fullmatch(text.partition("\n")[0].rstrip("\r"))
    return match.group(1) if match else None


def find_delimiter(table: Path, text: str, columns: Sequence[str]) -> str:
    """What separates the fields of a table: comma, semicolon, tab or bar, whichever the header is split by.

    Args:
        table: the file, for messages.
        text: the table from its header on.
        columns: columns that should be there.

    Raises:
        ValueError: when two of them split the header into as many fields, and neither gives the columns.
    """
    wanted = {name.casefold() for name in columns}
    found = []
    for delimiter in DELIMITERS:
        try:
            header = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
        except csv.Error:
            continue
        names = {name.strip().casefold() for name in header}
        found.append((bool(wanted) and wanted <= names, len(wanted & names), len(header), delimiter))
    if not found:
        return ","  # the reader says what is wrong with the header
    best = max(found, key=lambda entry: entry[:3])
    rivals = [entry[3] for entry in found if entry[:3] == best[:3]]
    if len(rivals) > 1 and best[2] > 1:
        raise ValueError(
            f"{table}: expected a header whose fields are separated by one of comma, semicolon, tab or bar, got one "
            f"that {' and '.join(map(repr, rivals))} split alike: {text.splitlines()[0][:80]!r}"
        )
    return rivals[0]


def _decode(table: Path, data: bytes, notes: bool) -> str:
    for mark, what in _OTHER_KINDS:
        if data.startswith(mark):
            raise ValueError(f"{table}: expected a CSV table, got {what}; save the table as CSV (UTF-8)")
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None) or _utf16_without_mark(data)
    try:
        text = data.decode(encoding or "utf-8", errors="replace" if notes and encoding is None else "strict")
    except UnicodeDecodeError as error:
        if encoding is None:
            return _decode_windows(table, data, error)
        raise ValueError(
            f"{table}: expected text in {encoding.upper()}, as its first bytes say, but byte {error.start} is none: "
            f"{error.reason}; save it anew as UTF-8"
        ) from error
    if re.match(r"\s*<(!doctype|html|\?xml)", text, re.IGNORECASE):
        raise ValueError(f"{table}: expected a CSV table, got an HTML or XML page; download or export the table itself")
    if text.startswith("version https://git-lfs"):
        raise ValueError(f"{table}: expected a CSV table, got a Git LFS pointer; fetch the file (git lfs pull)")
    return text


def _utf16_without_mark(data: bytes) -> str | None:
    """UTF-16 is told by the zero bytes of ASCII letters: nearly all on one side of the pairs, none on the other."""
    head = data[: min(len(data), 4000) // 2 * 2]
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if len(data) % 2 == 0 and max(even, odd) > 0.6 * len(head) / 2 and min(even, odd) == 0:
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def _decode_windows(table: Path, data: bytes, error: UnicodeDecodeError) -> str:
    line = data[: error.start].count(b"\n") + 1
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text:
        raise ValueError(
            f"{table}, line {line}: expected text in UTF-8, UTF-16 or Windows-1252 (Latin-1), got the byte "
            f"0x{data[error.start]:02x}, which is in none; save the table as CSV in UTF-8"
        ) from error
    words = text.splitlines()[line - 1].strip() if line <= len(text.splitlines()) else ""
    warnings.warn(
        f"{table}: is not in UTF-8 and was read as Windows-1252 (Latin-1): line {line} is {words[:80]!r}; if that is "
        "wrong, save the table as CSV in UTF-8",
        stacklevel=4,
    )
    return text
