# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What nothing can be learned from, and what to beware of in a data set."""

from __future__ import annotations

from collections.abc import Sequence

from .._class_names import shown
from .images_seen import ImagesSeen

__all__ = ["data_warnings", "refuse_unfit"]

# Training images of a class: fewer than the first number are refused, fewer than the second warned of.
LEAST, FEW = 8, 100
UNBALANCED = 10


def refuse_unfit(seen: ImagesSeen) -> None:
    """Refuse data from which nothing can be learned.

    Raises:
        ValueError: when training or validation has no image of some class, or a class fewer than 8 for training.
    """
    for split in ("train", "validation"):
        if lacking := seen.lacking(split):
            raise ValueError(
                f"data: expected images of every class in {split!r}, got none of {_names(lacking)}; add some (split by "
                "a hash, a tenth of them is for validation), make folders train, val and test, or take the "
                "class out of the data"
            )
    name, count = min(zip(seen.classes, seen.images["train"], strict=True), key=lambda each: each[1])
    if count < LEAST:
        raise ValueError(
            f"data: expected at least {LEAST} training images of each class, got {count} of {_names([name])}; add some "
            f"({FEW} or more are better)"
        )


def data_warnings(seen: ImagesSeen) -> list[str]:
    """What to beware of, a sentence each.

    Example:
        >>> seen = ImagesSeen(("a", "b"), {"train": (500, 500), "validation": (9, 9)}, patients={"train": 700})
        >>> data_warnings(seen)
        ['There is no test set: evaluate will ask for one.']
    """
    found = []
    counts = seen.images["train"]
    if min(counts) < FEW:
        rarest = _names([seen.classes[counts.index(min(counts))]])
        found.append(
            f"Few images: {min(counts)} of {rarest} for training. From fewer than {FEW} a network learns "
            "little, and a simple classifier may well be better: compare with the floor."
        )
    if max(counts) >= UNBALANCED * min(counts):
        found.append(
            f"Classes are unbalanced, {min(counts)} to {max(counts)} images: judge by balanced accuracy, and when "
            "classifying say how common each class is there (--set prior=[...], after fit)."
        )
    if seen.count("test") == 0:
        found.append("There is no test set: evaluate will ask for one.")
    elif lacking := seen.lacking("test"):
        found.append(f"The test set has no image of {_names(lacking)}: evaluate will refuse it.")
    if seen.patients.get("train") is None:
        found.append(
            "Patients are not known: images of one patient may be in two splits, and results too good. Give each a "
            "folder, or say --patient-column or --patient-pattern."
        )
    elif without := sum(seen.without_patient.values()):
        found.append(
            f"The patient of {without} images is not known: each is taken for one of its own, who may be in another "
            "split, and results are too good then. Fill in the column, or leave these images out."
        )
    return found


def _names(names: Sequence[str]) -> str:
    return ", ".join(repr(shown(name, 40)) for name in names)
