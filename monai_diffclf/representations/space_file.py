# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A representation space as one file."""

from __future__ import annotations

import os
from typing import Any

import torch

from ..networks import AutoencoderSpace
from ..networks.weights_content import read_torch_file
from ..storage.torch_file import write_torch_file
from .autoencoder_encoder import FORMAT as AUTOENCODER
from .autoencoder_encoder import GIVEN, read_autoencoder
from .encoder import Encoder
from .make_encoder import make_encoder
from .representation_space import RepresentationSpace

__all__ = ["load_space", "save_space"]

FORMAT = "monai_diffclf representation 1"


def save_space(path: str | os.PathLike[str], space: RepresentationSpace) -> None:
    """Write a fitted space into one file: settings, principal components, and the encoder's name and version.

    Of a frozen encoder no weights are written, only their hash; those of an adapted one are.

    Args:
        path: the file; it is replaced as a whole.
        space: the space.

    Raises:
        ValueError: when the space is not fitted.
    """
    encoder = space.encoder
    content = {
        "format": FORMAT,
        "version": space.version,
        "encoder": {"source": encoder.source, "name": encoder.name, "version": encoder.version},
        "adapted": encoder.adapted,
        "weights": dict(encoder.network.state_dict()) if encoder.adapted else None,
        "settings": {
            "num_components": space.num_components,
            "whitening": space.whitening,
            "global_token": space.global_token,
            "amp_dtype": None if space.amp_dtype is None else str(space.amp_dtype).removeprefix("torch."),
        },
        "image_size": list(space.image_size),
        "components": space.component_tensors(),
    }
    write_torch_file(path, content)


def load_space(
    path: str | os.PathLike[str], encoder: Encoder | None = None, device: torch.device | str | None = None
) -> RepresentationSpace | AutoencoderSpace:
    """Read a file of `save_space`, or of `prepare_space` for an autoencoder.

    Args:
        path: the file.
        encoder: the encoder; None to make it anew by its name, which ``"monai"`` and an encoder whose file has moved do
            not allow.
        device: where an autoencoder is to encode and decode, None for the CPU; another encoder follows its images.

    Raises:
        ValueError: when the file cannot be read, or the encoder has other weights than the space was fitted with.
    """
    content = read_torch_file(path, what="a representation")
    if isinstance(content, dict) and content.get("format") == AUTOENCODER:
        return read_autoencoder(path, content, encoder or _autoencoder_again(path, content["encoder"]), device)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"path: expected a file of save_space, got another in {path}")
    made = content["encoder"]
    if encoder is None:
        encoder = _made_again(path, made, content["adapted"])
    if content["adapted"] and encoder.version != made["version"]:
        encoder.network.load_state_dict(content["weights"])
        encoder.adapted = content["adapted"]
    if encoder.version != made["version"]:
        raise ValueError(
            f"encoder: expected the {made['name']} that the representation in {path} was fitted with (version "
            f"{made['version']}), got {encoder.name} of version {encoder.version}: other weights, layers or scaling"
        )
    settings = dict(content["settings"])
    settings["amp_dtype"] = None if settings["amp_dtype"] is None else getattr(torch, settings["amp_dtype"])
    space = RepresentationSpace(encoder, **settings)
    missing = space.load_state_dict(content["components"], strict=False)
    if any(name.startswith(("components", "global")) for name in missing.missing_keys) or missing.unexpected_keys:
        raise ValueError(f"path: expected the principal components of the space in {path}, got others")
    space.image_size = tuple(content["image_size"])
    if space.version != content["version"]:
        raise ValueError(f"path: the content of {path} is not what was written ({content['version']}); copy it again")
    return space


def _autoencoder_again(path: str | os.PathLike[str], made: dict[str, Any]) -> Encoder:
    source = made["source"]
    if source.get("name") == GIVEN:
        raise ValueError(
            f"encoder: expected {source['origin']}, which {path} does not hold; give load_space(path, "
            "encoder=given_autoencoder(FOLDER)) one with the same weights"
        )
    return make_encoder(**source)


def _made_again(path: str | os.PathLike[str], made: dict[str, Any], adapted: str | bool) -> Encoder:
    source = dict(made["source"])
    if source.get("name") in (None, "monai"):
        raise ValueError(
            f"encoder: expected the encoder {made['name']}, which the representation in {path} does not hold; give "
            "load_space(path, encoder=...) one with the same weights"
        )
    if adapted and source["name"] == "efficientnet_lite0":  # its own weights come from this file
        source["pretrained"] = False
    return make_encoder(**source)
