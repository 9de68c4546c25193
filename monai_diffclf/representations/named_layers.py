# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What named layers of a network put out, by forward hooks, and their outputs as feature maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import nn

__all__ = ["OUTPUT", "LayerMaps", "check_layers", "feature_maps", "run_layers"]

OUTPUT = "output"
"""Name of the network's own output; ``output.KEY`` or ``output.1`` is an entry of one that is a dictionary or tuple."""

MOST_PREFIX = 16
"""Most tokens that stand before those of places: class token and registers."""


class LayerMaps(NamedTuple):
    """The output of a layer as feature maps [B, C, *grid], and its class token [B, C] where it has one."""

    maps: torch.Tensor
    token: torch.Tensor | None


class _Enough(Exception):
    """All layers have been seen: the rest of the network need not run."""


def check_layers(network: nn.Module, layers: Sequence[str]) -> tuple[str, ...]:
    """Names of layers of a network: modules as ``named_modules`` has them, or ``"output"``.

    Raises:
        ValueError: when there are none, or a module does not exist.
    """
    if isinstance(layers, str) or not layers or not all(isinstance(name, str) for name in layers):
        raise ValueError(f"layers: expected the names of one or more layers, got {layers!r}")
    known = dict(network.named_modules())
    if wrong := [name for name in layers if not _is_output(name) and (not name or name not in known)]:
        names = [name for name in known if name and "." not in name]
        raise ValueError(
            f"layers: expected names of modules of {type(network).__name__}, or {OUTPUT!r}, got {wrong}; it has "
            f"{names[:12]}{' and more' if len(names) > 12 else ''}, and what is in them"
        )
    return tuple(layers)


def run_layers(network: nn.Module, layers: Sequence[str], images: torch.Tensor) -> list[Any]:
    """What some layers of a network put out for images, in the order of the layers.

    Hooks are there during the call only. A module that is called several times, such as an activation that all blocks
    share, gives its first output. The network stops when all layers have been seen.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 1))
        >>> [each.shape[1] for each in run_layers(network, ["0", "output"], torch.zeros(1, 1, 4, 4))]
        [2, 3]
    """
    modules, seen = dict(network.named_modules()), dict[str, Any]()
    inner = {name for name in layers if not _is_output(name)}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            seen.setdefault(name, output)
            if len(seen) == len(set(layers)):
                raise _Enough

        return hook

    with ExitStack() as stack:
        for name in inner:
            stack.callback(modules[name].register_forward_hook(keep(name)).remove)
        try:
            output = network(images)
        except _Enough:
            output = None
    if missing := inner - set(seen):
        raise ValueError(f"layers: expected layers that the network calls, got {sorted(missing)}, which it does not")
    return [_entry(output, name) if _is_output(name) else seen[name] for name in layers]


def feature_maps(output: Any, size: Sequence[int], layer: str) -> LayerMaps:
    """The output of a layer for images of some size as feature maps [B, C, *grid].

    Maps are taken as they are. Tokens [B, T, C], as transformers have them, become maps on the finest grid of square
    patches that divides the image and leaves at most 16 tokens over; these come first, and the first of them is the
    class token.

    Args:
        output: what the layer put out; of a tuple, a list or a dictionary the first tensor.
        size: spatial size of the images.
        layer: the layer's name, for messages.

    Raises:
        ValueError: when it is neither maps nor tokens.

    Example:
        >>> maps, token = feature_maps(torch.zeros(1, 1 + 6, 8), (32, 48), "blocks.1")
        >>> maps.shape, token.shape
        (torch.Size([1, 8, 2, 3]), torch.Size([1, 8]))
    """
    tensor = _first_tensor(output)
    if tensor is None or not tensor.is_floating_point():
        raise ValueError(f"layers: expected feature maps from layer {layer!r}, got {type(output).__name__}")
    if tensor.ndim == len(size) + 2 and 0 not in tensor.shape:
        return LayerMaps(tensor, None)
    if tensor.ndim == 3:
        for patch in range(1, min(size) + 1):
            grid = [length // patch for length in size]
            prefix = tensor.shape[1] - math.prod(grid)
            if not any(length % patch for length in size) and 0 <= prefix <= MOST_PREFIX:
                maps = tensor[:, prefix:].transpose(1, 2).unflatten(2, grid)
                return LayerMaps(maps, tensor[:, 0] if prefix else None)
    raise ValueError(
        f"layers: expected feature maps [B, C, *grid] or tokens [B, T, C] of whole patches from layer {layer!r} for "
        f"images of {list(size)} pixels, got {list(tensor.shape)}"
    )


def _is_output(name: str) -> bool:
    return name.split(".")[0] == OUTPUT


def _entry(output: Any, name: str) -> Any:
    """The entry that a name asks for of a network's output."""
    key = name.partition(".")[2]
    if not key:
        return output
    entries = (
        output if isinstance(output, Mapping) else dict(enumerate(output if isinstance(output, list | tuple) else []))
    )
    found = {str(each): value for each, value in entries.items()}
    if key not in found:
        raise ValueError(f"layers: expected an entry of the network's output, one of {list(found)}, got {name!r}")
    return found[key]


def _first_tensor(output: Any) -> torch.Tensor | None:
    if isinstance(output, torch.Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, list | tuple) else ()
    return next((value for value in values if isinstance(value, torch.Tensor)), None)
