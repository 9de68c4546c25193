# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Published weights of diffusion transformers: the names of Peebles and Xie's files, and of diffusers, to ours."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any

import torch

from .nets.dit import SIZES, DiT
from .weights_content import read_tensors

__all__ = ["load_published_dit"]

# Parts of a name in the files of Peebles and Xie -> in ours.
_ORIGINAL = (
    ("x_embedder.proj.", "embed."),
    ("t_embedder.mlp.", "conditions.0.time_embed."),
    ("y_embedder.embedding_table.", "conditions.0.class_embedding."),
    (".attn.proj.", ".attn.out_proj."),
    (".mlp.fc", ".mlp.linear"),
    (".adaLN_modulation.1.", ".modulation."),
    ("final_layer.modulation.", "modulation_out."),
    ("final_layer.linear.", "out."),
)
# In those of diffusers -> in ours; every block has an embedding of its own.
_DIFFUSERS = (
    ("pos_embed.proj.", "embed."),
    ("transformer_blocks.", "blocks."),
    (".attn1.to_out.0.", ".attn.out_proj."),
    (".attn1.to_", ".attn.to_"),
    (".ff.net.0.proj.", ".mlp.linear1."),
    (".ff.net.2.", ".mlp.linear2."),
    (".norm1.linear.", ".modulation."),
    ("proj_out_1.", "modulation_out."),
    ("proj_out_2.", "out."),
)
_EMBEDDING = re.compile(
    r"blocks\.(\d+)\.norm1\.emb\.(?:timestep_embedder\.linear_([12])|class_embedder\.embedding_table)\."
)
_POSITIONS = ("pos_embed", "pos_embed.pos_embed")


def load_published_dit(
    source: str | os.PathLike[str] | Mapping[str, torch.Tensor], *, input_size: int | None = None
) -> DiT:
    """A `DiT` with published weights, such as ``DiT-XL-2-256x256.pt`` of Peebles and Xie (2023), in eval mode.

    Size, patch, channels, classes and whether a variance is predicted follow from the weights; heads from the published
    sizes S, B, L and XL. These models are class-conditional, with the null class last, predict epsilon (and a variance,
    which classification ignores) of latents, and were trained with 1,000 timesteps of MONAI's ``linear_beta`` schedule,
    beta from .0001 to .02.

    Files of diffusers' ``DiTTransformer2DModel`` load too. Its timestep frequencies are 10,000^(-i / 127) where those
    the weights were trained with, and ours, are 10,000^(-i / 128).

    Args:
        source: a file of `torch.save` or of safetensors, read without running code, or a state dict.
        input_size: side of the latents; None for that of the positions in the file or, where it holds none, 32 (images
            of 256 pixels; 64 for 512).

    Raises:
        ValueError: when the weights are of another architecture; names the first layer that differs.

    Example:
        >>> load_published_dit({"x_embedder.proj.weight": torch.zeros(384, 4, 2, 2)})
        Traceback (most recent call last):
        ValueError: source: expected the weights of a published DiT, but x_embedder.proj.bias is missing
    """
    raw = dict(source) if isinstance(source, Mapping) else read_tensors(source)
    if "x_embedder.proj.weight" in raw:
        names, state = "x_embedder.proj.", _renamed(raw, _ORIGINAL)
    elif "pos_embed.proj.weight" in raw:
        names, state = "pos_embed.proj.", _joined(_embeddings(_renamed(raw, _DIFFUSERS)))
    else:
        first = next(iter(raw), "nothing")
        raise ValueError(
            f"source: expected the weights of a published DiT, with x_embedder.proj.weight or pos_embed.proj.weight, "
            f"got others, the first {first}"
        )
    positions = next((raw[name] for name in _POSITIONS if name in raw), None)
    _need(state, "embed.weight", "embed.bias", said={"embed.bias": f"{names}bias"})
    with torch.device("meta"):
        meant = DiT(**_settings(state, positions, input_size))
    for name, weight in meant.state_dict().items():
        if name not in state or state[name].shape != weight.shape:
            found = list(state[name].shape) if name in state else "none"
            raise ValueError(
                f"source: the weights are of another architecture than a published DiT; the first layer that differs "
                f"is {name}: expected {list(weight.shape)}, got {found}"
            )
    if left := sorted(state.keys() - meant.state_dict().keys()):
        raise ValueError(f"source: the weights hold {left[0]}, which a published DiT does not have; {len(left)} in all")
    network = DiT(**_settings(state, positions, input_size))
    _check_positions(network, positions)
    network.load_state_dict(state)
    return network.eval()


