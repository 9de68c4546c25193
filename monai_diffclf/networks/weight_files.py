# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Loading weights."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from .model_description import check_description, read_model_note
from .weights_content import read_tensors
from .wrapped import unwrapped

__all__ = ["load_weights", "network_hash"]

Network = TypeVar("Network", bound=nn.Module)


def load_weights(
    network: Network, path: str | os.PathLike[str], description: Mapping[str, Any] | None = None
) -> Network:
    """Load a file of weights into a network, put it into eval mode and return it.

    The JSON file beside the weights, which `BestModelSaver` writes, says what they are for. It must be of these weights
    (their hash is in it), and agree with ``description``. Where it is missing, a warning says what was not checked.

    Args:
        network: the network; one wrapped for several GPUs, or compiled, is unwrapped for loading.
        path: a state dict, as `BestModelSaver` writes it, or a safetensors file.
        description: what the weights are asked for, see :func:`monai_diffclf.networks.describe_model`; None checks
            no more than that they fit the network and are those that the JSON file describes.

    Raises:
        ValueError: when the file does not exist, holds no weights, or belongs to another network, to other classes,
            images or another schedule; when the JSON file beside it describes other weights. In one line.
    """
    path = Path(path)
    inner = unwrapped(network)
    tensors = read_tensors(path)
    note = read_model_note(path)
    found = note.get("model") or {}
    if description is not None and found:
        check_description(path, description, found)
    try:
        inner.load_state_dict(tensors)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"path: the weights in {path} do not fit {type(inner).__name__}: {_first_problem(error)}; give the "
            "settings they were trained with, or other weights"
        ) from None
    if (recorded := note.get("weights")) not in (None, network_hash(inner)):
        raise ValueError(
            f"path: {path.with_suffix('.json')} describes other weights ({recorded}) than those in {path} "
            f"({network_hash(inner)}); copy both files together, go on with a training that was stopped just "
            "then, or remove the JSON file if you know the weights"
        )
    if description is not None and not found:
        warnings.warn(
            f"{path} has no description beside it ({path.with_suffix('.json').name}): whether it was trained for "
            f"{', '.join(map(str, description.get('classes', ())))} in this order, for images of this size, scaled "
            "like this, and with this noise schedule could not be checked",
            stacklevel=2,
        )
    return network.eval()


def _first_problem(error: Exception) -> str:
    """What torch says of weights that do not fit, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[1] if len(lines) > 1 else lines[0] if lines else type(error).__name__
    first = first if len(first) <= 200 else first[:200] + "..."
    return first + (f" and {len(lines) - 2} more" if len(lines) > 2 else "")


def network_hash(network: nn.Module) -> str:
    """Sixteen hexadecimal digits that depend on all parameters and buffers of a network: its fingerprint.

    BLAKE2b of the names, dtypes, shapes and bytes of the state dict, in the order of the names. It is the same on every
    device, and with and without the wrapper for several GPUs or of the compiler.

    Args:
        network: the network.

    Example:
        >>> network = nn.Linear(1, 1)
        >>> before = network_hash(network)
        >>> _ = nn.init.constant_(network.bias, 2.0)
        >>> len(before), network_hash(network) == before
        (16, False)
    """
    inner = unwrapped(network)
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(inner.state_dict().items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
