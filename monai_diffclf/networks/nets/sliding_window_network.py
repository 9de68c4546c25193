# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A denoiser of windows as a denoiser of volumes that are larger than its field."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import nn

from ..._checks import check_integer

__all__ = ["SlidingWindowNetwork"]


class SlidingWindowNetwork(nn.Module):
    """A network called window by window, whose predictions are laid side by side.

    Noise is drawn for the whole volume by whoever calls this network, so that draws, votes, error maps and stored
    errors are those of the whole. The squared errors e of the voxels v of the windows' own parts P_j, which tile the
    volume, add up to those of the volume, under any class k:

        e_k = (1 / V) sum_v (eps_k(v) - eps(v))^2 = sum_j (|P_j| / V) e_kj,

    with e_kj the mean over P_j alone. A network is local when its prediction at v depends on the input within
    ``margin`` voxels of v alone; then each window's part has the predictions of the whole volume, and so have the
    errors. One with attention or group normalisation is not: it sees its window, as it did in training on windows.

    MONAI's `SlidingWindowInferer` blends overlapping windows instead, which is another prediction wherever two differ,
    and takes windows of several images for one batch, each of which has its own timestep and class here.

    Args:
        network: called as ``network(x=windows, timesteps=..., ...)`` with tensors [b, ...] of the windows' images.
        roi_size: voxels of a window, one number or one an axis. An axis that is shorter has one window of its length.
        margin: voxels at an inner face of a window that it sees and does not give, one number or one an axis. Windows
            begin at multiples of roi_size - 2 margin, the last one ends with the volume; keep both, and the volume,
            multiples of what the network's levels divide by, and windows lie on its grid.
        sw_batch_size: windows in one call, of one image or several; memory grows with it, not with the volume.

    Raises:
        TypeError: when ``network`` is no `nn.Module`.
        ValueError: when a number is out of range, or a prediction has not the window's size.

    Example:
        >>> class Blur(nn.Module):  # local: sees 1 voxel around
        ...     def forward(self, x, timesteps, class_labels=None):
        ...         return nn.functional.avg_pool3d(x, 3, 1, 1) + class_labels.view(-1, 1, 1, 1, 1)
        >>> x, timesteps, labels = torch.rand(2, 1, 12, 8, 9), torch.tensor([1, 2]), torch.tensor([0, 1])
        >>> windows = SlidingWindowNetwork(Blur(), 6, margin=1)(x, timesteps, class_labels=labels)
        >>> torch.testing.assert_close(windows, Blur()(x, timesteps, class_labels=labels))
    """

    def __init__(
        self,
        network: nn.Module,
        roi_size: int | Sequence[int],
        *,
        margin: int | Sequence[int] = 0,
        sw_batch_size: int = 4,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"network: expected an nn.Module, got {type(network).__name__}")
        sw_batch_size = check_integer(sw_batch_size, "sw_batch_size")
        self.network, self.sw_batch_size = network, sw_batch_size
        self.train(network.training)
        self.roi_size, self.margin = _sides("roi_size", roi_size, 1), _sides("margin", margin, 0)
        _steps(self.roi_size, self.margin)

    def extra_repr(self) -> str:
        """What predictions depend on beside the weights."""
        return f"roi_size={self.roi_size}, margin={self.margin}"

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor | None = None,
        class_labels: torch.Tensor | None = None,
        **conditions: Any,
    ) -> torch.Tensor:
        """Predict the target of the noisy images ``x`` [B, C, *spatial] at ``timesteps`` [B].

        Conditions [B, ...] are given to every window of their image; those with the image's spatial size are cut too.
        """
        given = {"timesteps": timesteps, "context": context, "class_labels": class_labels, **conditions}
        each = {name: value for name, value in given.items() if value is not None}
        places = [(image, *place) for image in range(len(x)) for place in self._places(x.shape[2:])]
        whole: torch.Tensor | None = None
        for start in range(0, len(places), self.sw_batch_size):
            part = places[start : start + self.sw_batch_size]
            index = torch.tensor([image for image, _, _ in part], device=x.device)
            cut = {name: _cut(value, part, index, x) for name, value in each.items()}
            windows = torch.stack([x[image][_all_channels(seen)] for image, seen, _ in part])
            predicted = self.network(x=windows, **cut)
            if predicted.shape[2:] != windows.shape[2:]:
                raise ValueError(
                    f"network: expected predictions of the size of its windows {tuple(windows.shape[2:])}, got "
                    f"{tuple(predicted.shape[2:])}"
                )
            if whole is None:
                whole = predicted.new_empty(len(x), predicted.shape[1], *x.shape[2:])
            for (image, seen, own), values in zip(part, predicted, strict=True):
                inside = tuple(slice(o.start - s.start, o.stop - s.start) for o, s in zip(own, seen, strict=True))
                whole[image][_all_channels(own)] = values[_all_channels(inside)]
        return x if whole is None else whole

    def _places(self, size: Sequence[int]) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
        """What each window sees and what part of it is its own; windows of one volume have the same size."""
        roi, margin = (_every_axis(name, getattr(self, name), len(size)) for name in ("roi_size", "margin"))
        axes = [_along(*each) for each in zip(size, roi, margin, strict=True)]
        return [(tuple(seen for seen, _ in each), tuple(own for _, own in each)) for each in product(*axes)]


