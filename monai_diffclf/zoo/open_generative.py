# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Open a generative bundle, or a pipeline of diffusers, as a classifier."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from .._text_path import text_path
from ..bundle import Bundle, open_bundle
from .conditions import ClassConditions, read_conditions
from .diffusers_folder import is_pipeline, read_pipeline_parts
from .parts import GenerativeParts, read_parts
from .preprocessing import choose_size

__all__ = ["ZOO", "config_files", "open_generative_bundle"]

ZOO = Path(__file__).resolve().parent
"""A bundle of its own, whose configuration says how generative bundles classify."""


def config_files(bundle: str | os.PathLike[str]) -> list[str]:
    """Files of the configuration by which a bundle, or the pipeline in a folder, classifies; the later ones hold.

    Raises:
        ValueError: when the folder is neither, or both.
    """
    return ["inference.json", *(["diffusers_pipeline.json"] if is_pipeline(_folder(bundle)) else [])]


def open_generative_bundle(
    bundle: str | os.PathLike[str], conditions: str | os.PathLike[str], **settings: Any
) -> Bundle:
    """A diffusion model in MONAI's bundle format, such as of its model zoo, as a zero-shot classifier; or a pipeline.

    Its autoencoder, diffusion network, scheduler, scaling factor and checkpoints are found in its own configuration,
    see `read_parts`, which says how far it is trusted; the classes are the conditions of a file, see
    `read_condition_file`. The error of each class is that of the network under its condition, without guidance.

    A folder with ``model_index.json`` is one of diffusers, with Stable Diffusion 1, 2, XL or 3, see
    :func:`monai_diffclf.pipelines.open_diffusers_pipeline`; its conditions are prompts.

    Args:
        bundle: the folder.
        conditions: the file of conditions, YAML or JSON.
        settings: plain values by their ids in ``monai_diffclf/zoo/configs/inference.json``, such as ``num_draws``,
            ``image_size``, ``text_encoder`` (local folder), ``embeddings`` (file) or ``scale_factor``; of a pipeline
            also those in ``diffusers_pipeline.json``: ``channels``, ``prompt_average``, ``precision``, ``weights``.

    Raises:
        ValueError: when the folder is neither, a part or checkpoint is missing, or the conditions do not fit.

    Example:
        >>> open_generative_bundle("no-such-folder", "conditions.yaml")
        Traceback (most recent call last):
        ValueError: generative-bundle: expected a bundle's folder, which holds configs/inference.json, or ...
    """
    root = _folder(bundle)
    opened = open_bundle(ZOO, *config_files(root), **settings)
    file = text_path(conditions, "conditions").expanduser()
    parts, found = read_pipeline_parts(root, file, opened) if is_pipeline(root) else _of_bundle(root, file, opened)
    parser = opened.parser
    parser["parts"], parser["conditioning"], parser["classes"] = parts, found, found.classes
    parser["image_size"] = list(choose_size(parts, opened.get("image_size")))
    parser["bundle_root"] = str(root)
    return replace(opened, root=root, notes=parts.notes)


def _folder(bundle: str | os.PathLike[str]) -> Path:
    return text_path(bundle, "generative-bundle").expanduser().resolve()


def _of_bundle(root: Path, conditions: Path, opened: Bundle) -> tuple[GenerativeParts, ClassConditions]:
    names = ("config_file", "diffusion", "autoencoder", "noise_scheduler", "scale_factor")
    parts = read_parts(root, **{name: opened.get(name) for name in names}, on_gpu=opened.device.type == "cuda")
    folders = {name: opened.get(name) for name in ("text_encoder", "embeddings")}
    given = {name: None if path is None else Path(path).expanduser() for name, path in folders.items()}
    return parts, read_conditions(conditions, parts, **given)
