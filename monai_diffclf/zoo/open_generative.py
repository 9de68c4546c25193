# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Open a generative bundle as a classifier."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai.transforms import Compose, Orientationd, ScaleIntensityRanged

from .._text_path import text_path
from ..bundle import Bundle, open_bundle
from ..image_io import ReadImaged
from .conditions import read_conditions
from .parts import GenerativeParts, read_parts

__all__ = ["ZOO", "open_generative_bundle", "zoo_preprocessing"]

ZOO = Path(__file__).resolve().parent
"""A bundle of its own, whose configuration says how generative bundles classify."""


def open_generative_bundle(
    bundle: str | os.PathLike[str], conditions: str | os.PathLike[str], **settings: Any
) -> Bundle:
    """A diffusion model in MONAI's bundle format, such as of its model zoo, as a zero-shot classifier.

    Its autoencoder, diffusion network, scheduler, scaling factor and checkpoints are found in its own configuration,
    see `read_parts`, which says how far it is trusted; the classes are the conditions of a file, see
    `read_condition_file`. The error of each class is that of the network under its condition, without guidance.

    Args:
        bundle: the bundle's folder.
        conditions: the file of conditions, YAML or JSON.
        settings: plain values by their ids in ``monai_diffclf/zoo/configs/inference.json``, such as ``num_draws``,
            ``image_size``, ``text_encoder`` (local folder), ``embeddings`` (file) or ``scale_factor``.

    Raises:
        ValueError: when the folder is no bundle, a part or checkpoint is missing, or the conditions do not fit.

    Example:
        >>> open_generative_bundle("no-such-folder", "conditions.yaml")
        Traceback (most recent call last):
        ValueError: generative-bundle: expected a bundle's folder, which holds configs/inference.json, got ...
    """
    opened = open_bundle(ZOO, **settings)
    root = text_path(bundle, "generative-bundle").expanduser().resolve()
    names = ("config_file", "diffusion", "autoencoder", "noise_scheduler", "scale_factor")
    parts = read_parts(root, **{name: opened.get(name) for name in names}, on_gpu=opened.device.type == "cuda")
    folders = {name: opened.get(name) for name in ("text_encoder", "embeddings")}
    found = read_conditions(
        text_path(conditions, "conditions").expanduser(),
        parts,
        **{name: None if path is None else Path(path).expanduser() for name, path in folders.items()},
    )
    parser = opened.parser
    parser["parts"], parser["conditioning"], parser["classes"] = parts, found, found.classes
    parser["image_size"] = list(_image_size(parts, opened.get("image_size")))
    parser["bundle_root"] = str(root)
    return replace(opened, root=root, notes=parts.notes)


def zoo_preprocessing(
    image_size: Sequence[int],
    channels: int,
    value_range: Sequence[float] = (0.0, 1.0),
    window: Sequence[float] | None = None,
    resize: bool = True,
) -> Compose:
    """From files to images as MONAI's generative bundles take them: planes upright, volumes by RAS axes.

    Args:
        image_size: size of an image: [H, W] of a plane, [R, A, S] of a volume.
        channels: its channels.
        value_range: what black and white become.
        window: stored values of a NIfTI file that become black and white, such as -1000 and 1000 HU; None for its
            lowest and highest, see `ReadImage`.
        resize: whether images of another size are cropped and resized, or refused.
    """
    size = [int(n) for n in image_size]
    # Volumes are read as rows to the back, columns to the left, slices to the head.
    upright = size if len(size) == 2 else [size[1], size[0], size[2]]
    transforms: list[Any] = [ReadImaged("image", upright, channels=channels, resize=resize, window=window)]
    if len(size) == 3:
        transforms.append(Orientationd("image", axcodes="RAS", labels=None))
    low, high = (float(value) for value in value_range)
    transforms.append(ScaleIntensityRanged("image", a_min=0.0, a_max=1.0, b_min=low, b_max=high, clip=True))
    return Compose(transforms)


def _image_size(parts: GenerativeParts, given: Any) -> tuple[int, ...]:
    """The size of an image: the one given, else that of the bundle's metadata."""
    size = [given] * parts.spatial_dims if isinstance(given, int) else given or parts.image_size
    if not size:
        raise ValueError(
            f"image_size: expected it in the metadata of {parts.root.name} (outputs, pred, spatial_shape), which say "
            "none; give it, such as --set image_size=[512,512]"
        )
    if len(size) != parts.spatial_dims:
        raise ValueError(
            f"image_size: expected {parts.spatial_dims} numbers, as the network of {parts.root.name} has so many "
            f"spatial dimensions, got {list(size)}"
        )
    return tuple(int(n) for n in size)
