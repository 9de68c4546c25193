# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Paths and names as they come from a user: text, or refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["text_of", "text_path"]


def text_path(value: Any, name: str) -> Path:
    """A path that is given as text or as a path; what a command line made into a number or list is refused.

    Args:
        value: what was given.
        name: what the caller calls it.

    Raises:
        TypeError: when it is something else.
        ValueError: when it is empty, or no text that a file can be called by.

    Example:
        >>> text_path("./2024", "source")
        PosixPath('2024')
        >>> text_path(2024, "source")
        Traceback (most recent call last):
        TypeError: source: expected a path as text, got the number 2024 (int); write it as ./2024, ...
    """
    if isinstance(value, bool) or value is None or not isinstance(value, str | os.PathLike):
        kind = "the number " if isinstance(value, int | float) and not isinstance(value, bool) else ""
        example = "./NAME" if isinstance(value, tuple | list | dict | set) or value is None else f"./{value}"
        raise TypeError(
            f"{name}: expected a path as text, got {kind}{value!r} ({type(value).__name__}); write it as {example}, "
            "so that the command line leaves it as it is"
        )
    text = os.fspath(value)
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a path as text, got bytes {text!r}; decode it with os.fsdecode")
    if not text.strip() or "\0" in text:
        raise ValueError(f"{name}: expected the path of a file or folder, got {text!r}")
    return Path(text)


def text_of(value: Any, name: str) -> str:
    """A name that is given as text, such as that of a column; numbers, truth values and lists are refused.

    Raises:
        TypeError: when it is no text.
        ValueError: when it is empty.

    Example:
        >>> text_of("file ", "image_column")
        'file'
    """
    if not isinstance(value, str):
        raise TypeError(
            f"{name}: expected text, got {value!r} ({type(value).__name__}); on the command line put it into two pairs "
            f"of quotes, --{name} \"'{value}'\""
        )
    if not value.strip():
        raise ValueError(f"{name}: expected text, got {value!r}")
    return value.strip()
