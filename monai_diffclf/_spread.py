# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Some items for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

__all__ = ["spread"]

T = TypeVar("T")


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many items, spread evenly over all.

    Example:
        >>> spread(range(11), 3), spread("ab", 3)
        ([0, 5, 10], ['a', 'b'])
    """
    if len(items) <= most:
        return list(items)
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, most).round()]
