# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Two tables of the same images, row beside row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["rows_of_images"]

_NAMED = 3


def rows_of_images(
    keys: Sequence[Any] | NDArray[Any],
    table_keys: Sequence[Any] | NDArray[Any],
    *,
    labels: Sequence[int] | NDArray[Any] | None = None,
    table_labels: Sequence[int] | NDArray[Any] | None = None,
    what: str = "table",
) -> NDArray[np.int64]:
    """The row of a table for each of some images, by their keys: ``table[rows]`` is in the order of ``keys``.

    Whatever compares two models image by image needs it: files of results are in no common order. Images of the same
    key (copies in a data set) are taken in the order in which they come, those of one class together.

    Args:
        keys: name of each image [N].
        table_keys: name of each row's image [N].
        labels: class of each image [N], to be the same in both; None leaves it unchecked.
        table_labels: class of each row's image [N].
        what: what the table is, for the error.

    Returns:
        indices into the table [N].

    Raises:
        ValueError: if the table is not of the same images, each as often, or their classes differ.

    Example:
        >>> rows_of_images(["a", "b", "c"], ["c", "a", "b"]).tolist()
        [1, 2, 0]
    """
    own, theirs = _names(keys, labels), _names(table_keys, table_labels if labels is not None else None)
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, name in reversed(list(enumerate(theirs))):
        places[name].append(row)
    if Counter(own) != Counter(theirs):
        missing, more = Counter(own) - Counter(theirs), Counter(theirs) - Counter(own)
        raise ValueError(
            f"{what}: expected the same {len(own)} images with the same classes, got {len(theirs)}, without "
            f"{_some(missing)} and with {_some(more)}; evaluate both models on the same images"
        )
    return np.array([places[name].pop() for name in own], dtype=np.int64)


def _names(keys: Any, labels: Any) -> list[tuple[str, ...]]:
    names = [str(key) for key in keys]
    if labels is None:
        return [(name,) for name in names]
    return [(name, str(int(label))) for name, label in zip(names, labels, strict=True)]


def _some(found: Counter[tuple[str, ...]]) -> str:
    names = [" of class ".join(name) for name in sorted(found.elements())]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{names[:_NAMED]}{more}"
