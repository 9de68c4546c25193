# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Loading weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

__all__ = ["load_weights"]

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
