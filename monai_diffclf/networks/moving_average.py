# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The average of a network's weights over the last steps of a training, also where there are few."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

__all__ = ["averaged_model", "moving_average_decay"]


def moving_average_decay(steps: int, limit: float, start: int = 0) -> float:
    """How much of the average is kept in the next step: min(limit, (1 + n) / (10 + n)), n steps after the start.

    Up to the start nothing is kept: the average is the weights themselves. Then it reaches over about a ninth of the
    steps since, and over 1 / (1 - limit) steps once that is less. So it holds nothing of the weights a network started
    with, however short the training. The rule is TensorFlow's, ``tf.train.ExponentialMovingAverage(num_updates=...)``.

    Args:
        steps: steps that were made so far, from 0.
        limit: largest decay, in [0, 1).
        start: steps before averaging starts.

    Example:
        >>> [round(moving_average_decay(steps, 0.995, 100), 3) for steps in (0, 99, 100, 101, 190, 10_000)]
        [0.0, 0.0, 0.1, 0.182, 0.91, 0.995]
    """
    since = steps - start
    return min(limit, (1 + since) / (10 + since)) if since >= 0 else 0.0


def averaged_model(network: torch.nn.Module, limit: float = 0.995, start: int = 0) -> AveragedModel:
    """torch's `AveragedModel` of a network, in eval mode, with :func:`moving_average_decay`. Buffers are copied.

    Example:
        >>> network = torch.nn.Linear(1, 1, bias=False)
        >>> average = averaged_model(network)
        >>> for value in (1.0, 2.0):
        ...     _ = torch.nn.init.constant_(network.weight, value)
        ...     average.update_parameters(network)
        >>> round(average.module.weight.item(), 3)
        1.818
    """

    @torch.no_grad()
    def move(averages: Any, weights: Any, steps: torch.Tensor | int) -> None:
        torch._foreach_lerp_(averages, weights, 1 - moving_average_decay(int(steps), limit, start))

    averaged = AveragedModel(network, multi_avg_fn=move)
    averaged.requires_grad_(False).eval()
    return averaged
