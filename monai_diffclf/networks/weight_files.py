# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Loading weights."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

__all__ = ["load_weights", "network_hash"]

Network = TypeVar("Network", bound=nn.Module)


def load_weights(network: Network, path: str | os.PathLike[str]) -> Network:
    """Load a file of weights into a network, put it into eval mode and return it.

    Args:
        network: the network; one wrapped for several GPUs is unwrapped for loading.
        path: a state dict, as `BestModelSaver` writes it.

    Raises:
        ValueError: when the file does not exist, is no state dict, or belongs to another network.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path: expected a file of weights, but {path} does not exist; train first")
    inner = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    try:
        inner.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"path: the weights in {path} do not fit {type(inner).__name__}: {error}") from error
    return network.eval()


def network_hash(network: nn.Module) -> str:
    """Sixteen hexadecimal digits that depend on all parameters and buffers of a network: its fingerprint.

    BLAKE2b of the names, dtypes, shapes and bytes of the state dict, in the order of the names. It is the same on every
    device, and with and without the wrapper for several GPUs.

    Args:
        network: the network.

    Example:
        >>> network = nn.Linear(1, 1)
        >>> before = network_hash(network)
        >>> _ = nn.init.constant_(network.bias, 2.0)
        >>> len(before), network_hash(network) == before
        (16, False)
    """
    inner = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(inner.state_dict().items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
