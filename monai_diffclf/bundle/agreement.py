# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Training, evaluation and inference of a bundle must speak of the same model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .._class_names import shown
from .._text_path import text_path

__all__ = ["check_agreement"]

# What is written in two files of a bundle. The network, its schedule and the order of the classes are in model.json as
# well, and weights are held to it; how images are read and how draws are made is not.
_MODEL = (
    *("classes", "channels", "image_size", "num_classes", "conditioning", "read", "scale", "clip_limit"),
    *("scheduler", "denoiser", "pad_multiple", "sde", "t_min", "prediction_type", "score", "unet_channels"),
    *("network_def", "network_settings"),
    *("encoder_name", "encoder_layers", "num_components", "whitening", "global_token", "grid"),
)
_DECISION = (
    *("num_draws", "rule", "weighting", "temperature", "noise_levels"),
    *("solver", "num_steps", "num_probes", "dequantization"),
)


def check_agreement(bundle: str | os.PathLike[str]) -> None:
    """Refuse a bundle of which one configuration file was changed and the other was not.

    Compared are the files, not what a command overrides. A file that is absent is passed over.

    Args:
        bundle: its folder.

    Raises:
        ValueError: naming the first thing of which they say two things.
    """
    configs = text_path(bundle, "bundle") / "configs"
    files: dict[str, dict[str, Any]] = {}
    for name in ("train.json", "evaluate.json", "inference.json"):
        path = configs / name
        files[name] = _read(path) if path.is_file() else {}
    inference = files["inference.json"]
    for other, keys in (("train.json", _MODEL), ("evaluate.json", _DECISION)):
        for key in keys:
            one, two = files[other].get(key), inference.get(key)
            if key in files[other] and key in inference and one != two:
                raise ValueError(
                    f"{key}: configs/{other} of {configs.parent} says {shown(one)}, but configs/inference.json "
                    f"{shown(two)}; write the same in both, and what you want otherwise once give as an option"
                )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"configs: {path} is no JSON: {error}") from None
    return content if isinstance(content, dict) else {}
