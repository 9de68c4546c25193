# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One image among many that cannot be read: the others are classified, and it is named with its error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai.data import Dataset, list_data_collate

from .._text import joined

__all__ = ["UNREADABLE", "TolerantDataset", "Unreadable", "collate_readable", "take_unreadable"]

UNREADABLE = "unreadable"
"""Key of a batch under which `collate_readable` puts what could not be read."""


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read.

    Args:
        key: its name.
        error: why, in one line.
    """

    key: str
    error: str


class TolerantDataset(Dataset):
    """MONAI's `Dataset`, in which an item whose transforms fail becomes an `Unreadable`.

    It goes with ``collate_fn=collate_readable`` in the data loader, and with a `DiffusionClassifierEvaluator`.

    Args:
        data: items with ``key``, the image's name.
        transform: the transforms.
        strict: raise what a transform raises, as `Dataset` does.

    Example:
        >>> from monai.transforms import Lambdad
        >>> half = Lambdad("image", lambda value: 1 / value)
        >>> dataset = TolerantDataset([{"image": 2, "key": "a"}, {"image": 0, "key": "b"}], half)
        >>> dataset[0]["image"], dataset[1]
        (0.5, Unreadable(key='b', error='ZeroDivisionError: division by zero'))
    """

    def __init__(self, data: Sequence[Any], transform: Any = None, *, strict: bool = False) -> None:
        if not isinstance(strict, bool):
            raise TypeError(f"strict: expected True or False, got {strict!r}")
        super().__init__(data, transform)
        self.strict = strict

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except Exception as error:
            cause = _first_cause(error)
            if self.strict or isinstance(cause, MemoryError):  # which is the machine's, not this image's alone
                raise
            item = self.data[index]
            key = item.get("key") if isinstance(item, Mapping) else None
            return Unreadable(str(index if key is None else key), _said(cause))


def collate_readable(items: Sequence[Any]) -> dict[str, Any]:
    """A batch of the items that could be read; the others under `UNREADABLE`, each with its place in the batch.

    Example:
        >>> import torch
        >>> batch = collate_readable([Unreadable("a", "is no image"), {"image": torch.zeros(1, 2, 2)}])
        >>> batch["image"].shape, batch["unreadable"]
        (torch.Size([1, 1, 2, 2]), {0: Unreadable(key='a', error='is no image')})
    """
    read = [item for item in items if not isinstance(item, Unreadable)]
    batch: dict[str, Any] = dict(list_data_collate(read)) if read else {}
    failed = {place: item for place, item in enumerate(items) if isinstance(item, Unreadable)}
    return {**batch, UNREADABLE: failed} if failed else batch


def take_unreadable(batch: Any) -> dict[int, Unreadable]:
    """Take out of a batch what could not be read."""
    return dict(batch.pop(UNREADABLE, {})) if isinstance(batch, dict) else {}


def _first_cause(error: BaseException) -> BaseException:
    """What was raised in the first place, below MONAI's own error."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _said(error: BaseException) -> str:
    """An error in one line."""
    text = joined(error)
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
