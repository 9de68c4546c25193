# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The network inside what torch wraps around it for several GPUs, or for its compiler."""

from __future__ import annotations

from torch import nn

__all__ = ["unwrapped"]


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside ``DistributedDataParallel``, ``DataParallel`` and `torch.compile`, which rename its weights.

    Example:
        >>> network = nn.Linear(1, 1)
        >>> unwrapped(nn.DataParallel(network)) is network, unwrapped(network) is network
        (True, True)
    """
    while True:
        if isinstance(network, nn.parallel.DistributedDataParallel | nn.DataParallel):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):  # of a compiled module
            network = inner
        else:
            return network
