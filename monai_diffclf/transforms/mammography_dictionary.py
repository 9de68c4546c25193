# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The transforms of `mammography` for dictionaries, as data sets of MONAI hold their items."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

from .mammography import CropBreast, EqualizeAdaptive, FlipToSide, ReadMammogram, ResizeAndPad, SuppressBackground


class _EachKey(MapTransform):
    """Applies `array_form` to the images under the keys, and names them by the item's key in messages.

    Args:
        keys: keys of the images.
        args: arguments of the array form.
        allow_missing_keys: leave out a key that the item lacks instead of raising.
        kwargs: arguments of the array form.
    """

    array_form: type[Transform]

    def __init__(self, keys: KeysCollection, *args: Any, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform: Callable[..., torch.Tensor] = self.array_form(*args, **kwargs)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform the images of the item."""
        item = dict(data)
        for key in self.key_iterator(item):
            image = item[key]
            name = "" if isinstance(image, MetaTensor) else str(item.get("key", ""))
            item[key] = self.transform(image, name=name, **self.options(item))
        return item

    def options(self, item: Mapping[Hashable, Any]) -> dict[str, Any]:
        """What the transform is to know of the item."""
        return {}


class ReadMammogramd(MapTransform):
    """Dictionary form of `ReadMammogram`.

    Args:
        keys: keys of the paths.
        allow_missing_keys: leave out a key that the item lacks instead of raising.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.read = ReadMammogram()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each path of the item by its image."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.read(item[key])
        return item


class CropBreastd(_EachKey):
    """Dictionary form of `CropBreast`: keys of the images, its arguments, ``allow_missing_keys``.

    Example:
        >>> image = torch.zeros(1, 40, 30)
        >>> image[:, 10:30, 18:] = 0.5
        >>> tuple(CropBreastd("image", margin=2)({"image": image})["image"].shape)
        (1, 24, 14)
    """

    array_form = CropBreast


class SuppressBackgroundd(_EachKey):
    """Dictionary form of `SuppressBackground`: keys of the images, ``allow_missing_keys``.

    Example:
        >>> image = torch.zeros(1, 40, 30)
        >>> image[:, 10:30, 18:] = 0.5
        >>> bool((SuppressBackgroundd("image")({"image": image})["image"] == image).all())
        True
    """

    array_form = SuppressBackground


class FlipToSided(_EachKey):
    """Dictionary form of `FlipToSide`.

    Args:
        keys: keys of the images.
        side: see `FlipToSide`.
        laterality_key: key of the laterality, "L" or "R", that decides; None: the image does.
        allow_missing_keys: leave out a key that the item lacks instead of raising.

    Example:
        >>> image = torch.zeros(1, 40, 30)
        >>> image[:, 10:30, 18:] = 0.5
        >>> FlipToSided("image")({"image": image})["image"][0, 20, :3].tolist()
        [0.5, 0.5, 0.5]
    """

    array_form = FlipToSide

    def __init__(
        self,
        keys: KeysCollection,
        side: str = "left",
        laterality_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, side, allow_missing_keys=allow_missing_keys)
        self.laterality_key = laterality_key

    def options(self, item: Mapping[Hashable, Any]) -> dict[str, Any]:
        """The laterality of the item; an item without one is refused rather than judged by its image."""
        return {} if self.laterality_key is None else {"laterality": item.get(self.laterality_key, "")}


class EqualizeAdaptived(_EachKey):
    """Dictionary form of `EqualizeAdaptive`: keys of the images, its arguments, ``allow_missing_keys``.

    Example:
        >>> image = torch.zeros(1, 40, 30)
        >>> image[:, 10:30, 18:] = 0.5
        >>> float(EqualizeAdaptived("image", clip_limit=0.02)({"image": image})["image"].max())
        1.0
    """

    array_form = EqualizeAdaptive


class ResizeAndPadd(_EachKey):
    """Dictionary form of `ResizeAndPad`: keys of the images, its arguments, ``allow_missing_keys``.

    Example:
        >>> image = torch.zeros(1, 40, 30)
        >>> image[:, 10:30, 18:] = 0.5
        >>> tuple(ResizeAndPadd("image", 64)({"image": image})["image"].shape)
        (1, 64, 64)
    """

    array_form = ResizeAndPad


ReadMammogramD = ReadMammogramDict = ReadMammogramd
CropBreastD = CropBreastDict = CropBreastd
SuppressBackgroundD = SuppressBackgroundDict = SuppressBackgroundd
FlipToSideD = FlipToSideDict = FlipToSided
EqualizeAdaptiveD = EqualizeAdaptiveDict = EqualizeAdaptived
ResizeAndPadD = ResizeAndPadDict = ResizeAndPadd
