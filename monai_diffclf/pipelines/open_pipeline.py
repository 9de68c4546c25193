# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Opening a text-to-image pipeline as a classifier."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..networks import AutoencoderSpace
from .diffusers_pipeline import DiffusersPipeline
from .networks import PipelineNetwork, TextTransformer, TextUNet
from .pipeline_folder import read_pipeline
from .prompts import PromptConditioning, check_lengths, check_prompts, encode_prompts, in_order
from .quiet_loading import quiet_loading
from .scheduler import monai_scheduler
from .weights import load_pipeline_weights

__all__ = ["open_diffusers_pipeline"]


def open_diffusers_pipeline(
    folder: str | os.PathLike[str] | None,
    prompts: Mapping[str, str | Sequence[str]],
    *,
    channels: int = 3,
    classes: Sequence[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> DiffusersPipeline:
    """Open a Stable Diffusion pipeline in a local folder as a zero-shot classifier (Li et al., ICCV 2023).

    Stable Diffusion 1 and 2 (which predict the noise or v), XL and 3 (a flow). Each prompt is encoded once; the text
    encoders are not kept. Needs the extra ``diffusers``; nothing is downloaded.

    Args:
        folder: a folder with ``model_index.json`` and safetensors, as diffusers writes it; None is refused.
        prompts: of each class its prompt, or several; the order of the classes is that of their labels.
        channels: channels of the images: 3, or 1 for grey images, which are repeated.
        classes: names of the classes in the order of their labels, where something else, such as a bundle, has them:
            there must be prompts of each and of no other. None for the order of the prompts.
        weights: safetensors file of weights that were trained here, LoRA or all, see `save_pipeline_weights`.
        dtype: dtype of the weights, in which the networks then run: half precision takes half the memory. With float16
            an autoencoder that would overflow stays in float32 (``force_upcast`` of its folder).
        device: where networks and encoded prompts are.

    Raises:
        TypeError: when a prompt is no text.
        ValueError: when the extra or a part is missing, parts do not fit each other, a prompt is longer than an encoder
            takes, or classes have the same prompts.

    Example:
        >>> open_diffusers_pipeline("no-such-folder", {"normal": "a normal chest X-ray", "effusion": "an effusion"})
        Traceback (most recent call last):
        ValueError: folder: expected a local folder with model_index.json, as diffusers writes pipelines, got ...
    """
    names, texts = check_prompts(prompts if classes is None else in_order(prompts, classes))
    pipeline = read_pipeline(folder, dtype)
    every = [text for each in texts for text in each]
    check_lengths(pipeline, every)
    with quiet_loading():  # of half precision on a CPU diffusers says that it does not work
        pipeline = pipeline.to(device)
    if dtype == torch.float16 and getattr(pipeline.vae.config, "force_upcast", False):
        pipeline.vae.float()  # as diffusers itself does: SDXL's overflows in half precision
    space = AutoencoderSpace(pipeline.vae, channels=channels)
    network = _network(pipeline, space)
    by_prompt = encode_prompts(pipeline, every, device)
    _check_widths(network, by_prompt)
    if weights is not None:
        load_pipeline_weights(network, weights)
    scheduler = monai_scheduler(pipeline.scheduler)
    return DiffusersPipeline(
        type(pipeline).__name__, names, texts, network.to(device).eval(), scheduler, by_prompt, space
    )


def _network(pipeline: Any, space: AutoencoderSpace) -> PipelineNetwork:
    """The pipeline's network, which must take the latents of its autoencoder."""
    model = pipeline.transformer if hasattr(pipeline, "transformer") else pipeline.unet
    taken, given = model.config.in_channels, pipeline.vae.config.latent_channels
    if taken != given:
        raise ValueError(
            f"folder: expected a network of the {given} latent channels of its vae, got one of {taken}; such as for "
            "inpainting need more than a noisy image"
        )
    if hasattr(pipeline, "transformer"):
        return TextTransformer(model)
    stride = space.stride if isinstance(space.stride, int) else space.stride[0]
    return TextUNet(model, stride)


def _check_widths(network: PipelineNetwork, by_prompt: PromptConditioning) -> None:
    for name, width in network.widths.items():
        found = by_prompt.tables[name].shape[-1] if name in by_prompt.tables else None
        if found != width:
            raise ValueError(
                f"folder: expected text encoders that give {name} of width {width}, which the {network.part} takes, "
                f"got {found}; the parts are of different pipelines"
            )
