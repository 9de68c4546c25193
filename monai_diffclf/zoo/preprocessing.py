# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From files to images as a generative model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.transforms import Compose, Orientationd, ScaleIntensityRanged

from .._class_names import shown
from ..image_io import ReadImaged
from .parts import GenerativeParts

__all__ = ["choose_size", "zoo_preprocessing"]


def zoo_preprocessing(
    image_size: Sequence[int],
    channels: int,
    value_range: Sequence[float] = (0.0, 1.0),
    window: Sequence[float] | None = None,
    resize: bool = True,
    repeat_grey: bool = False,
) -> Compose:
    """From files to images as MONAI's generative bundles take them: planes upright, volumes by RAS axes.

    Args:
        image_size: size of an image: [H, W] of a plane, [R, A, S] of a volume.
        channels: its channels.
        value_range: what black and white become.
        window: stored values of a NIfTI file that become black and white, such as -1000 and 1000 HU; None for its
            lowest and highest, see `ReadImage`.
        resize: whether images of another size are cropped and resized, or refused.
        repeat_grey: whether grey images are repeated as three channels where three are expected.
    """
    size = [int(n) for n in image_size]
    # Volumes are read as rows to the back, columns to the left, slices to the head.
    upright = size if len(size) == 2 else [size[1], size[0], size[2]]
    read = ReadImaged("image", upright, channels=channels, resize=resize, window=window, repeat_grey=repeat_grey)
    transforms: list[Any] = [read]
    if len(size) == 3:
        transforms.append(Orientationd("image", axcodes="RAS", labels=None))
    low, high = (float(value) for value in value_range)
    transforms.append(ScaleIntensityRanged("image", a_min=0.0, a_max=1.0, b_min=low, b_max=high, clip=True))
    return Compose(transforms)


def choose_size(parts: GenerativeParts, given: Any) -> tuple[int, ...]:
    """The size of an image: the one given, one number for a square or a cube, else that which the model was made for.

    Raises:
        ValueError: when there is none, or it does not suit the network.
    """
    axes = parts.spatial_dims
    if given is None and not parts.image_size:
        raise ValueError(
            f"image_size: expected it in {parts.root.name} (metadata.json: outputs, pred, spatial_shape; of a pipeline "
            "sample_size of its network), which does not say it; give it, such as --set image_size=[512,512]"
        )
    size = list(parts.image_size) if given is None else [given] * axes if isinstance(given, int) else given
    several = isinstance(size, list | tuple) and all(isinstance(n, int) and not isinstance(n, bool) for n in size)
    if not several or len(size) != axes or any(n < 1 for n in size):
        raise ValueError(
            f"image_size: expected {axes} numbers of pixels, as the network of {parts.root.name} has so many spatial "
            f"dimensions, got {shown(given)}"
        )
    return tuple(size)
