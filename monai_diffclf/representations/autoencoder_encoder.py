# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The encoder of an autoencoder as an encoder by name, and the latent space that it makes with its decoder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..networks import AutoencoderSpace, latent_scaling, load_autoencoder
from ..storage.torch_file import write_torch_file
from .encoder import Encoder
from .named_layers import OUTPUT

__all__ = ["AutoencoderCodes", "fit_autoencoder", "make_autoencoder_encoder", "read_autoencoder", "save_autoencoder"]

FORMAT = "monai_diffclf autoencoder 1"
GIVEN = "given"
"""Name of an autoencoder whose folder is given anew each time, see `given_autoencoder`."""


class AutoencoderCodes(nn.Module):
    """A network whose output are the codes of an autoencoder, unscaled.

    Args:
        autoencoder: see :class:`monai_diffclf.networks.AutoencoderSpace`.

    Example:
        >>> from monai_diffclf.networks.nets import TinyAutoencoder
        >>> AutoencoderCodes(TinyAutoencoder(4, features=8))(torch.zeros(1, 3, 16, 16)).shape
        torch.Size([1, 4, 2, 2])
    """

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.plain = AutoencoderSpace(autoencoder, scaling_factor=1.0, shift_factor=0.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Codes [B, c, *grid] of images [B, C, *spatial] in [-1, 1]."""
        return self.plain.encode(images)


def make_autoencoder_encoder(folder: str | os.PathLike[str], settings: Mapping[str, Any]) -> Encoder:
    """The encoder ``"autoencoder:FOLDER"`` of `make_encoder`: codes of an autoencoder in a local folder."""
    codes = AutoencoderCodes(load_autoencoder(folder))
    name = f"autoencoder:{type(codes.autoencoder).__name__}"
    return Encoder(codes.eval(), [OUTPUT], name=name, in_channels=codes.plain.channels, **settings)


def fit_autoencoder(encoder: Encoder, batches: Iterable[torch.Tensor], num_components: int) -> AutoencoderSpace:
    """The latent space of an autoencoder, scaled so that the latents of training images have deviation 1.

    Args:
        encoder: what `make_autoencoder_encoder` made.
        batches: training images [B, C, *spatial], without augmentation.
        num_components: channels of the codes, to be checked.

    Raises:
        ValueError: when the codes have other channels.
    """
    if encoder.out_channels != num_components:
        raise ValueError(
            f"num_components: expected {encoder.out_channels}, the channels of the latents of {encoder.name}, got "
            f"{num_components}"
        )
    codes, channels, scaling = encoder.network, 0, 1.0

    def seen() -> Iterable[torch.Tensor]:
        nonlocal channels
        for batch in batches:
            channels = batch.shape[1]
            yield batch.expand(-1, encoder.in_channels, *batch.shape[2:])

    scaling = latent_scaling(codes.plain, seen())  # type: ignore[arg-type]
    return AutoencoderSpace(codes.autoencoder, scaling_factor=scaling, shift_factor=0.0, channels=channels)  # type: ignore[arg-type]


def save_autoencoder(path: str | os.PathLike[str], space: AutoencoderSpace, encoder: Encoder) -> None:
    """Write factors and channels of a space, and which autoencoder it is of; its weights stay in its folder."""
    content = {
        "format": FORMAT,
        "version": space.version,
        "encoder": {"source": _without_folder(encoder.source), "name": encoder.name},
        "settings": {
            "scaling_factor": space.scaling_factor,
            "shift_factor": space.shift_factor,
            "channels": space.channels,
        },
    }
    write_torch_file(path, content)


def read_autoencoder(
    path: str | os.PathLike[str], content: Mapping[str, Any], encoder: Encoder, device: torch.device | str | None
) -> AutoencoderSpace:
    """The space of a file of `save_autoencoder`.

    Raises:
        ValueError: when the autoencoder has other weights than the file was made with.
    """
    network = getattr(encoder.network, "autoencoder", None)
    if not isinstance(network, nn.Module):
        raise ValueError(f"encoder: expected {content['encoder']['name']}, as in {path}, got {encoder.name}")
    space = AutoencoderSpace(network if device is None else network.to(device), **content["settings"])
    if space.version != content["version"]:
        source = encoder.source
        place, remedy = source["name"], "put the former one back, or train anew"
        if place == GIVEN:
            place, remedy = source["folder"], f"take {source['origin']} and {how_to_give()}"
        raise ValueError(
            f"encoder: expected the autoencoder that {path} was made with ({content['version']}), got another in "
            f"{place} ({space.version}); {remedy}"
        )
    return space


def how_to_give() -> str:
    """How a bundle's user says where its autoencoder is."""
    return (
        "put it into the bundle's folder models/autoencoder, or give its own: --set autoencoder=FOLDER, with MONAI's "
        "own command --autoencoder FOLDER"
    )


def _without_folder(source: Mapping[str, Any]) -> dict[str, Any]:
    """Of an autoencoder that is given each time the place on this machine is not kept."""
    return {name: value for name, value in source.items() if source.get("name") != GIVEN or name != "folder"}
