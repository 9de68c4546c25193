# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Names of classes, the same in folders, tables, reports and on the command line: text, matched by name.

`python -m monai.bundle` parses what it is given: `--classes "[1,0]"` arrives as two numbers, `"[01,02]"` as one text,
`a,b` as a tuple. Here all of them become names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from ._text import printable

__all__ = [
    "NO_FINDING",
    "SEPARATOR",
    "class_names",
    "classes_of_finding",
    "find_name",
    "finding_names",
    "plain_text",
    "shown",
    "uncertainty_column",
]

SEPARATOR = ";"  # between names in a cell of a table
NO_FINDING = "none"  # what tables call an image of which no finding is present; "No Finding" is a label of CheXpert

_FIX = "write for example --classes \"['benign','malignant']\""
_ITEM = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)"|([^,'"]*))\s*(?:,|$)""")


def class_names(classes: Any) -> list[str]:
    """The names of the classes in the order of their labels, as text whatever the command line made of them.

    White space around a name is removed, and Unicode composed (NFC), so that names of files and tables compare equal.

    Args:
        classes: a list or tuple of names, numbers, truth values or None; or one text that lists them, in brackets or
            separated by commas.

    Raises:
        TypeError: when it is no list, or a name is a list itself.
        ValueError: when there are fewer than two names, an empty one, one with ";", or two that differ in case and
            spaces only.

    Example:
        >>> class_names([1, 0]), class_names("[01, 02]"), class_names(("Normal ", None, True, 1.5))
        (['1', '0'], ['01', '02'], ['Normal', 'None', 'True', '1.5'])
        >>> class_names(["benign", "Benign"])
        Traceback (most recent call last):
        ValueError: classes: expected names that differ in more than case and spaces, got 'benign' and 'Benign'; ...
    """
    given = _split(classes) if isinstance(classes, str) else classes
    if not isinstance(given, Sequence) and type(given).__name__ in ("ListConfig", "ndarray"):
        given = list(given)
    if not isinstance(given, list | tuple):
        raise TypeError(f"classes: expected a list of names, got {classes!r}; {_FIX}")
    names = [_name(name) for name in given]
    if len(names) < 2:
        raise ValueError(f"classes: expected two or more different class names, got {names}; {_FIX}")
    first: dict[str, str] = {}
    for name in names:
        plain = plain_text(name)
        if plain in first:
            other = first[plain]
            what = (
                "two or more different class names, each once"
                if other == name
                else "names that differ in more than case and spaces"
            )
            raise ValueError(f"classes: expected {what}, got {other!r} and {name!r}; rename one")
        first[plain] = name
    return names


def finding_names(findings: Any) -> list[str]:
    """The names of findings: those of `class_names`, none of which is what tables call an image without any.

    Raises:
        TypeError: as `class_names`.
        ValueError: as there, when a finding is called "none", and when two would have one column in tables.

    Example:
        >>> finding_names(["nodule", "None"])
        Traceback (most recent call last):
        ValueError: classes: expected findings by another name than 'none', which tables say of an image ...
    """
    names = class_names(findings)
    if (place := find_name(NO_FINDING, names)) is not None:
        raise ValueError(
            f"classes: expected findings by another name than {NO_FINDING!r}, which tables say of an image without "
            f"any, got {names[place]!r}; rename it"
        )
    if twice := [name for name in names if f"entropy_{name}" in names]:
        raise ValueError(
            f"classes: expected findings with columns of their own, got {twice[0]!r} and 'entropy_{twice[0]}', which "
            f"would both have the column probability_entropy_{twice[0]}; rename one"
        )
    return names


def find_name(text: str, names: Sequence[str]) -> int | None:
    """The place of a name among those of `class_names`, None where it is none; case and spaces may differ.

    Example:
        >>> find_name("NORMAL", ["pneumonia", "normal"]), find_name("1", ["1", "0"]), find_name("0", ["a", "b"])
        (1, 0, None)
    """
    plain = plain_text(text)
    return next((place for place, name in enumerate(names) if plain_text(name) == plain), None)


def plain_text(text: str) -> str:
    """What two names are compared by: Unicode composed, without case and white space.

    Example:
        >>> plain_text(" Seborrheic  Keratosis") == plain_text("seborrheickeratosis")
        True
    """
    return "".join(unicodedata.normalize("NFC", text).casefold().split())


def shown(text: Any, limit: int = 80) -> str:
    r"""A text from a user as it may stand on one line of a terminal or message.

    Example:
        >>> shown("a\x1b[31m\nb"), shown("x" * 90, 10)
        ('a\\x1b[31m\\nb', 'xxxxxxx...')
    """
    line = printable(str(text))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def uncertainty_column(name: str, classes: Sequence[str]) -> str:
    """The column of an uncertainty in a table that has a column for each class: its name, or a longer one.

    Args:
        name: of the uncertainty, such as ``"vote_share_low"``.
        classes: names of the classes; one called "low" has that column.

    Example:
        >>> [uncertainty_column("vote_share_low", names) for names in (["ill", "well"], ["high", "low"])]
        ['vote_share_low', 'uncertainty_vote_share_low']
    """
    taken = {f"{what}_{each}" for what in ("probability", "vote_share", "log_likelihood") for each in classes}
    return f"uncertainty_{name}" if name in taken else name


def _name(value: Any) -> str:
    if value is not None and not isinstance(value, str | bool | int | float) and not hasattr(value, "item"):
        raise TypeError(f"classes: expected names, got {value!r} among them; {_FIX}")
    name = unicodedata.normalize("NFC", str(value)).strip()
    if not name or not name.isprintable():
        raise ValueError(f"classes: expected names to read, got {str(value)!r} among them; {_FIX}")
    if SEPARATOR in name:
        raise ValueError(
            f"classes: expected names without {SEPARATOR!r}, which separates names in tables, got "
            f"{shown(name)!r}; rename it"
        )
    return name


def _split(text: str) -> list[str]:
    """The items of a list that is written as a text."""
    inner = text.strip()
    if (inner[:1], inner[-1:]) in (("[", "]"), ("(", ")")):
        inner = inner[1:-1]
    inner = inner.strip().removesuffix(",")
    items, place = [], 0
    while place < len(inner):
        match = _ITEM.match(inner, place)
        if match is None:
            raise ValueError(f"classes: expected names separated by commas, got {text!r}; {_FIX}")
        items.append(next((found for found in match.groups() if found is not None), ""))
        place = match.end()
    return items + ([""] if inner.endswith(",") else [])


def classes_of_finding(name: str) -> list[str]:
    """Names of the two classes of a finding: absent and present.

    Example:
        >>> classes_of_finding("nodule")
        ['no nodule', 'nodule']
    """
    return [f"no {name}", name]
