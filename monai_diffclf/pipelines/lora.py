# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Low-rank adapters in the attention of a pipeline's network, by peft."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from .._checks import check_integer
from .._optional import require
from .networks import PipelineNetwork

__all__ = ["add_lora", "has_lora", "merge_lora"]

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


def add_lora(
    network: PipelineNetwork, *, rank: int = 8, alpha: float | None = None, layers: Sequence[str] = ATTENTION
) -> PipelineNetwork:
    """Freeze a pipeline's network and put trainable low-rank adapters beside some of its layers, in place.

    A layer W becomes W + (alpha / rank) B A with A [rank, in] random and B [out, rank] zero, so that nothing changes
    before training (Hu et al., LoRA, ICLR 2022, section 4.1). Only A and B are trained: hand the optimizer the
    parameters with ``requires_grad``. Needs the extra ``diffusers`` (peft).

    Args:
        network: ``network`` of a `DiffusersPipeline`.
        rank: rank of the adapters.
        alpha: scale of the adapters; None for the rank, that is a factor of 1.
        layers: ends of the names of the layers: the projections of all attention layers.

    Returns:
        the network.

    Raises:
        ValueError: when peft is missing, a number is out of range, no layer has such a name, or there are adapters.
    """
    require("peft", argument="network", purpose="LoRA", extra="diffusers")
    rank = check_integer(rank, "rank")
    if alpha is not None and not alpha > 0:
        raise ValueError(f"alpha: expected None or a positive number, got {alpha!r}")
    if has_lora(network):
        raise ValueError("network: expected one without LoRA, got one that has it; merge_lora puts it into the weights")
    names = [name for name, _ in network.model.named_modules()]
    if absent := [layer for layer in layers if not any(f".{name}".endswith(f".{layer}") for name in names)]:
        raise ValueError(
            f"layers: expected ends of names of the network's layers, got {absent}, which no name ends with"
        )
    peft: Any = import_module("peft")
    config = peft.LoraConfig(
        r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=list(layers), init_lora_weights="gaussian"
    )
    model: Any = network.model
    model.requires_grad_(False)
    model.add_adapter(config)
    return network.train(network.training)  # new layers begin in training mode


def merge_lora(network: PipelineNetwork) -> PipelineNetwork:
    """Add the adapters to the weights they stand beside, and take them away; in place.

    The network predicts the same, up to rounding, at the cost it had before.

    Raises:
        ValueError: when there are no adapters.
    """
    if not has_lora(network):
        raise ValueError("network: expected one with LoRA, got one without; add_lora, or weights=FILE, gives it some")
    model: Any = network.model
    model.fuse_lora()
    model.unload_lora()
    model.requires_grad_(True)
    return network


def has_lora(network: PipelineNetwork) -> bool:
    """Whether a network has adapters."""
    return any("lora_" in name for name, _ in network.named_parameters())
