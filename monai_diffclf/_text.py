# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Text from users in tables and messages: names of files, classes and columns. Imports nothing of ours."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["csv_text", "csv_texts", "from_csv_text", "joined", "out_of_memory", "printable"]

# What makes a spreadsheet take a cell for a formula (OWASP, "CSV Injection"), and the mark that says it is text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # and full-width
_MARK = "'"
_JOINERS = "\u00ad\u200c\u200d"  # where a word may break, and how letters join


def printable(text: str, keep: str = "") -> str:
    r"""Text with escapes for control characters, which a terminal may obey, and for those that turn or break lines.

    Spaces of all widths and the joiners of scripts and emoji stay.

    Args:
        text: any text.
        keep: control characters that stay.

    Example:
        >>> printable("a\x1b[2J\n", keep="\n")
        'a\\x1b[2J\n'
    """
    return "".join(c if _is_harmless(c) or c in keep else c.encode("unicode_escape").decode() for c in text)


def _is_harmless(character: str) -> bool:
    return character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"


def joined(text: object) -> str:
    r"""Text, or what an error says, on one line.

    Example:
        >>> joined(ValueError("expected a\n  PNG file"))
        'expected a PNG file'
    """
    return " ".join(str(text).split())


def csv_text(text: str) -> str:
    r"""A cell that a spreadsheet shows and does not run: formulas get a leading apostrophe; numbers stay.

    Control characters, which terminals obey, are written as escapes. But for these `from_csv_text` gives the text back.

    Args:
        text: any text.

    Example:
        >>> [csv_text(text) for text in ("=1+1", "-5", "-x.png", "'a", "scan.png", "a\x1b[2Jb")]
        ["'=1+1", '-5', "'-x.png", "''a", 'scan.png', 'a\\x1b[2Jb']
    """
    plain = printable(text, keep="\t\r\n")
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


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the machine or of a device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(words in str(error) for words in ("out of memory", "allocate memory"))
