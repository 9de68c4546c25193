# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``metadata.json`` of a bundle: what follows from its settings, and what they say beside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .settings import BundleSettings
from .template import LAYERS, TEMPLATE, lay_over

__all__ = ["build_metadata"]

_CHANNELS = {1: ["image"], 3: ["red", "green", "blue"]}
_HOW = {
    "diffusion": "a class-conditional diffusion model that classifies by which class predicts the noise best",
    "representation": (
        "a class-conditional diffusion model on the features of a pretrained encoder, that classifies by which class "
        "predicts the noise best"
    ),
    "score": "a class-conditional score model that classifies by the likelihood under each class",
    "resnet18": "a ResNet-18",
}


def build_metadata(settings: BundleSettings, configs: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``metadata.json``.

    Args:
        settings: the bundle's settings.
        configs: its configuration files, see `build_configs`.
    """
    made: dict[str, Any] = {}
    for part in (*LAYERS[settings.method], *settings.parts):
        path = TEMPLATE / part / "metadata.json"
        if path.is_file():
            made = lay_over(made, json.loads(path.read_text(encoding="utf-8")))
    made = lay_over(lay_over(made, _texts(settings)), {"network_data_format": _data_format(settings, configs)})
    made = lay_over(made, settings.metadata)
    versions = sorted(made["changelog"].items(), key=lambda entry: [int(n) for n in entry[0].split(".")], reverse=True)
    return {**made, "changelog": dict(versions)}


def _texts(settings: BundleSettings) -> dict[str, str]:
    labels = ", ".join(f"{label} {name}" for label, name in enumerate(settings.classes))
    names = f"{', '.join(settings.classes[:-1])} or {settings.classes[-1]}"
    kind = "grey" if settings.channels == 1 else "RGB"
    return {
        "name": settings.name,
        "task": f"Classification of images: {names}",
        "description": f"{_HOW[settings.method][:1].upper()}{_HOW[settings.method][1:]}.",
        "image_classes": f"{kind} image, intensities scaled to [-1, 1]",
        "label_classes": labels,
        "pred_classes": f"probabilities of {labels}",
    }


def _data_format(settings: BundleSettings, configs: Mapping[str, Any]) -> dict[str, Any]:
    """What goes into the network and comes out of it; sizes after padding."""
    multiple = 1
    if settings.method == "diffusion":
        denoiser = configs["inference.json"]["denoiser"]
        denoiser = denoiser.get("network", denoiser)  # of planes, which a `SliceNetwork` holds
        multiple = 2 ** (denoiser["levels"] + len(denoiser["channels"]) - 1)
    image = {
        "num_channels": settings.channels,
        "spatial_shape": [multiple * -(-side // multiple) for side in settings.image_size],  # type: ignore[union-attr]
        "channel_def": {str(place): name for place, name in enumerate(_CHANNELS[settings.channels])},
    }
    pred = {
        "num_channels": len(settings.classes),
        "channel_def": {str(label): name for label, name in enumerate(settings.classes)},
    }
    return {"inputs": {"image": image}, "outputs": {"pred": pred}}
