# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The average of the weights over the last steps of a training, also where there are few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events

from .._checks import check_integer
from ..networks.moving_average import averaged_model, moving_average_decay
from ..networks.wrapped import unwrapped

__all__ = ["MovingAverage", "moving_average_decay"]


class MovingAverage:
    """Ignite handler: keep a moving average of a network's weights, whose memory grows with the steps.

    torch's `AveragedModel` with :func:`moving_average_decay`. Buffers are copied. It belongs, as itself, in the
    ``save_dict`` of a `ResumableCheckpoint`: its state holds the number of steps.

    Args:
        network: the network that is trained; one wrapped for several GPUs, or compiled, is unwrapped.
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
        self.network = unwrapped(network)
        self.limit, self.start = float(limit), check_integer(start, "start", 0)
        self._averaged = averaged_model(self.network, self.limit, start)

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
