# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Weights of a pipeline's network that were trained here: LoRA alone, or all of them, as safetensors."""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from .._optional import require
from .._text import joined
from ..networks.weights_content import read_tensors
from .lora import has_lora
from .networks import PipelineNetwork

__all__ = ["load_pipeline_weights", "save_pipeline_weights"]

METADATA = "lora_adapter_metadata"


def save_pipeline_weights(network: PipelineNetwork, path: str | os.PathLike[str]) -> None:
    """Write what was trained of a pipeline's network to a safetensors file.

    Of a network with LoRA only the adapters, in the form in which diffusers' own pipelines load them
    (``load_lora_weights``); of another one all its weights, by the names that they have in the pipeline's folder.
    ``open_diffusers_pipeline(..., weights=path)`` reads both.

    Args:
        network: ``network`` of a `DiffusersPipeline`.
        path: the file, ending in ``.safetensors``.

    Raises:
        ValueError: when the name of the file ends otherwise.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path: expected a file that ends in .safetensors, got {path}")
    model: Any = network.model
    notes = {"format": "pt"}
    tensors = model.state_dict()
    if has_lora(network):
        tensors = import_module("peft").get_peft_model_state_dict(model)
        tensors = {f"{network.part}.{name}": value for name, value in tensors.items()}
        settings = model.peft_config["default"].to_dict()
        kept = {name: settings[name] for name in ("r", "lora_alpha", "target_modules", "init_lora_weights")}
        kept["target_modules"] = sorted(kept["target_modules"])
        notes[METADATA] = json.dumps({f"{network.part}.{name}": value for name, value in kept.items()})
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    import_module("safetensors.torch").save_file(contiguous, path, metadata=notes)


def load_pipeline_weights(network: PipelineNetwork, path: str | os.PathLike[str]) -> None:
    """Load weights of `save_pipeline_weights`, or LoRA that was trained with diffusers, into a network, in place.

    Raises:
        ValueError: when the file is no safetensors file or belongs to another network; names the first layer; when it
            is LoRA and peft is not installed.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"weights: expected a file that ends in .safetensors, got {path}")
    tensors = read_tensors(path)
    if not any("lora" in name for name in tensors):
        _check_shapes(path, tensors, network.model.state_dict())
        network.model.load_state_dict(tensors)
        return
    require("peft", argument="weights", purpose="LoRA", extra="diffusers")
    model: Any = network.model
    foreign = next((name for name in tensors if not name.startswith(f"{network.part}.")), None)
    if foreign is not None:
        raise ValueError(
            f"weights: expected LoRA of the {network.part} alone in {path}, got {foreign}; text encoders are not "
            "adapted"
        )
    try:
        model.load_lora_adapter(
            path.parent, prefix=network.part, weight_name=path.name, local_files_only=True, use_safetensors=True
        )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ValueError(
            f"weights: expected LoRA of this {network.part} in {path}, got an error: {joined(error)[:300]}"
        ) from None
    if not has_lora(network):
        raise ValueError(f"weights: expected LoRA of this {network.part} in {path}, got layers that it does not have")


def _check_shapes(path: Path, found: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse weights of another architecture by the first layer that differs."""
    for name in (*own, *(name for name in found if name not in own)):
        here = list(own[name].shape) if name in own else "none"
        there = list(found[name].shape) if name in found else "none"
        if here != there:
            raise ValueError(
                f"weights: expected weights of this network in {path}; the first layer that differs is {name}: "
                f"{here} here, {there} in the file"
            )
