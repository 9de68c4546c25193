# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A text-to-image pipeline of diffusers, Stable Diffusion above all, in the place of a generative bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .._class_names import shown
from .._text_path import text_path
from ..bundle import Bundle
from ..pipelines import DiffusersPipeline, open_diffusers_pipeline
from ..pipelines.diffusers_pipeline import AVERAGES
from .condition_file import ConditionFile, read_condition_file
from .conditions import ClassConditions, check_different
from .parts import GenerativeParts
from .preprocessing import choose_size

__all__ = ["INDEX", "is_pipeline", "read_pipeline_parts"]

INDEX = "model_index.json"
"""The file by which a folder is a pipeline's."""

_PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_OF_BUNDLES = (
    "config_file",
    "diffusion",
    "autoencoder",
    "noise_scheduler",
    "scale_factor",
    "text_encoder",
    "embeddings",
)
# What arguments of `open_diffusers_pipeline`, and of the reading of weights, are called here.
_CALLED = {"folder": "generative-bundle", "prompts": "conditions", "path": "weights"}


def is_pipeline(folder: Path) -> bool:
    """Whether a folder is that of a pipeline, and not of a bundle.

    Raises:
        ValueError: when it is both, or neither.
    """
    bundle, pipeline = (folder / "configs").is_dir(), (folder / INDEX).is_file()
    if bundle == pipeline:
        got = f"both in {shown(folder, 200)}; name a folder that holds one of them" if bundle else shown(folder, 200)
        raise ValueError(
            f"generative-bundle: expected a bundle's folder, which holds configs/inference.json, or a pipeline's of "
            f"diffusers, which holds {INDEX}, got {got}" + ("" if bundle else "; nothing is downloaded")
        )
    return pipeline


def read_pipeline_parts(root: Path, conditions: Path, opened: Bundle) -> tuple[GenerativeParts, ClassConditions]:
    """The parts of a pipeline, and what the classes are to its network: the encoded prompts.

    Args:
        root: the pipeline's folder.
        conditions: the file of conditions, prompts alone.
        opened: the configuration ``diffusers_pipeline.json`` with what was set in it.

    Raises:
        ValueError: when the file holds something else than prompts, a setting is out of range, or
            `open_diffusers_pipeline` refuses the folder.
    """
    file = read_condition_file(conditions)
    prompts = _prompts(file)
    for name in _OF_BUNDLES:
        if (value := opened.get(name)) is not None:
            raise ValueError(
                f"{name}: expected it with a bundle, as the folder of a pipeline says it itself, got {shown(value)}"
            )
    average, precision = (_one_of(opened, *each) for each in (("prompt_average", AVERAGES), ("precision", _PRECISIONS)))
    weights = opened.get("weights")
    with _names_of_settings():
        pipeline = open_diffusers_pipeline(
            root,
            prompts,
            channels=opened.get("channels"),
            weights=None if weights is None else text_path(weights, "weights").expanduser(),
            dtype=_PRECISIONS[precision],
            device=opened.device,
        )
    parts = _parts(root, pipeline, weights)
    pipeline.check_image_size(choose_size(parts, opened.get("image_size")))
    check_different(file, _without_null(pipeline.by_prompt.tables))
    averaged = average == "embeddings"
    tables = pipeline.conditioning.tables if averaged else pipeline.by_prompt.tables
    return parts, ClassConditions(file, _without_null(tables), averaged=averaged)


def _prompts(file: ConditionFile) -> dict[str, list[str]]:
    """The prompts of each class, of a file that holds nothing else."""
    found: dict[str, list[str]] = {}
    for name, given in zip(file.classes, file.conditions, strict=True):
        found[name] = [each for each in given if isinstance(each, str)]
        if other := [each for each in given if not isinstance(each, str)]:
            value = dict(other[0]) if isinstance(other[0], Mapping) else other[0]
            raise ValueError(
                f"conditions: expected a prompt, or a list of prompts, for class {shown(name)!r}, as a pipeline of "
                f"diffusers is told nothing else, got {shown(value)}"
            )
    return found


def _one_of(opened: Bundle, name: str, known: Any) -> str:
    value = opened.get(name)
    if value not in list(known):
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {shown(value)}")
    return str(value)


@contextmanager
def _names_of_settings() -> Iterator[None]:
    """Within it an error speaks of options and settings, not of the arguments of a function."""
    try:
        yield
    except ValueError as error:
        name, colon, rest = str(error).partition(": ")
        raise ValueError(f"{_CALLED.get(name, name)}{colon}{rest}") from error


def _without_null(tables: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rows of prompts, without that of the empty one, which is last."""
    return {name: table[:-1] for name, table in tables.items()}


def _parts(root: Path, pipeline: DiffusersPipeline, weights: Any) -> GenerativeParts:
    part = pipeline.network.part
    files = sorted((root / part).glob("*.safetensors"))
    return GenerativeParts(
        root=root,
        network=pipeline.network,
        scheduler=pipeline.scheduler,
        latent_space=pipeline.latent_space,
        checkpoint=files[0] if weights is None else Path(weights).expanduser(),
        names={"diffusion": part, "autoencoder": "vae", "noise_scheduler": "scheduler"},
        image_size=pipeline.image_size or (),
        value_range=(-1.0, 1.0),
    )
