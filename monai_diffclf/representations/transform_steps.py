# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The steps of a transform: which are random."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from monai.transforms import Compose, Randomizable, Transform
from monai.transforms.traits import RandomizableTrait

__all__ = ["compose_steps", "may_be_random"]


def compose_steps(
    transform: Callable[..., Any] | Sequence[Callable[..., Any]] | None, *, random: bool = True
) -> Compose:
    """The steps of a transform, in copies of their own.

    Args:
        transform: a transform, or several.
        random: whether to keep those that are random: MONAI's `Randomizable`, no plain functions.
    """
    return Compose(copy.deepcopy(list(_steps(_listed(transform), random))))  # its own: views are seeded one by one


def _listed(transform: Any) -> Sequence[Any]:
    # MONAI's OneOf and the like are compositions too, and one random step.
    whole = transform if type(transform) is Compose else Compose([transform] if callable(transform) else transform)
    return tuple(whole.transforms)


def _steps(steps: Sequence[Any], random: bool) -> Iterator[Any]:
    """The steps, also those of compositions inside, without what is random where that is to be left out."""
    for step in steps:
        if type(step) is Compose:
            inner = list(_steps(step.transforms, random))
            alike = step.map_items is True and not step.unpack_items
            yield from inner if alike else [Compose(inner, map_items=step.map_items, unpack_items=step.unpack_items)]
        elif random or not _is_random(step):
            yield step


def _is_random(step: Any) -> bool:
    return isinstance(step, Randomizable | RandomizableTrait)


def may_be_random(step: Any) -> bool:
    """Random, or a plain function, of which it is not known."""
    return _is_random(step) or not isinstance(step, Transform)
