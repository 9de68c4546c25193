# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which checkpoint a bundle loads into which network, read from its configuration without running it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import nn

from .._class_names import shown
from .._text import joined
from ..networks import load_generative_checkpoint
from ..networks.weights_content import read_torch_file
from .config import ZooConfig, texts

__all__ = ["Checkpoint", "find_checkpoint", "find_scaling", "load_checkpoint"]

_LOADS = ("load_state_dict", "load_old_state_dict")
_SCALINGS = ("scale_factor", "scaling_factor", "latent_scale_factor")
_NAME = "__id_"


class Checkpoint(NamedTuple):
    """A file of weights, and the entry of it that holds them."""

    path: Path
    key: str | None


def find_checkpoint(config: ZooConfig, name: str) -> Checkpoint | None:
    """The checkpoint that a configuration loads into the network of an id, None where it loads none.

    Understood are ``$@network.load_state_dict(torch.load(@path)['entry'])``, with ``load_old_state_dict`` and through
    further ids, and MONAI's `CheckpointLoader`.
    """
    names = _standing_for(config, name)
    for text in texts(config.content):
        tree = _parse(config.expanded(text[1:], names)) if text.startswith("$") else None
        if tree is not None and any(
            isinstance(node, ast.Attribute) and node.attr in _LOADS and _id_of(node.value) in names
            for node in ast.walk(tree)
        ):
            found = _loaded(config, tree)
            if found is not None:
                return found
    for component in _components(config.content):
        if str(component.get("_target_", "")).endswith("CheckpointLoader"):
            for key, network in dict(component.get("load_dict") or {}).items():
                if str(network).removeprefix("@") in names:
                    return Checkpoint(_whole(config, config.evaluate(component.get("load_path"))), str(key))
    return None


def find_scaling(config: ZooConfig) -> float | None:
    """The scaling factor of the latents: an id of the configuration, or the default of the bundle's own sampler.

    Raises:
        ValueError: when it is no number.
    """
    for name in _SCALINGS:
        value = config.content.get(name)
        if value is None:
            continue
        tree = _parse(config.expanded(str(value).removeprefix("$"), frozenset())) if isinstance(value, str) else None
        found = None if tree is None else _loaded(config, tree)
        if found is not None:
            content = read_torch_file(found.path)
            value = content.get(found.key) if isinstance(content, Mapping) else None
        elif isinstance(value, str):
            value = config.evaluate(value)
        try:
            return float(cast(Any, value))
        except (TypeError, ValueError):
            raise ValueError(f"{name}: expected a number in {config.path}, got {shown(value)}") from None
    return _default_of_sampler(config)


