# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What an optimizer trains where a loss has parameters of its own."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["parameter_groups"]


def parameter_groups(network: nn.Module, loss: nn.Module, learning_rate: float = 0.01) -> list[Any]:
    """Parameters of a network, and of a loss as a group of their own: without weight decay, at a rate of their own.

    The loss is moved to the network's device. Without parameters of the loss it is the list of the network's.

    Args:
        network: the network.
        loss: the loss.
        learning_rate: rate of the loss's parameters, which are logarithms; a scheduler multiplies both rates alike.

    Example:
        >>> len(parameter_groups(nn.Linear(1, 1), nn.MSELoss()))
        2
        >>> groups = parameter_groups(nn.Linear(1, 1), nn.PReLU())
        >>> [len(group["params"]) for group in groups], groups[1]["weight_decay"]
        ([2, 1], 0.0)
    """
    own = list(network.parameters())
    if own:
        loss.to(own[0].device)
    if not (others := list(loss.parameters())):
        return own
    return [{"params": own}, {"params": others, "lr": learning_rate, "weight_decay": 0.0}]
