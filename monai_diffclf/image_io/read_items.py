# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the dictionary-based reading transforms have in common."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import InvertibleTransform, MapTransform

__all__ = ["ReadItems"]


class ReadItems(MapTransform, InvertibleTransform):
    """Reads under some keys of an item, by the transform ``read`` that a subclass sets."""

    read: Any

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each image of the item, a path or an array, by its tensor."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.read(item[key], name=str(item.get("key", "")))
        return item

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring each map of the item back to its file, see the ``inverse`` of ``read``."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.read.inverse(item[key])
        return item
