# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The cheap classifier of a cascade, from a bundle of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from monai.transforms import Compose

from ..image_io.map_file import intensity_scaling
from ..inferers import SoftmaxClassifierInferer
from .open_bundle import open_bundle
from .opened import Bundle

__all__ = ["open_first"]


def open_first(
    bundle: str | os.PathLike[str] | None,
    run: str | os.PathLike[str] | None = None,
    *,
    classes: Sequence[str],
    channels: int,
    device: torch.device | str = "cpu",
    preprocessing: Compose | None = None,
) -> Bundle:
    """Open the bundle whose classifier answers first in a cascade (``cascade.json``).

    Args:
        bundle: its folder or name; its inferer is a `SoftmaxClassifierInferer`.
        run: folder of its training; None for the weights it ships.
        classes: names of the second classifier's classes in their order.
        channels: channels of its images.
        device: where the networks are.
        preprocessing: the second classifier's, whose images the first gets; None checks no scaling.

    Raises:
        ValueError: when none is named, or it has other classes, channels, another scaling of intensities or another
            kind of classifier.
    """
    if bundle is None:
        raise ValueError("first: expected the folder or name of a bundle that answers first, got none; give --first")
    opened = open_bundle(bundle, run=run, device=str(device), progress=False)
    if opened.classes != list(classes) or opened.channels != channels:
        raise ValueError(
            f"first: expected the classes {list(classes)} of {channels} channel(s), as the second classifier has, got "
            f"{opened.classes} of {opened.channels} in {opened.name}"
        )
    if not isinstance(opened.inferer, SoftmaxClassifierInferer):
        kind = type(opened.inferer).__name__
        raise ValueError(f"first: expected a bundle with a SoftmaxClassifierInferer, got {kind} in {opened.name}")
    own, given = _scaling(opened.get("preprocessing")), None if preprocessing is None else _scaling(preprocessing)
    if given is not None and own is not None and own != given:
        raise ValueError(
            f"first: expected images scaled from {given[:2]} to {given[2:]}, as the second classifier gives them, got "
            f"{own[:2]} to {own[2:]} in {opened.name}; train it on images that are scaled as the second's"
        )
    return opened


def _scaling(preprocessing: Compose) -> tuple[float, ...] | None:
    """From which and to which numbers intensities are brought; None where nothing says it."""
    scaler = intensity_scaling(preprocessing.transforms)
    if scaler is None or scaler.b_min is None or scaler.b_max is None:
        return None
    return tuple(float(end) for end in (scaler.a_min, scaler.a_max, scaler.b_min, scaler.b_max))
