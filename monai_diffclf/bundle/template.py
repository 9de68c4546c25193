# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Configuration files from the template: parts laid one over another, then the values of the bundle.

The folder ``template`` has a folder for each part and in it the files that the part adds to or changes.
``train+inference.json`` goes into both files of its name: what two of a bundle's files say is written once.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from monai.bundle.reference_resolver import ReferenceResolver

from .._class_names import shown
from .settings import BundleSettings

__all__ = ["LAYERS", "MAIN_FILES", "TEMPLATE", "build_configs", "lay_over"]

TEMPLATE = Path(__file__).with_name("template")
MAIN_FILES = ("train.json", "evaluate.json", "inference.json")
"""The files that a value is set in; the others are laid over these when they are used."""

LAYERS = {
    "diffusion": ("common", "noise", "diffusion"),
    "representation": ("common", "noise", "diffusion", "representation"),
    "score": ("common", "noise", "score"),
    "resnet18": ("common", "resnet18"),
}
"""Parts of the template that each method is made of, from the lowest."""

_OF_ONE_LABEL = ("cascade.json", "counterfactuals.json")
"""Files that a bundle of several findings does not have."""

_LAST = ("initialize", "run", "finalize")


def build_configs(settings: BundleSettings) -> dict[str, dict[str, Any]]:
    """The configuration files of a bundle by their names, without ``metadata.json``.

    Raises:
        ValueError: when a value has an id that none of them has, or is of another kind than what it replaces.
    """
    configs: dict[str, dict[str, Any]] = {}
    for part in (*LAYERS[settings.method], *settings.parts):
        for path in sorted((TEMPLATE / part).glob("*.json")):
            if path.name != "metadata.json":
                content = json.loads(path.read_text(encoding="utf-8"))
                for name in _targets(path.name):
                    configs[name] = lay_over(configs.get(name, {}), content)
    if "findings" in settings.parts:
        configs = {name: config for name, config in configs.items() if name not in _OF_ONE_LABEL}
    for name, value in _defaults(settings).items():
        _set_everywhere(configs, name, value)
    for name, value in settings.values.items():
        if not _set_everywhere(configs, name, value):
            near = difflib.get_close_matches(name, sorted(_all_ids(configs)), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"values: the template has no {shown(name)}{hint}")
    for name, changes in settings.configs.items():
        configs[name] = lay_over(configs.get(name, {}), changes)
    return {name: _in_order(config) for name, config in sorted(configs.items())}


def lay_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with changes laid over it, key by key.

    Dictionaries are laid over dictionaries, unless they are components of different classes; ``"~key"`` takes a key
    away. Everything else, lists too, is replaced. A new key comes after the one that precedes it in the changes: the
    order of handlers and transforms is that in which they act.

    Example:
        >>> lay_over({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4, "e": 5}, "~d": None})
        {'a': {'b': 4, 'e': 5, 'c': 2}}
    """
    made, last = deepcopy(dict(below)), ""
    for key, value in above.items():
        if key.startswith("~"):
            made.pop(key[1:], None)
            continue
        if key not in made:
            made = _insert(made, last, key)
        made[key] = lay_over(made[key], value) if _same_kind(made[key], value) else deepcopy(value)
        last = key
    return made


def _insert(made: dict[str, Any], last: str, key: str) -> dict[str, Any]:
    """A place for a new key: after another one, or in the end."""
    names = list(made)
    place = names.index(last) + 1 if last in made else len(names)
    return {name: made.get(name) for name in [*names[:place], key, *names[place:]]}


def _same_kind(one: Any, other: Any) -> bool:
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return False
    return "_target_" not in one or other.get("_target_", one["_target_"]) == one["_target_"]


def _targets(name: str) -> list[str]:
    """``train+inference.json`` -> ``train.json``, ``inference.json``."""
    return [f"{stem}.json" for stem in name.removesuffix(".json").split("+")]


def _defaults(settings: BundleSettings) -> dict[str, Any]:
    """What follows from classes, channels and size, by ids, of which some parts of the template lack some."""
    size: tuple[int, ...] = settings.image_size  # type: ignore[assignment]
    return {
        "classes": list(settings.classes),
        "channels": settings.channels,
        "image_size": list(size),
        "model_description#bundle": settings.name,
        "title": settings.name,
        **_of_method(settings, size),
        # Moves of a fourteenth of the image, along all axes.
        "augmentation#affine#translate_range": [round(side / 14, 1) for side in size],
    }


def _of_method(settings: BundleSettings, size: tuple[int, ...]) -> dict[str, Any]:
    method = settings.method
    if method == "diffusion":
        if "slices" in settings.parts:  # a network of planes, whatever the images are
            return {}
        values: dict[str, Any] = {"denoiser#spatial_dims": len(size), "denoiser#levels": _levels(min(size))}
        if len(size) == 3:  # the U-Net attends in its middle, whose positions of a volume are many
            values["denoiser#use_flash_attention"] = True
        return values
    if method == "resnet18":
        return {"network_def#spatial_dims": len(size)}
    # Cells of EfficientNet-Lite0; what makes a bundle for another encoder gives its own.
    return {"grid": [-(-side // 32) for side in size]} if method == "representation" else {}


def _levels(side: int) -> int:
    """Levels of the wavelet with which the network sees 16 to 32 pixels a side, at most four."""
    levels = 1
    while levels < 4 and side >> levels > 24:
        levels += 1
    return levels


def _set_everywhere(configs: dict[str, dict[str, Any]], name: str, value: Any) -> bool:
    """Set a value in all main files that have its id, or the component that may take it; whether any has."""
    *parents, last = ReferenceResolver.normalize_id(name).split("::")
    found = False
    for file in ("train.json",) if name == "dataset_dir" else MAIN_FILES:
        parent = _find(configs[file], parents)
        if parent is None or not (last in parent or "_target_" in parent):
            continue
        if last in parent:
            _check_kind(name, parent[last], value)
        parent[last], found = deepcopy(value), True
    return found


def _find(config: Any, parents: list[str]) -> dict[str, Any] | None:
    for part in parents:
        config = config.get(part) if isinstance(config, dict) else None
    return config if isinstance(config, dict) else None


def _all_ids(configs: Mapping[str, Any]) -> set[str]:
    return {name for file in MAIN_FILES for name in _ids(configs[file])}


def _ids(config: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _ids(value, f"{before}{key}#")


def _check_kind(name: str, default: Any, value: Any) -> None:
    """Refuse a value of another kind than the plain one that it replaces; transforms take numbers or lists."""
    if name.startswith("augmentation"):
        return
    for types, said in ((bool, "True or False"), (int, "a whole number"), (float, "a number"), (list, "a list")):
        if isinstance(default, types):
            wanted = (int, float) if types is float else types
            if not isinstance(value, wanted) or (isinstance(value, bool) and types is not bool):
                raise ValueError(f"values: expected {said} as {name}, got {shown(value)}")
            return


def _in_order(config: Mapping[str, Any]) -> dict[str, Any]:
    """Imports first, what is run last."""
    first = {key: config[key] for key in ("imports", "+imports") if key in config}
    last = {key: config[key] for key in _LAST if key in config}
    return {**first, **{key: value for key, value in config.items() if key not in first and key not in last}, **last}
