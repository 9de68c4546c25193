# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the readers of mammography data sets have in common: names of classes, sides and views; balance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .patients import check_patients, patients_of

__all__ = ["CLASSES", "SIDES", "VIEWS", "ClassBalance", "class_balance"]

CLASSES = ("benign", "malignant")
SIDES = {"L": "L", "R": "R"}
VIEWS = {"CC": "CC", "MLO": "MLO"}


@dataclass(frozen=True)
class ClassBalance:
    """How many mammograms of each class the splits have; ``str(balance)`` is a table to read.

    Attributes:
        counts: split -> number of benign and of malignant images.
        patients: split -> number of patients.
    """

    counts: dict[str, tuple[int, int]]
    patients: dict[str, int]

    def malignant_share(self, split: str) -> float:
        """Share of malignant images; one minus it is the accuracy of calling everything benign."""
        return self.counts[split][1] / sum(self.counts[split])

    def __str__(self) -> str:
        width = max([len(name) for name in self.counts] + [5])
        heads = ("images", "benign", "malignant", "share", "patients", "always benign")
        lines = [" ".join([f"{'split':<{width}}", *(f"{head:>{max(9, len(head))}}" for head in heads)])]
        for name, (benign, malignant) in self.counts.items():
            share = self.malignant_share(name)
            numbers = f"{benign + malignant:>9} {benign:>9} {malignant:>9} {share:>9.2%} {self.patients[name]:>9}"
            lines.append(f"{name:<{width}} {numbers} {1 - share:>13.2%}")
        return "\n".join(lines)


def class_balance(
    items_by_split: Mapping[str, Sequence[Mapping[str, Any]]], *, allow_shared_patients: Sequence[str] | None = None
) -> ClassBalance:
    """Count the classes and patients of each split, and make sure that no patient is in two.

    The last column of the table is the accuracy of a classifier that calls everything benign: what an accuracy is to be
    compared with.

    Args:
        items_by_split: split -> items as the readers of mammography data sets give them.
        allow_shared_patients: names of splits that may share patients, see `check_patients`.

    Raises:
        ValueError: on an empty split, a label other than 0 and 1, an item without patient, or a patient in two splits.

    Example:
        >>> train = [{"label": 0, "patient": "a"}, {"label": 1, "patient": "a"}, {"label": 0, "patient": "b"}]
        >>> print(class_balance({"train": train, "test": [{"label": 0, "patient": "c"}]}))
        split    images    benign malignant     share  patients always benign
        train         3         2         1    33.33%         2        66.67%
        test          1         1         0     0.00%         1       100.00%
    """
    counts, patients = {}, {}
    for split, items in items_by_split.items():
        if not items:
            raise ValueError(f"items_by_split: expected items in every split, got none in {split!r}")
        for item in items:
            if item["label"] not in (0, 1) or not item.get("patient"):
                raise ValueError(
                    f"items_by_split: expected a label 0 or 1 and a patient, got {item['label']!r} and "
                    f"{item.get('patient')!r} in {split!r}, item {item.get('key')!r}"
                )
        malignant = sum(int(item["label"]) for item in items)
        counts[split] = (len(items) - malignant, malignant)
        patients[split] = {str(item["patient"]) for item in items}
    found = {split: patients_of(items) for split, items in items_by_split.items()}
    check_patients(found, allow_shared_patients, where="items_by_split")
    return ClassBalance(counts, {split: len(found) for split, found in patients.items()})
