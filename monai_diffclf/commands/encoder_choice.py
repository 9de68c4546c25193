# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The encoder that ``new-bundle`` is given: what it makes of an image, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from ..recipe import EncoderChoice
from ..recipe.image_size import ENCODED, LARGEST_ENCODED, LEAST
from ..recipe.network_settings import COMPONENTS
from ..representations import Encoder, make_encoder

__all__ = ["choose_encoder"]


def choose_encoder(
    method: str | None,
    encoder: str | None,
    *,
    layers: str | None = None,
    adapt: bool = False,
    size: Sequence[int] | None = None,
) -> EncoderChoice | None:
    """The encoder and what it makes of an image; None for a model without.

    Args:
        method: the option ``--method``, None where it was not given, as the others.
        encoder: ``--encoder``.
        layers: ``--layers``, names with commas between.
        adapt: ``--adapt``.
        size: height and width that were asked for.

    Raises:
        click.UsageError: when options do not go together, or the encoder cannot be what they ask for.
        ValueError: when the encoder cannot be made.
    """
    if encoder is None and method != "representation":
        if adapt:
            raise click.UsageError("--adapt: needs --encoder, the network to fine-tune")
        if layers is not None:
            raise click.UsageError("--layers: needs --encoder, the network whose layers they are")
        return None
    if method not in (None, "representation"):
        raise click.UsageError(f"--encoder: works with the method representation alone, got --method {method}")
    if encoder == "monai":
        raise click.UsageError(
            "--encoder: monai is a network that a program gives to make_encoder; export yours with its weights and "
            "give the file: torchscript:FILE, of torch.jit.script(network.eval()).save(FILE), or onnx:FILE"
        )
    name = _with_whole_path(encoder or "efficientnet_lite0")
    sides = tuple(size or (ENCODED, ENCODED))
    if not all(LEAST <= side <= LARGEST_ENCODED for side in sides):
        raise ValueError(
            f"--image-size: expected {LEAST} to {LARGEST_ENCODED} px with --encoder, got {'x'.join(map(str, sides))}"
        )
    named = None if layers is None else tuple(layer.strip() for layer in layers.split(","))
    made = make_encoder(name, layers=named, image_size=sides)
    latents = made.out_channels if name.startswith("autoencoder:") else None
    if adapt:
        _check_adaptable(name, made, latents)
    # Where a layer is normalised, as a transformer's last one is, its features have a direction less.
    directions = max(1, made.out_channels - len(made.layers))
    return EncoderChoice(name, made.grid(sides), adapt, latents, named, min(COMPONENTS, directions))


def _check_adaptable(name: str, made: Encoder, latents: int | None) -> None:
    """Refuse to fine-tune what cannot be."""
    if latents is not None:
        raise click.UsageError("--adapt: works with the features of an encoder, not with an autoencoder's latents")
    if not made.trainable:
        raise click.UsageError(
            f"--adapt: expected an encoder with weights that can be trained, but {name} has none, as ONNX files and "
            "frozen exports have; leave --adapt out, or export the network to TorchScript without freezing it"
        )


def _with_whole_path(encoder: str) -> str:
    """``torchscript:FILE`` or ``timm:NAME:FILE`` with the whole path, as later commands run in other folders."""
    kind, colon, place = encoder.partition(":")
    if kind == "timm":
        name, colon, place = place.partition(":")
        kind = f"timm:{name}"
    return f"{kind}:{os.path.abspath(place)}" if colon and os.path.exists(place) else encoder
