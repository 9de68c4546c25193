# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The class that a client's label means: a name, an index, or the one segment of a segmentation that has voxels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .segmentation import chosen_segments

__all__ = ["find_label"]

MAX_JSON = 100_000  # bytes of a file that holds one name


def find_label(file: str, info: Mapping[str, Any], classes: Sequence[str]) -> str:
    """The class that a client's label means.

    Args:
        file: the label's file, JSON or a segmentation; the latter counts where ``info`` has no ``label``.
        info: the label's parameters: ``label_info`` or ``label``, or those of a prediction that is saved as a label.
        classes: names of the classes.

    Raises:
        ValueError: when no class is named, an unknown one, or more than one.
    """
    entries = _entries(info)
    said = [info.get("label"), (info.get("params") or {}).get("label")]
    if file.lower().endswith(".json"):
        said.append(_from_file(file))
    elif said == [None, None]:
        entries = [{"name": name} for name in chosen_segments(file, entries)]
    named = [*said, *(entry.get("name", entry.get("idx")) for entry in entries)]
    names = {_class_name(value, classes) for value in named if value is not None}
    if len(names) != 1:
        raise ValueError(
            f"label: expected one of {list(classes)}, as label_info [{{'name': ...}}] in params or as a JSON file "
            f"{{'label': ...}}, got {sorted(names) if names else 'none'}"
        )
    return names.pop()


def _entries(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = info.get("label_info") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"label_info: expected a list of {{'name': ...}}, got {entries!r}")
    if not isinstance(info.get("params") or {}, dict):
        raise ValueError(f"params: expected an object, got {info['params']!r}")
    return entries


def _from_file(file: str) -> Any:
    if (size := Path(file).stat().st_size) > MAX_JSON:
        raise ValueError(f"label: expected a JSON file of at most {MAX_JSON:,} bytes, got {size:,}")
    try:
        content = json.loads(Path(file).read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"label: expected a JSON file, but it cannot be read: {error}") from error
    return content.get("label") if isinstance(content, dict) else content


def _class_name(value: Any, classes: Sequence[str]) -> str:
    if isinstance(value, str) and value in classes:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(classes):
        return classes[value]
    raise ValueError(f"label: expected one of {list(classes)} or an index below {len(classes)}, got {value!r}")
