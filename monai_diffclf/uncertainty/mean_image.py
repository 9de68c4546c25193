# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The mean of the images that a model knows: its negative looks like an inverted image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["MeanImage", "fit_mean_image"]

GRID = 16  # cells a side, at most
_DIGITS = 4


@dataclass(frozen=True, eq=False)
class MeanImage:
    """What the images of a model look like on average; made by :func:`fit_mean_image`.

    An image whose correlation with it is negative is dark where the others are bright: it is inverted, or of another
    kind. Of the images that the shipped models were validated on none is, and all of their negatives are
    (benchmarks/uncertainty/inverted.py).

    Args:
        values: the mean of the images, averaged over the cells of a grid [C, *cells].
        provenance: what it was fitted for, such as ``network``.
    """

    values: torch.Tensor
    provenance: dict[str, Any] = field(default_factory=dict)

    def correlation(self, images: torch.Tensor) -> torch.Tensor:
        """Pearson's correlation of images with the mean image over all cells and channels [B]; 0 of constant images.

        Args:
            images: preprocessed as those of the fit [B, C, *spatial]; any size.

        Raises:
            ValueError: when they have other channels or dimensions.
        """
        if images.ndim != self.values.ndim + 1 or images.shape[1] != len(self.values):
            raise ValueError(
                f"images: expected [B, {len(self.values)}, *spatial] with {self.values.ndim - 1} spatial dimensions, "
                f"as those of the mean image, got {list(images.shape)}"
            )
        own = _pool(images, tuple(self.values.shape[1:])).flatten(1)
        mean = self.values.to(own).flatten()
        own, mean = own - own.mean(1, keepdim=True), mean - mean.mean()
        norm = own.norm(dim=1) * mean.norm()
        # What is left of a constant image by rounding points anywhere.
        return torch.where(own.norm(dim=1) > 1e-6, own @ mean / norm.clamp(min=1e-30), 0.0)

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, for a JSON file; to four digits after the point."""
        shape = list(self.values.shape)
        return {
            "shape": shape,
            "values": [round(float(value), _DIGITS) for value in self.values.flatten()],
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MeanImage:
        """From what `to_dict` gave.

        Raises:
            ValueError: when something is missing, not finite, or does not fit the rest.
        """
        try:
            shape = [int(n) for n in values["shape"]]
            numbers = torch.tensor([float(value) for value in values["values"]], dtype=torch.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"mean_image: expected what MeanImage.to_dict gives: {error}") from error
        if len(shape) not in (3, 4) or min(shape) < 1 or torch.Size(shape).numel() != len(numbers):
            raise ValueError(f"mean_image: expected as many values as the shape {shape} has, got {len(numbers)}")
        if not bool(torch.isfinite(numbers).all()):
            raise ValueError("mean_image: expected finite values, got NaN or infinite ones")
        return cls(numbers.reshape(shape), dict(values.get("provenance", {})))


def fit_mean_image(images: torch.Tensor, *, provenance: Mapping[str, Any] | None = None) -> MeanImage:
    """The mean of images, on a grid of at most 16 cells a side.

    Args:
        images: as the network sees them [n, C, *spatial].
        provenance: what it is fitted for, such as the network's hash.

    Raises:
        ValueError: when there is no image, or a pixel is not finite.

    Example:
        >>> ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
        >>> mean = fit_mean_image(ramp)
        >>> mean.values.shape, [round(float(value), 3) for value in mean.correlation(torch.cat([ramp, -ramp]))]
        (torch.Size([1, 16, 16]), [1.0, -1.0])
    """
    if images.ndim not in (4, 5) or len(images) == 0:
        raise ValueError(f"images: expected at least one image [n, C, *spatial], got the shape {list(images.shape)}")
    if not bool(torch.isfinite(images).all()):
        raise ValueError("images: expected finite pixels, got NaN or infinite ones")
    cells = tuple(min(GRID, size) for size in images.shape[2:])
    return MeanImage(_pool(images, cells).mean(0).cpu(), dict(provenance or {}))


def _pool(images: torch.Tensor, cells: tuple[int, ...]) -> torch.Tensor:
    pool: Any = torch.nn.functional.adaptive_avg_pool2d if len(cells) == 2 else torch.nn.functional.adaptive_avg_pool3d
    pooled: torch.Tensor = pool(torch.as_tensor(images).double(), cells)
    return pooled
