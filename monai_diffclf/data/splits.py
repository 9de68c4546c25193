# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Names of splits, and the split of a patient or file where nobody has made one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._class_names import plain_text
from .pneumonia_mnist import patient_number

__all__ = [
    "SPLITS",
    "NoSplitError",
    "check_classes_present",
    "check_split",
    "chosen",
    "in_order",
    "split_by_hash",
    "split_name",
]

SPLITS = ("train", "validation", "test")
_SEED = 42  # of Favero et al. (2025)
_SPELLINGS = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev", "development", "validate", "valset"), "validation"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}


class NoSplitError(ValueError):
    """A data set lacks the split that was asked for."""


def split_name(text: str) -> str | None:
    """The split that a text stands for, in the common spellings; None where it is none.

    Example:
        >>> split_name("Val"), split_name("dev"), split_name("Training"), split_name("1")
        ('validation', 'validation', 'train', None)
    """
    return _SPELLINGS.get(plain_text(text).replace("_", "").replace("-", ""))


def check_split(split: str) -> None:
    """Refuse an unknown split.

    Raises:
        ValueError: when it is none of `SPLITS`.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")


def split_by_hash(name: str) -> str:
    """The split of a patient or file: a tenth validation, a tenth test, the rest training; fixed by the name alone.

    Example:
        >>> [split_by_hash(f"patient{n}") for n in (1, 5, 26)]
        ['train', 'train', 'validation']
    """
    number = patient_number(name)
    return "validation" if number < 100 else "test" if number < 200 else "train"


def chosen(items: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Some of the items in a random order, as pandas' ``sample(count, random_state=42)`` chooses rows."""
    order = np.random.RandomState(_SEED).permutation(len(items))[:count]
    return [items[place] for place in order]


def in_order(items: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """A tenth for validation and one for test, rounded down, after the training images; in this order."""
    tenth = len(items) // 10
    ends = {"train": (0, len(items) - 2 * tenth), "validation": (-2 * tenth, -tenth), "test": (-tenth, None)}
    return {name: list(items[start:stop]) for name, (start, stop) in ends.items()}


def check_classes_present(
    items: Sequence[Mapping[str, Any]],
    split: str,
    classes: Sequence[str],
    *,
    where: str = "",
    all_of_them: bool = False,
) -> None:
    """Refuse a training or validation set of one class: nothing can be learned from it, and no AUC computed.

    Args:
        items: a datalist.
        split: the split; a test set may hold any classes.
        classes: names of the classes.
        where: the data set, for the message.
        all_of_them: whether every class is needed, and not just two.

    Raises:
        ValueError: naming the classes that are missing.
    """
    present = {int(item["label"]) for item in items}
    missing = [name for label, name in enumerate(classes) if label not in present]
    if split not in ("train", "validation") or not missing or (len(present) > 1 and not all_of_them):
        return
    found = ", ".join(repr(classes[label]) for label in sorted(present))
    what = "one class only" if len(present) == 1 else "not all classes"
    raise ValueError(
        f"{where}{': ' if where else ''}expected images of every class in {split!r}, got {what}: {len(items)} of "
        f"{found}, none of {', '.join(map(repr, missing))}; add some, or leave the class out of classes"
    )
