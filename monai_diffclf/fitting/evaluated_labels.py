# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whether the images at hand still have the labels that an evaluation has recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._class_names import shown

__all__ = ["check_evaluated_labels"]


def check_evaluated_labels(
    keys: Sequence[str], labels: ArrayLike, items: Iterable[Mapping[str, Any]], *, finding: int | None = None
) -> None:
    """Refuse a datalist whose labels are not those that were recorded for the same images.

    Args:
        keys: the images that were evaluated.
        labels: the label recorded of each [n].
        items: the datalist at hand; images that were not evaluated, or have no key, are left out.
        finding: where labels are vectors of several findings, which of them ``labels`` are of.

    Raises:
        ValueError: naming an image with both labels.

    Example:
        >>> check_evaluated_labels(["a", "b"], [0, 1], [{"key": "a", "label": 0}, {"key": "b", "label": 0}])
        Traceback (most recent call last):
        ValueError: --data: expected the labels that were evaluated, got 0 in place of 1 for b; evaluate again, ...
    """
    recorded = dict(zip(map(str, keys), np.asarray(labels).tolist(), strict=True))
    changed = []
    for item in items:
        key = str(item.get("key", ""))
        if key in recorded:
            now = int(item["label"] if finding is None else item["label"][finding])
            changed += [(key, now)] if now != recorded[key] else []
    if changed:
        key, now = changed[0]
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ValueError(
            f"--data: expected the labels that were evaluated, got {now} in place of {recorded[key]} for "
            f"{shown(key)}{more}; evaluate again, or name the data set that was evaluated"
        )
