# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What could not be decided about a file while it was read: a warning, and text that stays with the image."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["as_text", "collect_doubts", "doubt"]

# Of this thread's reading only: what Python offers to catch warnings is shared by all threads.
_FOUND: ContextVar[list[str] | None] = ContextVar("doubts", default=None)


def doubt(path: str | os.PathLike[str], text: str, *, stacklevel: int = 4) -> None:
    """Warn of a file that was read, and hand the text to whoever collects it."""
    found = _FOUND.get()
    if found is not None:
        found.append(text)
    warnings.warn(f"{path}: {text}", stacklevel=stacklevel + 1)


@contextmanager
def collect_doubts() -> Iterator[list[str]]:
    """A list of the doubts about the files that are read meanwhile, without the file's name.

    Example:
        >>> with warnings.catch_warnings(), collect_doubts() as found:
        ...     warnings.simplefilter("ignore")
        ...     doubt("a.dcm", "WindowWidth (0028,1051) is 0; no window is used")
        >>> found
        ['WindowWidth (0028,1051) is 0; no window is used']
    """
    found: list[str] = []
    token = _FOUND.set(found)
    try:
        yield found
    finally:
        _FOUND.reset(token)


def as_text(doubts: Iterable[str]) -> str:
    """Doubts as one text, each once, separated by "; ", which none of them holds then.

    Example:
        >>> as_text(["WindowWidth is 0; no window is used", "only 1 x 1 pixels", "only 1 x 1 pixels"])
        'WindowWidth is 0, no window is used; only 1 x 1 pixels'
    """
    return "; ".join(dict.fromkeys(text.replace("; ", ", ") for text in doubts))
