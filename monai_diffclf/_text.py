# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Text from users in tables: names of files, classes and columns. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["csv_text", "csv_texts", "from_csv_text"]

# What makes a spreadsheet take a cell for a formula (OWASP, "CSV Injection"), and the mark that says it is text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # and full-width
_MARK = "'"


def csv_text(text: str) -> str:
    r"""A cell that a spreadsheet shows and does not run: formulas get a leading apostrophe; numbers stay.

    Control characters, which terminals obey, are written as escapes. But for these `from_csv_text` gives the text back.

    Args:
        text: any text.

    Example:
        >>> [csv_text(text) for text in ("=1+1", "-5", "-x.png", "'a", "scan.png", "a\x1b[2Jb")]
        ["'=1+1", '-5', "'-x.png", "''a", 'scan.png', 'a\\x1b[2Jb']
    """
    plain = "".join(c if c.isprintable() or c in "\t\r\n" else c.encode("unicode_escape").decode() for c in text)
    risky = plain.lstrip(" ").startswith((*_FORMULA, _MARK))
    return _MARK + plain if risky and not _is_number(plain) else plain


def csv_texts(texts: Iterable[str]) -> list[str]:
    """`csv_text` of several."""
    return [csv_text(str(text)) for text in texts]


def from_csv_text(cell: str) -> str:
    """The text that `csv_text` made a cell of.

    Example:
        >>> [from_csv_text(csv_text(text)) for text in ("=1+1", "''", "scan.png")]
        ['=1+1', "''", 'scan.png']
    """
    marked = cell.startswith(_MARK) and cell[1:].lstrip(" ").startswith((*_FORMULA, _MARK))
    return cell[1:] if marked else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
