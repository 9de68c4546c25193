# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Autoencoders in a local folder: as diffusers writes them, of MONAI, or the two files of a published tiny one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._optional import require
from .._text import joined
from .nets.tiny_autoencoder import TinyAutoencoder
from .weights_content import read_tensors

__all__ = ["load_autoencoder"]

MONAI = "monai.networks.nets."
MONAI_KINDS = ("AutoencoderKL", "VQVAE")
KINDS = ("AutoencoderKL", "AutoencoderTiny")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def load_autoencoder(folder: str | os.PathLike[str]) -> nn.Module:
    """The autoencoder in a local folder, float32, in eval mode. Nothing is ever downloaded.

    A folder of diffusers holds ``config.json``, with the class `AutoencoderKL` or `AutoencoderTiny` and its scaling
    factor, and safetensors; it needs the extra ``diffusers``. A folder with one file ``*_encoder.pth`` and one
    ``*_decoder.pth`` holds a :class:`monai_diffclf.networks.nets.TinyAutoencoder`, whose channels follow from the
    weights; it needs nothing more. A folder of MONAI's holds ``autoencoder.json``, the component as a bundle's
    configuration has it (``{"_target_": "monai.networks.nets.AutoencoderKL", "spatial_dims": 2, ...}``, plain values
    alone), and ``autoencoder.pt`` or ``autoencoder.safetensors``.

    Args:
        folder: the folder.

    Raises:
        ValueError: when the folder, a file or the extra is missing, or it holds another network.

    Example:
        >>> load_autoencoder("no-such-folder")
        Traceback (most recent call last):
        ValueError: folder: expected a local folder with config.json and safetensors, or with *_encoder.pth and ...
    """
    path = Path(folder)
    if (path / "config.json").is_file():
        return _of_diffusers(path)
    if (path / "autoencoder.json").is_file():
        return _of_monai(path)
    files = [sorted(path.glob(f"*_{part}.pth")) for part in ("encoder", "decoder")]
    if not all(files):
        raise ValueError(
            "folder: expected a local folder with config.json and safetensors, or with *_encoder.pth and "
            f"*_decoder.pth, got {folder}; nothing is fetched from a network"
        )
    if len(files[0]) > 1 or len(files[1]) > 1:
        raise ValueError(f"folder: expected one *_encoder.pth and one *_decoder.pth in {path}, got several")
    return _tiny(path, read_tensors(files[0][0]), read_tensors(files[1][0]))


def _of_diffusers(path: Path) -> nn.Module:
    try:
        kind = json.loads((path / "config.json").read_text(encoding="utf-8")).get("_class_name")
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"folder: expected a JSON object in {path / 'config.json'}, got an error: {joined(error)}"
        ) from None
    if kind not in KINDS:
        raise ValueError(f"folder: expected an autoencoder, {' or '.join(KINDS)}, in {path}, got {kind!r}")
    if not list(path.glob("*.safetensors")):
        raise ValueError(f"folder: expected {WEIGHTS} in {path}, got no safetensors; other files are not opened")
    require("diffusers", argument="folder", purpose=f"{kind} of diffusers", extra="diffusers")
    library: Any = import_module("diffusers")
    try:
        network, report = getattr(library, kind).from_pretrained(
            path,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"folder: expected the weights of {kind} in {path}, got an error: {joined(error)}") from None
    if missing := sorted(report["missing_keys"]):  # they would be random numbers
        raise ValueError(f"folder: expected all weights of {kind} in {path}, {len(missing)} are missing: {missing[:3]}")
    return network.eval()  # type: ignore[no-any-return]


def _of_monai(path: Path) -> nn.Module:
    """MONAI's `AutoencoderKL` or `VQVAE`; nothing in the file is evaluated."""
    file = path / "autoencoder.json"
    try:
        settings = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"folder: expected a JSON object in {file}, got an error: {joined(error)}") from None
    kind = str(settings.pop("_target_", "")).removeprefix(MONAI)
    if kind not in MONAI_KINDS:
        raise ValueError(f"folder: expected as _target_ one of {[MONAI + each for each in MONAI_KINDS]} in {file}")
    weights = [path / f"autoencoder.{end}" for end in ("safetensors", "pt") if (path / f"autoencoder.{end}").is_file()]
    if not weights:
        raise ValueError(f"folder: expected autoencoder.pt or autoencoder.safetensors beside {file}, got neither")
    tensors = read_tensors(weights[0])
    try:
        network: nn.Module = getattr(import_module("monai.networks.nets"), kind)(**settings)
        network.load_state_dict(tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"folder: expected a {kind} by the settings of {file} with the weights of {weights[0].name}, got an error: "
            f"{joined(error)[:300]}"
        ) from None
    return network.eval()


def _tiny(path: Path, encoder: Mapping[str, torch.Tensor], decoder: Mapping[str, torch.Tensor]) -> nn.Module:
    """A tiny autoencoder with weights by their published names; what they do not say does not matter."""
    try:
        features, latents = encoder["0.weight"].shape[0], decoder["1.weight"].shape[1]
        normalised = any(".pool." in name for name in encoder)
        network = TinyAutoencoder(latents, features=features, normalised=normalised)
        network.encoder.load_state_dict(dict(encoder))
        network.decoder.load_state_dict(dict(decoder))
    except (KeyError, IndexError, RuntimeError) as error:
        raise ValueError(
            f"folder: expected the weights of a tiny autoencoder (TAESD, TAEF2, ...) in {path}, got others: "
            f"{joined(error)[:200]}"
        ) from None
    return network.eval()
