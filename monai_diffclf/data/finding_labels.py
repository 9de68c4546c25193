# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Labels of several findings: 0 absent, 1 present, 2 unknown; what uncertain and missing ones count as."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .table_rows import Row

__all__ = ["POLICIES", "chosen_findings", "finding_labels", "policy", "warn_of_missing_findings"]

UNKNOWN = 2
POLICIES: dict[str, int | None] = {"unknown": UNKNOWN, "zeros": 0, "ones": 1, "leave_out": None}
"""What a label that says neither becomes: unknown (U-Ignore of Irvin et al. 2019), absent (U-Zeros), present (U-Ones),
or None: the image is left out."""


def policy(name: str, argument: str) -> int | None:
    """What a label becomes by the policy of a name, see `POLICIES`.

    Raises:
        ValueError: when there is none of that name.

    Example:
        >>> policy("zeros", "uncertain")
        0
        >>> policy("maybe", "uncertain")
        Traceback (most recent call last):
        ValueError: uncertain: expected one of unknown, zeros, ones, leave_out, got 'maybe'
    """
    if name not in POLICIES:
        raise ValueError(f"{argument}: expected one of {', '.join(POLICIES)}, got {name!r}")
    return POLICIES[name]


def chosen_findings(findings: Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    """Findings that were asked for, all of the data set where none were named.

    Raises:
        ValueError: when one is not of the data set, is named twice, or none is.

    Example:
        >>> chosen_findings(["Edema", "Odema"], ["Edema", "Mass"])
        Traceback (most recent call last):
        ValueError: findings: expected some of Edema, Mass, each once, got ['Edema', 'Odema']
    """
    if findings is None:
        return tuple(known)
    names = tuple(findings)
    if isinstance(findings, str) or not names or not set(names) <= set(known) or len(set(names)) < len(names):
        shown = findings if isinstance(findings, str) else list(names)
        raise ValueError(f"findings: expected some of {', '.join(known)}, each once, got {shown!r}")
    return names


def finding_labels(row: Row, columns: Sequence[str], states: Mapping[str, int | None]) -> list[int | None]:
    """What the fields of a row stand for; None where the image is to be left out.

    Raises:
        ValueError: when a field holds another text, with its place in the table.
    """
    fields = row.fields
    try:
        return [states[fields[column]] for column in columns]
    except KeyError:  # white space around a text, or another text
        return [row.one_of(column, states) for column in columns]


def warn_of_missing_findings(labels: NDArray[np.int64], split: str, findings: Sequence[str], where: str) -> None:
    """Refuse training images, and warn of others, that never show a finding, or always do.

    Args:
        labels: states [N, L].
        split: the split; of "train" the network could not learn such a finding, of others there is no AUC.
        findings: names of the findings.
        where: the table, for the message.

    Raises:
        ValueError: when `split` is "train" and a finding is never present, or never absent.

    Example:
        >>> warn_of_missing_findings(np.array([[1, 0], [0, 2]]), "train", ["Edema", "Mass"], "train.csv")
        Traceback (most recent call last):
        ValueError: train.csv: expected every finding present and absent in 'train', got no image with Mass; choose
        other findings, or another policy for uncertain or missing labels
    """
    missing = []
    for state, what in ((1, "with"), (0, "known to be without")):
        if names := [name for name, there in zip(findings, (labels == state).any(0), strict=True) if not there]:
            missing.append(f"no image {what} {', '.join(names)}")
    if not missing:
        return
    said = f"{where}: expected every finding present and absent in {split!r}, got {' and '.join(missing)}"
    if split == "train":
        raise ValueError(f"{said}; choose other findings, or another policy for uncertain or missing labels")
    warnings.warn(f"{said}; there is no AUC of such a finding", stacklevel=3)
