# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the processes of a distributed evaluation tell each other."""

from __future__ import annotations

from itertools import chain
from typing import Any, TypeVar, cast

import ignite.distributed as idist

__all__ = ["gather"]

_Item = TypeVar("_Item")


def gather(items: list[_Item]) -> list[_Item]:
    """The items of all processes, those of the first one first; every process must call it, and gets them all.

    Example:
        >>> gather(["a", "b"])  # of one process
        ['a', 'b']
    """
    if idist.get_world_size() == 1:
        return items
    return list(chain.from_iterable(cast(Any, idist.all_gather(cast(Any, items)))))
