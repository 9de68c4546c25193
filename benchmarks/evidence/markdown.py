"""How numbers and tables are written into a document."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["as_table", "filled", "in_words"]


def in_words(found: dict[str, Any] | None) -> str:
    """A value with its interval, to three digits; nothing where there is none.

    Example:
        >>> in_words({"value": -0.0001, "low": -0.02, "high": 0.02})
        '0.000 (-0.020 to 0.020)'
    """
    return "" if found is None else "{value:.3f} ({low:.3f} to {high:.3f})".format(**found).replace("-0.000", "0.000")


def as_table(heads: list[str], rows: list[list[str]]) -> str:
    """A table, or that there is nothing to show."""
    if not rows:
        return "Nothing was run yet."
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def filled(document: str, found: dict[str, str]) -> str:
    """A document with its tables replaced.

    Raises:
        ValueError: when the place of a table is missing.

    Example:
        >>> print(filled("a <!-- begin t -->old<!-- end t --> b", {"t": "new"}))
        a <!-- begin t -->
        new
        <!-- end t --> b
    """
    for name, text in found.items():
        pattern = re.compile(rf"(<!-- begin {name} -->).*?(<!-- end {name} -->)", re.DOTALL)
        if not pattern.search(document):
            raise ValueError(f"document: expected <!-- begin {name} --> and <!-- end {name} -->, they are missing")
        document = pattern.sub(lambda match, new=text: f"{match[1]}\n{new}\n{match[2]}", document)
    return document
