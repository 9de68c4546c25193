# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Vision transformers in a local folder, as the Hugging Face libraries write them. Nothing is ever downloaded."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from .._optional import require
from ..networks.weights_content import read_tensors
from .encoder import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["VisionFolder", "read_vision_folder"]

VISION_CLASSES = {
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "vit": "ViTModel",
}
"""Of each ``model_type`` in config.json the class of its image part."""

OPEN_CLIP = "open_clip_config.json"
TRUNKS = {
    "vit_base_patch16_224": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "patch_size": 16,
        "image_size": 224,
    }
}
"""Of each timm network in an open_clip folder that is understood its settings as a ViT of transformers."""
PARTS = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "blocks": "layers",
    "attn.proj": "attention.o_proj",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "norm": "layernorm",
}
"""Parts of a ViT of timm by their names in transformers, where they are called otherwise."""


class VisionFolder(NamedTuple):
    """The image part of a model in a folder: network, normalisation, size of its images, licence, kind."""

    network: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    licence: str
    kind: str


class Tokens(nn.Module):
    """A vision model of transformers, from normalised images to its last tokens [B, T, C]."""

    def __init__(self, model: nn.Module, *, any_size: bool) -> None:
        super().__init__()
        self.model, self.any_size = model, any_size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Tokens of the last layer, normalised as the model does."""
        more = {"interpolate_pos_encoding": True} if self.any_size else {}
        return self.model(pixel_values=images, **more).last_hidden_state  # type: ignore[no-any-return]


def read_vision_folder(folder: str | os.PathLike[str]) -> VisionFolder:
    """The image part of a model in a folder of transformers (``config.json``) or open_clip (``open_clip_config.json``).

    Of transformers: ViT, DINOv2 with or without registers (RAD-DINO is one), CLIP and SigLIP, each alone or with its
    text part, which is left out. Of open_clip: an image part that is timm's ``vit_base_patch16_224``, such as
    BiomedCLIP's.

    Raises:
        ValueError: when the folder, a file or a package is missing, or the model is another one.
    """
    path = Path(folder)
    if (path / OPEN_CLIP).is_file():
        return _open_clip(path)
    if not (path / "config.json").is_file():
        raise ValueError(
            f"encoder: expected a local folder with config.json or {OPEN_CLIP} and weights, got {folder}; download the "
            "model beforehand, nothing is fetched from a network"
        )
    require("transformers", argument="encoder", purpose="a folder of transformers", extra="transformers")
    kind = _read(path / "config.json").get("model_type")
    if kind not in VISION_CLASSES:
        known = sorted(VISION_CLASSES)
        raise ValueError(f"encoder: expected a model_type of {known} in {path / 'config.json'}, got {kind!r}")
    model = _from_folder(path, VISION_CLASSES[kind])
    mean, std = _normalisation(path, kind)
    size = model.config.image_size
    network = Tokens(model, any_size=not kind.startswith("dinov2"))  # which does so by itself
    return VisionFolder(network.eval(), mean, std, size, _licence(path), kind)


def _from_folder(path: Path, name: str) -> Any:
    """A model of transformers; weights that are missing in the folder would be random numbers, and are refused."""
    library: Any = import_module("transformers")
    before = library.logging.get_verbosity()
    library.logging.set_verbosity_error()  # of the text part, which is there and not used
    try:
        model, report = getattr(library, name).from_pretrained(
            path, local_files_only=True, output_loading_info=True, dtype=torch.float32, attn_implementation="sdpa"
        )
    except (OSError, RuntimeError) as error:
        raise ValueError(f"encoder: expected a {name} in {path}, got an error: {str(error)[:200]}") from None
    finally:
        library.logging.set_verbosity(before)
    # Of ViT the pooler, which is not used, may be missing.
    if missing := [key for key in report["missing_keys"] if "pooler" not in key and ".head." not in key]:
        raise ValueError(
            f"encoder: expected all weights of {name} in {path}, {len(missing)} are missing: {missing[:3]}"
        )
    return model


def _normalisation(path: Path, kind: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of ``preprocessor_config.json``, or what the kind of model is trained with."""
    file = path / "preprocessor_config.json"
    if file.is_file():
        found = _read(file)
        return tuple(found.get("image_mean", IMAGENET_MEAN)), tuple(found.get("image_std", IMAGENET_STD))
    if kind.startswith("dinov2"):
        return IMAGENET_MEAN, IMAGENET_STD
    raise ValueError(f"encoder: expected {file.name} with image_mean and image_std in {path}")


def _open_clip(path: Path) -> VisionFolder:
    """The image part of an open_clip folder, as a ViT of transformers."""
    require("transformers", argument="encoder", purpose="a folder of open_clip", extra="transformers")
    config = _read(path / OPEN_CLIP)
    trunk = config.get("model_cfg", {}).get("vision_cfg", {}).get("timm_model_name")
    if trunk not in TRUNKS:
        raise ValueError(f"encoder: expected one of {list(TRUNKS)} as timm_model_name in {path}, got {trunk!r}")
    files = [path / f"open_clip_{name}" for name in ("model.safetensors", "pytorch_model.bin")]
    weights = next((file for file in files if file.is_file()), None)
    if weights is None:
        raise ValueError(f"encoder: expected {files[0].name} or {files[1].name} in {path}")
    library: Any = import_module("transformers")
    settings = library.ViTConfig(**TRUNKS[trunk], layer_norm_eps=1e-6)
    model = library.ViTModel(settings, add_pooling_layer=False)
    model.load_state_dict(timm_as_transformers(read_tensors(weights), "visual.trunk."))
    found = config.get("preprocess_cfg", {})
    mean, std = tuple(found.get("mean", (0.5,) * 3)), tuple(found.get("std", (0.5,) * 3))
    network = Tokens(model, any_size=True).eval()
    return VisionFolder(network, mean, std, settings.image_size, _licence(path), "open_clip")


def timm_as_transformers(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Weights of a ViT of timm under the names of a ViT of transformers.

    Args:
        tensors: weights by name.
        prefix: what the names of the ViT begin with; the others are left out, and those of its head.

    Example:
        >>> tensors = {"v.blocks.0.attn.qkv.bias": torch.arange(6), "v.norm.bias": torch.ones(2), "text": torch.ones(1)}
        >>> {name: value.tolist() for name, value in timm_as_transformers(tensors, "v.").items()}
        {'layers.0.attention.q_proj.bias': [0, 1], 'layers.0.attention.k_proj.bias': [2, 3],
         'layers.0.attention.v_proj.bias': [4, 5], 'layernorm.bias': [1.0, 1.0]}
    """
    renamed = {}
    for name, value in tensors.items():
        own = name.removeprefix(prefix)
        if own == name or own.startswith("head"):
            continue
        for part, other in PARTS.items():
            own = re.sub(rf"(?<![^.]){re.escape(part)}(?![^.])", other, own)
        if ".attn.qkv." in own:
            for letter, third in zip("qkv", value.chunk(3), strict=True):
                renamed[own.replace("attn.qkv", f"attention.{letter}_proj")] = third
        else:
            renamed[own] = value
    return renamed


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"encoder: expected JSON in {file}, got an error: {error}") from None
    return content if isinstance(content, dict) else {}


def _licence(path: Path) -> str:
    """The licence that the folder's README names in its header, as far as it does."""
    file = path / "README.md"
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()[:60] if file.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("license:")]
    return named[0] if named else "unknown"
