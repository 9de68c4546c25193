# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Images that a table names and that are not there: counted, listed, and refused unless one asks to go on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

__all__ = ["present_images"]

_LISTED = 5


def present_images(
    items: Sequence[dict[str, Any]], *, where: str | os.PathLike[str], source: str, allow: bool = False
) -> list[dict[str, Any]]:
    """The items of a datalist whose image is there.

    Args:
        items: items with the path of a file as ``"image"``.
        where: the table that names them, for the message.
        source: where the images are to be had and under which terms, for the message.
        allow: whether to go on without those that are missing, with a warning.

    Raises:
        ValueError: when one is missing and that is not allowed, or all are; says how many, and names the first.

    Example:
        >>> present_images([{"image": "/none/a.png"}], where="train.csv", source="the set is at example.org")
        Traceback (most recent call last):
        ValueError: train.csv: 1 of 1 images are not there: /none/a.png; the set is at example.org; to go on without
        them give allow_missing
    """
    missing = [item for item in items if not os.path.isfile(item["image"])]
    if not missing:
        return list(items)
    named = ", ".join(str(item["image"]) for item in missing[:_LISTED])
    more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
    said = f"{os.fspath(where)}: {len(missing)} of {len(items)} images are not there: {named}{more}"
    if not allow or len(missing) == len(items):
        hint = "" if allow else "; to go on without them give allow_missing"
        raise ValueError(f"{said}; {source}{hint}")
    warnings.warn(f"{said}; left out, as asked for", stacklevel=3)
    gone = {id(item) for item in missing}
    return [item for item in items if id(item) not in gone]
