# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The steps of a transform: which are random, and what they are made of."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from monai.transforms import Compose, Randomizable, Transform
from monai.transforms.traits import RandomizableTrait

from ..networks.model_description import describe_settings
from ..networks.value_description import NotDescribedError, value_hash

__all__ = ["compose_steps", "describe_steps", "may_be_random"]


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


def describe_steps(transform: Any) -> dict[str, Any]:
    """Each step of a transform, by its place: plain values for people, and all of it as a hash, ``content``.

    Raises:
        ValueError: when a step cannot be described.

    Example:
        >>> from monai.transforms import Lambdad
        >>> one, other = (describe_steps(Lambdad("image", f)) for f in (lambda x: x * 2, lambda x: x * 3))
        >>> one["0"]["class"], one == other
        ('Lambdad', False)
    """
    steps = _steps(_listed(transform), random=True)
    return {str(place): _described(step) for place, step in enumerate(steps)}


def _described(step: Any) -> dict[str, Any]:
    try:
        return {**describe_settings(step), "content": value_hash(step)}
    except NotDescribedError as error:
        raise ValueError(
            "transform: expected steps that can be told from others, as what they give is kept, but "
            f"{type(step).__name__} holds {error}; make it without that, or keep nothing (cache_dir=None, "
            "checkpoint=None)"
        ) from None
