# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Reading a pipeline of diffusers from a local folder, part by part checked before anything is loaded."""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from .._class_names import shown
from .._optional import require
from .._text import joined
from .quiet_loading import quiet_loading

__all__ = ["read_pipeline"]

CLIP = ("CLIPTextModel", "CLIPTextModelWithProjection")
NETWORKS = {
    "unet": ("UNet2DConditionModel",),
    "transformer": ("SD3Transformer2DModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny"),
    "text_encoder": CLIP,
    "text_encoder_2": CLIP,
    "text_encoder_3": ("T5EncoderModel",),
}
"""Of each part with weights the classes that are understood."""

ONE_ENCODER = ("vae", "text_encoder", "tokenizer", "scheduler")
TWO_ENCODERS = (*ONE_ENCODER, "text_encoder_2", "tokenizer_2")
PARTS = {
    "StableDiffusionPipeline": ("unet", *ONE_ENCODER),
    "StableDiffusionXLPipeline": ("unet", *TWO_ENCODERS),
    "StableDiffusion3Pipeline": ("transformer", *TWO_ENCODERS),
}
"""Of each pipeline the parts that it must have."""

OPTIONAL = ("text_encoder_3", "tokenizer_3")  # of SD 3: its largest encoder, which many leave out
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")


def read_pipeline(folder: str | os.PathLike[str] | None, dtype: torch.dtype = torch.float32) -> Any:
    """The pipeline of diffusers in a local folder: Stable Diffusion 1, 2, XL or 3, of safetensors only.

    Nothing is downloaded, no code of the folder is run, and what only serves to draw pictures (safety checker, image
    encoder) is left out.

    Args:
        folder: a folder with ``model_index.json``, as diffusers writes it.
        dtype: dtype of the weights.

    Raises:
        ValueError: when the extra is not installed, the folder, a part or weights are missing, or it is another
            pipeline.
    """
    if folder is None:  # as bundles leave it to the user
        raise ValueError(
            "folder: expected a local folder of a pipeline, as diffusers writes it, got None; a bundle that takes one "
            "calls it pipeline_dir"
        )
    path = Path(folder)
    index = _read(path)
    kind = index.get("_class_name")
    if kind not in PARTS:
        raise ValueError(f"folder: expected one of {list(PARTS)} in {path / 'model_index.json'}, got {shown(kind)!r}")
    for package in ("diffusers", "transformers", "safetensors"):
        require(package, argument="folder", purpose=f"{kind} of diffusers", extra="diffusers")
    optional = [part for part in OPTIONAL if isinstance(index.get(part), list) and index[part][0] is not None]
    parts = (*PARTS[kind], *optional)
    for part in parts:
        _check_part(path, part, index.get(part))
    left_out = {name: None for name in (*UNUSED, *OPTIONAL) if name in index and name not in parts}
    library: Any = import_module("diffusers")
    with quiet_loading():
        found = {part: _load(path / part, index[part][0], index[part][1], dtype) for part in parts if part in NETWORKS}
        try:
            return getattr(library, kind).from_pretrained(path, local_files_only=True, **found, **left_out)
        except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"folder: expected the parts of {kind} in {path}, got an error: {_short(error)}") from None


def _read(path: Path) -> dict[str, Any]:
    file = path / "model_index.json"
    if not file.is_file():
        raise ValueError(
            f"folder: expected a local folder with model_index.json, as diffusers writes pipelines, got {path}; "
            "nothing is downloaded: fetch the whole repository beforehand, such as with hf download NAME --local-dir "
            "FOLDER"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"folder: expected JSON in {file}, got an error: {joined(error)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"folder: expected a JSON object in {file}, got {type(content).__name__}")
    return content


def _check_part(path: Path, part: str, entry: Any) -> None:
    """Refuse a part that is missing, of a class that is not understood, or without safetensors."""
    known = NETWORKS.get(part)
    if not isinstance(entry, list) or len(entry) != 2 or entry[0] not in ("diffusers", "transformers"):
        raise ValueError(
            f"folder: expected {part} of diffusers or transformers in {path / 'model_index.json'}, got {shown(entry)}"
        )
    if known is not None and entry[1] not in known:
        raise ValueError(f"folder: expected as {part} one of {list(known)} in {path}, got {shown(entry[1])!r}")
    if not (path / part).is_dir():
        raise ValueError(f"folder: expected a folder {part} in {path}, which its model_index.json names; copy it too")
    if known is not None and not list((path / part).glob("*.safetensors")):
        raise ValueError(f"folder: expected safetensors in {path / part}, got none; other files are not opened")


def _load(path: Path, library: str, name: str, dtype: torch.dtype) -> Any:
    """A network; weights that are missing in its folder would be random numbers, and are refused."""
    made: Any
    if library == "diffusers":
        made, settings = getattr(import_module("diffusers"), name), {"torch_dtype": dtype, "low_cpu_mem_usage": False}
    else:
        made, settings = getattr(import_module("transformers"), name), {"dtype": dtype}
    try:
        network, report = made.from_pretrained(
            path, local_files_only=True, use_safetensors=True, output_loading_info=True, **settings
        )
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"folder: expected a {name} in {path}, got an error: {_short(error)}") from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"folder: expected all weights of {name} in {path}, {len(missing)} are missing: {', '.join(missing[:3])}"
        )
    return network.eval()


def _short(error: Exception) -> str:
    return joined(error)[:300]