def _all_channels(place: tuple[slice, ...]) -> tuple[slice, ...]:
    """The index of a place in an image [C, *spatial]."""
    return (slice(None), *place)


def _along(size: int, roi: int, margin: int) -> list[tuple[slice, slice]]:
    """Windows along an axis: what each sees, and its own part; the own parts tile the axis."""
    if size <= roi:
        return [(slice(0, size), slice(0, size))]
    starts = [*range(0, size - roi, roi - 2 * margin), size - roi]
    # Between two windows the boundary is where the first one's own part ends; the next begins there.
    ends = [*(start + roi - margin for start in starts[:-1]), size]
    begins = [0, *ends[:-1]]
    return [(slice(s, s + roi), slice(b, e)) for s, b, e in zip(starts, begins, ends, strict=True)]


def _cut(
    value: Any, part: Sequence[tuple[int, tuple[slice, ...], tuple[slice, ...]]], index: torch.Tensor, x: torch.Tensor
) -> Any:
    """A condition of the images for their windows."""
    if not isinstance(value, torch.Tensor) or value.ndim == 0 or len(value) != len(x):
        return value
    if value.ndim == x.ndim and value.shape[2:] == x.shape[2:]:
        return torch.stack([value[image][_all_channels(seen)] for image, seen, _ in part])
    return value[index.to(value.device)]


def _sides(name: str, value: int | Sequence[int], least: int) -> tuple[int, ...]:
    sides = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not sides or any(isinstance(n, bool) or not isinstance(n, int) or n < least for n in sides):
        raise ValueError(f"{name}: expected an integer of {least} or more, or one an axis, got {value!r}")
    return sides


def _steps(roi: tuple[int, ...], margin: tuple[int, ...]) -> None:
    """Refuse windows that have nothing of their own."""
    axes = max(len(roi), len(margin))
    sides, edges = _every_axis("roi_size", roi, axes), _every_axis("margin", margin, axes)
    if any(side <= 2 * edge for side, edge in zip(sides, edges, strict=True)):
        raise ValueError(
            f"margin: expected less than half of roi_size {list(roi)}, got {list(margin)}; take larger windows"
        )


def _every_axis(name: str, sides: tuple[int, ...], axes: int) -> tuple[int, ...]:
    if len(sides) not in (1, axes):
        raise ValueError(f"{name}: expected one number, or one for each of {axes} axes, got {list(sides)}")
    return sides * axes if len(sides) == 1 else sides
