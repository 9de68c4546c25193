# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Datalists whose labels are vectors: for each finding 0 absent, 1 present or 2 unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import check_findings

__all__ = ["check_findings_present", "count_findings", "has_findings"]

_STATES = ("absent", "present", "unknown")


def has_findings(items: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the labels of a datalist are vectors."""
    return len(items) > 0 and np.ndim(items[0]["label"]) == 1


def count_findings(
    items: Sequence[Mapping[str, Any]], findings: Sequence[str], *, name: str = "label"
) -> dict[str, dict[str, int]]:
    """How many images have each finding absent, present and unknown.

    Args:
        items: a datalist with labels [L].
        findings: names of the findings [L].
        name: what the labels are called in messages.

    Raises:
        ValueError: when a label has another length or other values.

    Example:
        >>> count_findings([{"label": [0, 1]}, {"label": [2, 1]}], ["nodule", "effusion"])["nodule"]
        {'absent': 1, 'present': 0, 'unknown': 1}
    """
    labels = np.zeros((len(items), len(findings)), dtype=np.int64)
    for index, item in enumerate(items):
        label: NDArray[Any] = np.asarray(item["label"])
        if label.shape != (len(findings),):
            raise ValueError(
                f"{name}: expected a state for each of the {len(findings)} findings {list(findings)}, got "
                f"{list(label.shape)} for {str(item.get('key', f'image {index}'))!r}"
            )
        labels[index] = check_findings(label[None], len(findings), name=f"{name} of {item.get('key', index)}")[0]
    counts = [np.bincount(column, minlength=3) for column in labels.T]
    return {
        str(finding): dict(zip(_STATES, map(int, count), strict=True))
        for finding, count in zip(findings, counts, strict=True)
    }


def check_findings_present(
    items: Sequence[Mapping[str, Any]], split: str, findings: Sequence[str], *, where: str = ""
) -> dict[str, dict[str, int]]:
    """Refuse a split in which a finding is always or never there, of which nothing can be learned or measured.

    Args:
        items: a datalist with labels [L].
        split: its name.
        findings: names of the findings [L].
        where: the data set, for the message.

    Returns:
        what `count_findings` gives.

    Raises:
        ValueError: naming the finding, when no image has it or none lacks it.

    Example:
        >>> check_findings_present([{"label": [0, 1]}, {"label": [2, 0]}], "train", ["nodule", "effusion"])
        Traceback (most recent call last):
        ValueError: train: expected images with and without each finding, got none with nodule (1 without...
    """
    counts = count_findings(items, findings, name=f"{split}: label")
    for finding, count in counts.items():
        if count["present"] and count["absent"]:
            continue
        with_or_without, other = ("without", "with") if count["present"] else ("with", "without")
        number = count["present" if other == "with" else "absent"]
        raise ValueError(
            f"{split}: expected images with and without each finding, got none {with_or_without} {finding} ({number} "
            f"{other}, {count['unknown']} unknown){f' in {where}' if where else ''}; add some, or leave the finding out"
        )
    return counts
