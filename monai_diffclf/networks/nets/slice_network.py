# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A 2D denoiser as a denoiser of volumes, slice by slice."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..._checks import check_integer

__all__ = ["SliceNetwork"]


class SliceNetwork(nn.Module):
    """A network of planes called with the slices of volumes, which decide together.

    The cheap way to classify a volume: no 3D convolutions, and any 2D network serves. A draw noises the whole volume;
    its error is the mean over the Z slices z of theirs,

        e_k = (1 / Z) sum_z e_kz,

    so that the slices have one vote a draw, and the likelihood bound of the volume is that of slices that are
    independent given the class (p(x | y) = prod_z p(x_z | y)). Train it as any network of volumes: the class of a slice
    is that of its volume.

    Args:
        network: a 2D network, called as ``network(x=slices, timesteps=..., ...)``.
        axis: the spatial axis along which slices lie, 0 to 2; 2 gives axial slices of volumes in RAS axes.
        sw_batch_size: slices in one call.

    Raises:
        TypeError: when ``network`` is no `nn.Module`.
        ValueError: when a number is out of range, or what it is called with is no volume.

    Example:
        >>> class Network(nn.Module):
        ...     def forward(self, x, timesteps, class_labels=None):
        ...         return x * timesteps.view(-1, 1, 1, 1)
        >>> volumes = torch.rand(2, 1, 4, 5, 6)
        >>> predicted = SliceNetwork(Network(), axis=1)(volumes, torch.tensor([2, 3]))
        >>> bool(torch.equal(predicted, volumes * torch.tensor([2, 3]).view(2, 1, 1, 1, 1)))
        True
    """

    def __init__(self, network: nn.Module, *, axis: int = 2, sw_batch_size: int = 256) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"network: expected an nn.Module, got {type(network).__name__}")
        if isinstance(axis, bool) or axis not in (0, 1, 2):
            raise ValueError(f"axis: expected 0, 1 or 2, got {axis!r}")
        sw_batch_size = check_integer(sw_batch_size, "sw_batch_size")
        self.network, self.axis, self.sw_batch_size = network, axis, sw_batch_size
        self.train(network.training)

    def extra_repr(self) -> str:
        """What predictions depend on beside the weights; nothing of axial slices, as in errors of earlier versions."""
        return "" if self.axis == 2 else f"axis={self.axis}"

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor | None = None,
        class_labels: torch.Tensor | None = None,
        **conditions: Any,
    ) -> torch.Tensor:
        """Predict the target of the noisy volumes ``x`` [B, C, X, Y, Z] at ``timesteps`` [B].

        Conditions [B, ...] are given to every slice of their volume; those with the volume's spatial size are cut too.
        """
        if x.ndim != 5:
            raise ValueError(f"x: expected volumes [B, C, X, Y, Z], got the shape {tuple(x.shape)}")
        axis = self.axis + 2
        slices = x.movedim(axis, 1).flatten(0, 1)
        given = {"timesteps": timesteps, "context": context, "class_labels": class_labels, **conditions}
        each = {name: _of_slices(v, x, axis) for name, v in given.items() if v is not None}
        parts = [slice(start, start + self.sw_batch_size) for start in range(0, len(slices), self.sw_batch_size)]
        own = {n: v for n, v in each.items() if isinstance(v, torch.Tensor) and v.ndim and len(v) == len(slices)}
        shared = {name: value for name, value in each.items() if name not in own}
        predicted: list[torch.Tensor] = [
            self.network(x=slices[part].contiguous(), **{n: v[part] for n, v in own.items()}, **shared)
            for part in parts
        ]
        volume: torch.Tensor = torch.cat(predicted).unflatten(0, (len(x), x.shape[axis])).movedim(1, axis)
        return volume


def _of_slices(value: Any, x: torch.Tensor, axis: int) -> Any:
    """A condition of the volumes [B, ...] for each slice [B Z, ...]; what is of no volume as it is."""
    if not isinstance(value, torch.Tensor) or value.ndim == 0 or len(value) != len(x):
        return value
    if value.ndim == x.ndim and value.shape[2:] == x.shape[2:]:
        return value.movedim(axis, 1).flatten(0, 1)
    return value.repeat_interleave(x.shape[axis], 0)