def _renamed(raw: Mapping[str, torch.Tensor], parts: tuple[tuple[str, str], ...]) -> dict[str, torch.Tensor]:
    state = {}
    for name, value in raw.items():
        if name in _POSITIONS:
            continue
        for theirs, ours in parts:
            name = name.replace(theirs, ours)
        state[name] = value
    return state


def _embeddings(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The embeddings of diffusers' blocks at their places; one for all where they are the same, as published."""
    found: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if match := _EMBEDDING.match(name):
            layer = "class_embedding" if match[2] is None else f"time_embed.{0 if match[2] == '1' else 2}"
            name = f"conditions.{match[1]}.{layer}.{name[match.end() :]}"
        found[name] = value
    own = {name: value for name, value in found.items() if name.startswith("conditions.")}
    first = {name.split(".", 2)[2]: value for name, value in own.items() if name.startswith("conditions.0.")}
    alike = all(
        name.split(".", 2)[2] in first and torch.equal(value, first[name.split(".", 2)[2]])
        for name, value in own.items()
    )
    spare = {name for name in own if alike and not name.startswith("conditions.0.")}
    return {name: value for name, value in found.items() if name not in spare}


def _joined(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Query, key and value as one layer."""
    joined = {name: value for name, value in state.items() if not re.search(r"\.attn\.to_[qkv]\.", name)}
    for name in state:
        if ".attn.to_q." in name:
            parts = [name.replace(".to_q.", f".to_{part}.") for part in "qkv"]
            _need(state, *parts)
            joined[name.replace(".to_q.", ".qkv.")] = torch.cat([state[part] for part in parts])
    return joined


def _need(state: Mapping[str, torch.Tensor], *names: str, said: Mapping[str, str] | None = None) -> None:
    for name in names:
        if name not in state:
            missing = (said or {}).get(name, name)
            raise ValueError(f"source: expected the weights of a published DiT, but {missing} is missing")


def _settings(
    state: Mapping[str, torch.Tensor], positions: torch.Tensor | None, input_size: int | None
) -> dict[str, Any]:
    """What the network was built with, from the shapes of its weights."""
    _need(state, "out.weight", "conditions.0.class_embedding.weight")
    hidden, channels, patch = state["embed.weight"].shape[:3]
    layers = 1 + max((int(name.split(".")[1]) for name in state if name.startswith("blocks.")), default=-1)
    heads = next((heads for size, _, heads in SIZES.values() if size == hidden), None)
    if heads is None:
        raise ValueError(
            f"source: expected one of the published hidden sizes {[size for size, *_ in SIZES.values()]}, got {hidden}"
        )
    _need(state, *(f"blocks.{max(layers - 1, 0)}.mlp.linear1.weight",))
    held = 32 if positions is None else math.isqrt(positions.shape[-2]) * patch
    if input_size not in (None, held) and positions is not None:
        raise ValueError(f"input_size: expected None or {held}, that of the positions in the file, got {input_size!r}")
    return {
        "spatial_dims": 2,
        "in_channels": channels,
        "input_size": held if input_size is None else input_size,
        "patch_size": patch,
        "hidden_size": hidden,
        "num_layers": layers,
        "num_heads": heads,
        "mlp_ratio": state["blocks.0.mlp.linear1.weight"].shape[0] / hidden if layers else 4.0,
        "num_class_embeds": len(state["conditions.0.class_embedding.weight"]),
        "learn_variance": len(state["out.weight"]) == 2 * channels * patch**2,
        "shared_embedding": not any(name.startswith("conditions.1.") for name in state),
    }


def _check_positions(network: DiT, positions: torch.Tensor | None) -> None:
    if positions is not None and not torch.allclose(
        positions.reshape(-1, positions.shape[-1]).float(), network.positions, atol=1e-4
    ):
        raise ValueError("source: the weights hold other positions than the fixed ones of a published DiT (pos_embed)")
