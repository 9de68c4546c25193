# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A network whose conditions come as channels beside the noisy image."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["ConcatNetwork"]


class ConcatNetwork(nn.Module):
    """A diffusion network that gets the numbers of its condition as constant channels behind those of the noisy image.

    As the brain bundle of MONAI's model zoo was trained (Pinaya et al. 2022, section 2.3): the same numbers also come
    as ``context``.

    Args:
        network: the network, of C + c input channels.

    Example:
        >>> class Sum(nn.Module):
        ...     def forward(self, x, timesteps):
        ...         return x.sum(1, keepdim=True)
        >>> ConcatNetwork(Sum())(torch.zeros(1, 1, 2, 2), torch.zeros(1), concat=torch.tensor([[2.0, 3.0]])).tolist()
        [[[[5.0, 5.0], [5.0, 5.0]]]]
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, concat: torch.Tensor, **conditions: Any) -> Any:
        """What the network predicts [B, C, *spatial].

        Args:
            x: noisy images [B, C, *spatial].
            timesteps: timesteps [B].
            concat: numbers of the condition [B, c].
            conditions: further arguments of the network.
        """
        channels = concat.to(x).reshape(*concat.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
        return self.network(x=torch.cat([x, channels], 1), timesteps=timesteps, **conditions)
