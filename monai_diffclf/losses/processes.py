# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a loss with parameters needs where several processes train one network."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

__all__ = ["mean_over_processes", "synchronised"]


def mean_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The mean of a tensor over all processes; of one process the tensor itself."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values / dist.get_world_size()


def synchronised(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter whose gradient is averaged over all processes, as those of a network in DDP are.

    Every process must use it in every step.
    """
    result: torch.Tensor = _AverageGradient.apply(parameter)  # type: ignore[no-untyped-call]
    return result


class _AverageGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, parameter: torch.Tensor) -> torch.Tensor:
        return parameter.view_as(parameter)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return mean_over_processes(gradient)
