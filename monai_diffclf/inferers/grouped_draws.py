# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Classes of several conditions, such as prompts: the error of a class is the mean over its conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .draw_evaluator import DrawEvaluator

__all__ = ["GroupedDrawEvaluator", "check_conditions_per_class"]


@dataclass
class GroupedDrawEvaluator(DrawEvaluator):
    """The same of classes with several conditions each; the denoiser's "classes" are the conditions, class by class.

    All conditions see the same noise, so that a class's error is mean_j e[j, n] over its conditions j.

    Args:
        sizes: number of conditions of each class [K].
    """

    sizes: Sequence[int] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sizes = torch.tensor(self.sizes)
        self._class = torch.arange(len(self.sizes)).repeat_interleave(self._sizes)

    def evaluations(self, classes: torch.Tensor) -> torch.Tensor:
        """Network evaluations of one draw under some classes [P], for bool [P, K]."""
        return (classes * self._sizes.to(classes.device)).sum(1)

    @torch.no_grad()
    def evaluate(
        self,
        image: torch.Tensor,
        draw: torch.Tensor,
        classes: torch.Tensor,
        *,
        maps: torch.Tensor | None = None,
        map_weights: torch.Tensor | None = None,
        full_precision: bool = False,
    ) -> torch.Tensor:
        """Mean squared error of each pair and class [P, K], see :meth:`DrawEvaluator.evaluate`."""
        every = classes[:, self._class.to(classes.device)]
        wide = self._blank(maps)
        values = super().evaluate(image, draw, every, maps=wide, map_weights=map_weights, full_precision=full_precision)
        self._add(maps, wide)
        return self._mean(values)

    @torch.no_grad()
    def grid(
        self,
        images: torch.Tensor,
        draws: torch.Tensor,
        classes: torch.Tensor,
        *,
        maps: torch.Tensor | None = None,
        map_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Errors of images and draws under some classes [b, K, n], see :meth:`DrawEvaluator.grid`."""
        every = classes[:, self._class.to(classes.device)]
        wide = self._blank(maps)
        values = super().grid(images, draws, every, maps=wide, map_weights=map_weights)
        self._add(maps, wide)
        return self._mean(values)

    def _mean(self, values: torch.Tensor) -> torch.Tensor:
        """Of each class [m, K, ...] from each condition [m, J, ...]; NaN stays, as a class is evaluated whole."""
        parts = values.double().split(list(self.sizes), 1)
        return torch.stack([part.mean(1) for part in parts], 1).to(values.dtype)

    def _blank(self, maps: torch.Tensor | None) -> torch.Tensor | None:
        if maps is None:
            return None
        return maps.new_zeros(len(maps), self.denoiser.num_classes, *maps.shape[2:])

    def _add(self, maps: torch.Tensor | None, wide: torch.Tensor | None) -> None:
        if maps is not None and wide is not None:
            maps += self._mean(wide)


def check_conditions_per_class(sizes: Sequence[int] | None, num_classes: int) -> tuple[int, ...] | None:
    """Numbers of conditions of each class as a tuple; None for one each.

    Raises:
        ValueError: when they are not a positive integer a class.
    """
    if sizes is None:
        return None
    found = tuple(sizes) if isinstance(sizes, Sequence) and not isinstance(sizes, str) else ()
    if len(found) != num_classes or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in found):
        raise ValueError(
            f"conditions_per_class: expected None or {num_classes} positive integers, one a class, got {sizes!r}"
        )
    return None if set(found) == {1} else found
