# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The average of the weights over the last steps of a training, also where there are few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch.optim.swa_utils import AveragedModel

__all__ = ["MovingAverage", "moving_average_decay"]


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


class MovingAverage:
    """Ignite handler: keep a moving average of a network's weights, whose memory grows with the steps.

    torch's `AveragedModel` with :func:`moving_average_decay`. Buffers are copied. It belongs, as itself, in the
    ``save_dict`` of a `ResumableCheckpoint`: its state holds the number of steps.

    Args:
        network: the network that is trained; one wrapped for several GPUs is unwrapped.
        limit: largest decay, in [0, 1).
        start: steps before averaging starts, such as those in which the learning rate warms up: the weights then change
            so much that an average only lags behind.

    Raises:
        ValueError: when ``limit`` is not in [0, 1), or ``start`` is negative.

    Example:
        >>> network = torch.nn.Linear(1, 1, bias=False)
        >>> average = MovingAverage(network)
        >>> for value in (1.0, 2.0):
        ...     _ = torch.nn.init.constant_(network.weight, value)
        ...     average.update()
        >>> average.steps, round(average.ema_model.weight.item(), 3)
        (2, 1.818)
    """

    def __init__(self, network: torch.nn.Module, limit: float = 0.995, start: int = 0) -> None:
        if not isinstance(limit, int | float) or not 0 <= limit < 1:
            raise ValueError(f"limit: expected a decay in [0, 1), got {limit!r}")
        self.network = network.module if isinstance(network, torch.nn.parallel.DistributedDataParallel) else network
        if not isinstance(start, int) or isinstance(start, bool) or start < 0:
            raise ValueError(f"start: expected a number of steps of at least 0, got {start!r}")
        self.limit, self.start = float(limit), start
        self._averaged = AveragedModel(self.network, multi_avg_fn=self._move)
        self._averaged.requires_grad_(False).eval()

    @property
    def ema_model(self) -> torch.nn.Module:
        """The network with averaged weights, in eval mode (ignite's name)."""
        network: torch.nn.Module = self._averaged.module
        return network

    @property
    def steps(self) -> int:
        """Steps that were averaged so far."""
        return int(self._averaged.n_averaged)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)

    def update(self) -> None:
        """Take the network's present weights into the average; the first ones are copied."""
        self._averaged.update_parameters(self.network)

    def state_dict(self) -> dict[str, Any]:
        """Averaged weights and number of steps."""
        return {"weights": self.ema_model.state_dict(), "steps": self.steps}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved average.

        Raises:
            ValueError: when it is none, such as the bare weights that earlier versions saved.
        """
        if set(state_dict) != {"weights", "steps"}:
            raise ValueError("ema: expected a moving average with its number of steps, got the weights alone")
        self.ema_model.load_state_dict(state_dict["weights"])
        self._averaged.n_averaged.fill_(state_dict["steps"])

    @torch.no_grad()
    def _move(self, averages: Any, weights: Any, steps: torch.Tensor | int) -> None:
        torch._foreach_lerp_(averages, weights, 1 - moving_average_decay(int(steps), self.limit, self.start))
