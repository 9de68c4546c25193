# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Names and paths from clients, checked: a name is one plain part of a path, and a path lies in a known folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

__all__ = ["check_name", "last_part", "resolve_inside"]

NAME_BYTES = 240  # of the 255 that file systems allow: a suffix must still fit

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)  # devices in Windows
_ENCODED = re.compile(r"%[0-9a-f]{2}", re.IGNORECASE)
_DRIVE = re.compile(r"[a-z]:(?! )", re.IGNORECASE)
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control and format characters, halves of pairs, line breaks


def check_name(name: str, what: str) -> str:
    """A name of a client, which will be part of a path.

    Args:
        name: the name.
        what: what is named, for the message.

    Returns:
        The name.

    Raises:
        ValueError: when it is empty, too long, hidden, or could mean another place or a device.

    Example:
        >>> check_name("2: chest PA", "image")
        '2: chest PA'
        >>> check_name("../main.py", "image")
        Traceback (most recent call last):
            ...
        ValueError: image: expected a plain name, got '../main.py', which holds a separator of paths
    """
    if reason := _why_not(name):
        raise ValueError(f"{what}: expected a plain name, got {_shorten(name)!r}, which {reason}")
    return name


def _why_not(name: str) -> str:
    """What is wrong with a name; empty if nothing is."""
    # Another way to write a character must not get past: file systems and clients may make it the plain one.
    plain = unicodedata.normalize("NFKC", name)
    for wrong, reason in (
        (not name.strip(), "is empty"),
        (any(unicodedata.category(character) in _HIDDEN for character in name), "holds a control character"),
        (len(name.encode("utf-8", "replace")) > NAME_BYTES, f"is longer than {NAME_BYTES} bytes"),
        (bool(re.search(r"[/\\]", plain)), "holds a separator of paths"),
        (".." in plain, "holds '..'"),
        (plain.startswith((".", "-", "~", " ")), "begins with a dot, dash, tilde or space"),
        (plain.endswith((".", " ")), "ends with a dot or space"),
        (bool(_ENCODED.search(plain)), "holds a percent-encoded character"),
        (bool(re.search(r'[<>"|?*]', plain)) or bool(_DRIVE.match(plain)), "holds a character that Windows reserves"),
        (bool(_RESERVED.fullmatch(plain)), "is the name of a device in Windows"),
    ):
        if wrong:
            return reason
    return ""


def last_part(path: str, what: str) -> str:
    r"""The file name in what a client calls its upload: 3D Slicer sends the whole path it has there.

    Raises:
        ValueError: when the last part is no plain name, or the path climbs with ``..``.

    Example:
        >>> last_part("/home/me/scan.nii.gz", "file"), last_part("C:\\data\\scan.png", "file")
        ('scan.nii.gz', 'scan.png')
    """
    parts = re.split(r"[/\\]", path)
    if ".." in parts:
        raise ValueError(f"{what}: expected a file name, got {_shorten(path)!r}, which holds '..'")
    return check_name(parts[-1], what)


def resolve_inside(path: str | os.PathLike[str], folders: Iterable[str | os.PathLike[str]], what: str) -> Path:
    """A path with all links followed, if it lies in one of the folders.

    Raises:
        ValueError: when it lies elsewhere; the message does not say where.
    """
    resolved = Path(os.path.realpath(path))
    if any(resolved.is_relative_to(os.path.realpath(folder)) for folder in folders):
        return resolved
    raise ValueError(f"{what}: {Path(path).name!r} leads out of the server's folders")


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
