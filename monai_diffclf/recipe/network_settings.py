# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What follows from size and channels alone: the network, how it decides, and the augmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

__all__ = [
    "augmentation_configs",
    "augmentation_settings",
    "decision_settings",
    "latent_configs",
    "latent_settings",
    "network_settings",
    "representation_settings",
]

INSIDE = 16  # px that the network sees after the wavelet transform
NARROWEST = 12  # px inside below which it has one resolution less
ADAPTATION = {"epochs": 8, "learning_rate": 5e-4}  # what fine-tunes an encoder, see adapt_encoder
COMPONENTS = 64  # principal components of a cell, where so many can be found
TEMPERATURE = 0.05  # of the probabilities, before fit learns it


def network_settings(size: tuple[int, int], channels: int) -> tuple[dict[str, Any], str]:
    """Settings of the wavelet U-Net that works on about 16 x 16 px inside, and why.

    Each level of the wavelet makes four channels of one and halves both sides.

    Args:
        size: height and width of the images.
        channels: 1 or 3.

    Example:
        >>> network_settings((64, 64), 1)[0]["denoiser#levels"], network_settings((28, 28), 1)[0]["denoiser#levels"]
        (2, 1)
    """
    levels = max(1, round(math.log2(max(size) / INSIDE)))
    inside = [math.ceil(side / 2**levels) for side in size]
    # The first convolution should not have to throw away most of the wavelet coefficients.
    widths = [32, 64, 64] if channels * 4**levels <= 48 else [64, 96, 96]
    if min(inside) < NARROWEST:
        widths = widths[:2]
    settings = {
        "denoiser#levels": levels,
        "denoiser#channels": widths,
        "denoiser#attention_levels": [False] * (len(widths) - 1) + [True],
        "denoiser#num_res_blocks": 2,
        "denoiser#precondition": True,
    }
    return settings, (
        f"{levels} wavelet level{'s' if levels > 1 else ''}, so that the network works on {inside[0]} x {inside[1]} px "
        f"inside, which a CPU can train; {', '.join(map(str, widths))} channels, attention at the coarsest resolution. "
        "What noise tells of a wavelet coefficient by its spread alone is led past it."
    )


def representation_settings(
    encoder: str,
    grid: Sequence[int],
    *,
    adapt: bool,
    layers: Sequence[str] | None = None,
    components: int = COMPONENTS,
) -> tuple[dict[str, Any], list[str]]:
    """Settings of a diffusion transformer on an encoder's features, and why.

    Args:
        encoder: name of the encoder.
        grid: the cells that it makes of an image.
        adapt: whether it is fine-tuned first.
        layers: the layers whose maps are joined; None for the encoder's own choice.
        components: principal components of a cell.

    Example:
        >>> settings, reasons = representation_settings("efficientnet_lite0", [7, 7], adapt=False)
        >>> settings["grid"], len(reasons)
        ([7, 7], 2)
    """
    settings: dict[str, Any] = {"encoder_name": encoder, "grid": list(grid), "num_components": components}
    settings |= {} if layers is None else {"encoder_layers": list(layers)}
    state = "frozen: it stays as it was published, and results say so"
    if adapt:
        settings["adaptation"] = dict(ADAPTATION)
        # Fine-tuned features tell classes apart at other noise levels than published ones do: what the training
        # has learned of the levels counts (docs/protocol.md, diffusion_adapted).
        settings["weighting"] = "learned"
        state = (
            f"adapted: fine-tuned on the training images for {ADAPTATION['epochs']} epochs first, and results say so; "
            "it must have seen none of your test images"
        )
    of = "" if layers is None else f" by its layers {', '.join(layers)}"
    few = "" if components == COMPONENTS else ", as many as the encoder's features and the training images allow,"
    return settings, [
        f"The encoder {encoder} makes {' x '.join(map(str, grid))} tokens of an image{of}; it is {state}.",
        f"A diffusion transformer of 3 layers works on {components} principal components of these{few or ','} with the "
        "contrastive term, which makes few noise draws enough.",
    ]


def latent_settings(encoder: str, grid: Sequence[int], channels: int) -> tuple[dict[str, Any], list[str]]:
    """Settings of a diffusion transformer on an autoencoder's latents, and why.

    Args:
        encoder: ``"autoencoder:FOLDER"``.
        grid: the cells of the latents of an image.
        channels: channels of the latents.

    Example:
        >>> settings, _ = latent_settings("autoencoder:taef2", [16, 16], 32)
        >>> settings["num_components"], settings["denoiser#patch_size"]
        (32, 2)
    """
    patch = 1 if any(cells % 2 for cells in grid) else 2
    settings = {
        "encoder_name": encoder,
        "grid": list(grid),
        "num_components": channels,
        "denoiser#patch_size": patch,
        # All levels, from hardly any noise to hardly anything else, as generating needs them.
        "scheduler#schedule": "cosine_log_snr",
        "scheduler#log_snr_min": -10.0,
        "scheduler#log_snr_max": 10.0,
        "contrastive_weight": 0.0,
    }
    cells = " x ".join(map(str, grid))
    return settings, [
        f"The autoencoder makes latents of {channels} channels on {cells} cells of an image, and images of latents; it "
        "stays as it is.",
        f"A diffusion transformer of 3 layers works on patches of {patch} x {patch} cells, without the contrastive "
        "term, so that it can also generate: counterfactuals are decoded to images.",
    ]


def latent_configs() -> dict[str, dict[str, Any]]:
    """What no setting can say: an autoencoder encodes and decodes where the network is."""
    return {name: {"space": {"device": "@device"}} for name in ("evaluate.json", "inference.json")}


def decision_settings() -> tuple[dict[str, Any], str]:
    """How the class is found from the denoising errors, and why."""
    settings = {
        "rule": "mean",
        "weighting": "min_snr",
        "temperature": TEMPERATURE,
        "validate#inferer#weighting": "min_snr",
        "validate#inferer#temperature": TEMPERATURE,
    }
    return settings, (
        "The class with the smallest mean error wins, little noise weighing less (min-SNR): of the rules it needs the "
        "fewest draws."
    )


def augmentation_settings() -> tuple[dict[str, Any], str]:
    """Small changes that are safe whatever an image shows, and why: nothing is mirrored or turned far."""
    settings = {
        "augmentation#flip#prob": 0.0,
        "augmentation#affine#prob": 1.0,
        "augmentation#affine#rotate_range": 0.1,
        "augmentation#affine#scale_range": [0.1, 0.1],
        "augmentation#contrast#prob": 0.5,
        "augmentation#contrast#gamma": [0.8, 1.25],
    }
    return settings, (
        "Training images are turned, scaled and moved a little, and their contrast varies; they are not mirrored, "
        "because left and right may differ: where they do not, train with --set augmentation#flip#prob=0.5."
    )


def augmentation_configs(size: tuple[int, int]) -> dict[str, dict[str, Any]]:
    """What no setting can say: a shift of up to 3 % along both axes, and nothing that takes more time than it helps.

    MONAI takes one number for the first axis alone.
    """
    shift = [round(0.03 * side, 1) for side in size]
    changes = {"~brightness": None, "~offset": None, "affine": {"translate_range": shift}}
    return {"train.json": {"augmentation": changes}}