def load_checkpoint(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Load weights, also those of monai-generative into MONAI's networks; every weight must find its place.

    Raises:
        ValueError: when there is no such file, or it holds the weights of another network.
    """
    tensors = _entry(read_torch_file(checkpoint.path), checkpoint)
    own = network.state_dict()
    if own.keys() == tensors.keys() or not hasattr(network, "load_old_state_dict"):
        _load(network, tensors, checkpoint.path)
    elif isinstance(network, DiffusionModelUNet):
        try:
            load_generative_checkpoint(network, tensors)
        except (ValueError, TypeError) as error:
            raise ValueError(f"checkpoint: {checkpoint.path}: {error}") from error
    else:
        _load(network, {name: _old(name, value, tensors) for name, value in own.items()}, checkpoint.path)


def _old(name: str, own: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """A weight of MONAI's autoencoder from those of monai-generative, by its name there.

    The attention of monai-generative has a projection, ``proj_attn``, that it never applies (MONAI issue 7991); that of
    MONAI applies its own, which becomes the identity. `AutoencoderKL.load_old_state_dict` would apply the other.
    """
    for was in (name, name.replace(".postconv.", ".conv."), name.replace(".attn.", ".")):
        if was in tensors:
            return tensors[was]
    if name.endswith(".attn.out_proj.weight"):
        return torch.eye(len(own), dtype=own.dtype)
    return torch.zeros_like(own) if name.endswith(".attn.out_proj.bias") else None


def _load(network: nn.Module, tensors: Mapping[str, torch.Tensor | None], path: Path) -> None:
    found = {name: value for name, value in tensors.items() if value is not None}
    try:
        network.load_state_dict(found)
    except (RuntimeError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ValueError(
            f"checkpoint: {path} does not fit {type(network).__name__} as the configuration builds it: "
            f"{shown(lines[1] if len(lines) > 1 else lines[0], 200)}"
        ) from None


def _entry(content: Any, checkpoint: Checkpoint) -> Mapping[str, torch.Tensor]:
    """The state dict within the content of a file."""
    if isinstance(content, Mapping) and checkpoint.key is not None and checkpoint.key in content:
        content = content[checkpoint.key]
    tensors = isinstance(content, Mapping) and all(isinstance(value, torch.Tensor) for value in content.values())
    if not content or not tensors:
        entry = f" under {checkpoint.key!r}" if checkpoint.key else ""
        raise ValueError(f"checkpoint: expected names with tensors in {checkpoint.path}{entry}, got something else")
    return dict(content)


def _standing_for(config: ZooConfig, name: str) -> frozenset[str]:
    """An id and those that are the same thing, such as ``$@network_def.to(@device)``."""
    names = {name}
    pattern = re.compile(r"\$?@(\w+)(\.to\(.*\))?")
    for _ in config.content:
        for other, value in config.content.items():
            found = pattern.fullmatch(value.strip()) if isinstance(value, str) else None
            if found is not None and (found[1] in names):
                names.add(other)
            if found is not None and other in names and not found[2]:
                names.add(found[1])
    return frozenset(names)


def _components(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield value
        for entry in value.values():
            yield from _components(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _components(entry)


def _parse(text: str) -> ast.AST | None:
    """An expression, its references as names; None for a statement or what is no Python."""
    try:
        return ast.parse(re.sub(r"@(\w+)", rf"{_NAME}\1", text).strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return None


def _id_of(node: ast.AST) -> str:
    return node.id.removeprefix(_NAME) if isinstance(node, ast.Name) and node.id.startswith(_NAME) else ""


def _loaded(config: ZooConfig, tree: ast.AST) -> Checkpoint | None:
    """The file that an expression loads, and the entry that it takes of it."""
    keys = {
        id(node.value): node.slice.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load" and node.args:
            path = config.evaluate("$" + ast.unparse(node.args[0]).replace(_NAME, "@"))
            return Checkpoint(_whole(config, path), keys.get(id(node)))
    return None


def _whole(config: ZooConfig, path: Any) -> Path:
    """A path of a configuration, in the bundle where it is not whole."""
    return config.root / str(path)


def _default_of_sampler(config: ZooConfig) -> float | None:
    """The default of ``scale_factor`` in the class of the bundle that the configuration samples with."""
    for component in _components(config.content):
        *module, kind = str(component.get("_target_", "")).split(".")
        path = config.root.joinpath(*module).with_suffix(".py") if module else config.root
        if not path.is_file():
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"bundle: cannot read {path}: {joined(error)}") from error
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == kind:
                found = [value for each in ast.walk(node) if (value := _default_scaling(each)) is not None]
                if found:
                    return found[0]
    return None


def _default_scaling(node: ast.AST) -> float | None:
    if not isinstance(node, ast.FunctionDef):
        return None
    given = node.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [*zip(positional[len(positional) - len(given.defaults) :], given.defaults, strict=True)]
    defaults += [(name, value) for name, value in zip(given.kwonlyargs, given.kw_defaults, strict=True) if value]
    for name, value in defaults:
        if name.arg in _SCALINGS and isinstance(value, ast.Constant) and isinstance(value.value, int | float):
            return float(value.value)
    return None
