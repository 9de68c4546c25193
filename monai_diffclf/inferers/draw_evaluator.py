# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Squared epsilon errors from a network: any images, draws and classes, packed into full forward calls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..classification import NoiseDraws, image_keys
from ..networks.denoiser import Denoiser

__all__ = ["DrawEvaluator"]

SUMMED_AT_ONCE = 1 << 16
"""Elements that are converted to float64 at a time on a CPU: they stay in its cache."""


class Call(NamedTuple):
    """The evaluations of one forward call, on the images' device: m pairs of image and draw, n evaluations of them."""

    image: torch.Tensor
    """Image of each pair [m]."""
    draw: torch.Tensor
    """Draw of each pair [m]."""
    pair: torch.Tensor
    """Pair of each evaluation [n]."""
    label: torch.Tensor
    """Class of each evaluation [n]."""
    place: torch.Tensor
    """Where each evaluation's error goes [n]."""


@dataclass
class DrawEvaluator:
    """A denoiser, some images and the noise draws they are tested with.

    What depends on the draws alone is computed once and kept on the images' device; noise is made there, and all that
    an error needs is ready before the network is called. Indices are made call by call.

    Args:
        denoiser: the network in eval mode, with its process, conditions and precision. Errors and their sums are never
            in reduced precision.
        images: images, or their latents [B, C, *spatial], float32.
        draws: the noise draws.
    """

    denoiser: Denoiser
    images: torch.Tensor
    draws: NoiseDraws

    def __post_init__(self) -> None:
        process, device = self.denoiser.process, self.images.device
        self.random = self.draws.random(image_keys(self.images), device)
        self.timesteps = process.timesteps(self.draws.levels)
        alpha, sigma = process.alpha_sigma(self.timesteps)
        a, b = process.mixture(alpha, sigma)
        factor = process.epsilon_factor(self.timesteps)
        table = torch.stack([alpha, sigma, a, b, factor])
        self._alpha, self._sigma, self._a, self._b, self._factor = table.to(device=device, dtype=torch.float32)
        self._timesteps = self.timesteps.to(device)

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
        """Errors of some pairs of image and draw, in calls of ``batch_size`` evaluations; only the last may be smaller.

        A pair is noised once for all its classes, unless it lies across two calls.

        Args:
            image: index of each pair's image [P].
            draw: index of each pair's draw [P].
            classes: which classes to evaluate for each pair [P, K], bool.
            maps: float64 tensor [B, K, *spatial] to which the error of each pixel, mean over channels, is added.
            map_weights: what the errors of each draw count in the maps [N], float64; None for 1.
            full_precision: ignore the denoiser's ``amp_dtype``.

        Returns:
            mean squared error of each pair and class [P, K], float32; NaN where not asked for.

        Raises:
            ValueError: when a prediction has the wrong shape or is not finite.
        """
        values = torch.full((len(image), self.denoiser.num_classes), torch.nan, device=self.images.device)
        place = torch.arange(len(image)) * self.denoiser.num_classes
        calls = self._calls(image.cpu(), draw.cpu(), classes.cpu(), torch.arange(len(image)), place, 1)
        self._run(calls, values, maps, map_weights, full_precision)
        return values

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
        """Errors of some images [b], each under the same draws [n] and under its own classes [b, K]: [b, K, n].

        See :meth:`evaluate`.
        """
        count, num_classes = len(draws), self.denoiser.num_classes
        values = torch.full((len(images), num_classes, count), torch.nan, device=self.images.device)
        row = torch.arange(len(images)).repeat_interleave(count)
        column = torch.arange(count).repeat(len(images))
        calls = self._calls(
            images.cpu()[row], draws.cpu()[column], classes.cpu(), row, row * num_classes * count + column, count
        )
        self._run(calls, values, maps, map_weights, full_precision=False)
        return values

    def _calls(
        self,
        image: torch.Tensor,
        draw: torch.Tensor,
        classes: torch.Tensor,
        row: torch.Tensor,
        place: torch.Tensor,
        step: int,
    ) -> Iterator[Call]:
        """Pairs [P], whose classes are a row [P] of ``classes`` [R, K], as full forward calls.

        The error of class k of a pair goes to the pair's ``place`` [P] + k ``step``.
        """
        size = self.denoiser.batch_size
        ends = classes.sum(1)[row].cumsum(0)
        total = int(ends[-1]) if len(ends) else 0
        for start in range(0, total, size):
            stop = min(total, start + size)
            first, last = (int(i) for i in torch.searchsorted(ends, torch.tensor([start, stop - 1]), right=True))
            before = int(ends[first - 1]) if first else 0
            pair, label = classes[row[first : last + 1]].nonzero()[start - before : stop - before].unbind(1)
            pairs = slice(first, last + 1)
            yield Call(*self._to_device(image[pairs], draw[pairs], pair, label, place[pairs][pair] + label * step))

    def _to_device(self, *indices: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Index vectors on the images' device, in one copy that waits for nothing."""
        if self.images.device.type == "cpu":
            return indices
        packed = torch.cat(indices)
        packed = packed.pin_memory() if self.images.device.type == "cuda" else packed
        sizes = [len(index) for index in indices]
        return tuple(packed.to(self.images.device, non_blocking=True).split(sizes))

    def _run(
        self,
        calls: Iterator[Call],
        values: torch.Tensor,
        maps: torch.Tensor | None,
        map_weights: torch.Tensor | None,
        full_precision: bool,
    ) -> None:
        """Write the errors of some calls to their places in ``values`` and add their pixels to the maps."""
        flat = values.view(-1)
        weights = None if map_weights is None else map_weights.to(values.device)
        bad = torch.zeros(len(self.images), dtype=torch.int64, device=values.device)
        for call in calls:
            squared = self._squared(call, full_precision)
            errors = _sums(squared).div_(self.num_elements).float()
            flat[call.place] = errors
            owner = call.image[call.pair]
            bad.index_add_(0, owner, (~torch.isfinite(errors)).long())
            if maps is not None:
                pixels = squared.mean(1, dtype=torch.float64)
                if weights is not None:
                    pixels *= weights[call.draw[call.pair]].reshape(-1, *[1] * (pixels.ndim - 1))
                maps.view(-1, *maps.shape[2:]).index_add_(0, owner * self.denoiser.num_classes + call.label, pixels)
        # An error that is not finite would pass for a draw that was not made.
        if count := int((bad > 0).sum()):
            raise ValueError(
                f"network: expected finite predictions, got NaN or infinity for {count} of {len(self.images)} images"
            )

    def _squared(self, call: Call, full_precision: bool) -> torch.Tensor:
        """Squared epsilon errors [n, C, *spatial] of the evaluations of one call."""
        images = self.images[call.image]
        noise = self.draws.batch_noise(self.random, call.image, call.draw, self.images.shape[1:])
        alpha, sigma, a, b, factor = (
            each[call.draw].reshape(-1, *[1] * (images.ndim - 1))
            for each in (self._alpha, self._sigma, self._a, self._b, self._factor)
        )
        noisy = (alpha * images).add_(sigma * noise)[call.pair]
        if self.denoiser.process.prediction_type == "epsilon":
            target = noise
        elif self.denoiser.process.prediction_type == "sample":
            target = images
        else:
            target = noise.mul_(b).add_(images.mul_(a))
        target, timesteps = target[call.pair], self._timesteps[call.draw][call.pair]
        with torch.inference_mode():
            prediction = self.denoiser.predict(
                noisy, timesteps, call.label, image=call.image[call.pair], full_precision=full_precision
            )
        squared = torch.sub(prediction.float(), target, out=target).square_()
        return squared.mul_(factor[call.pair])

    @property
    def num_elements(self) -> int:
        """Elements of one image or its latents."""
        return math.prod(self.images.shape[1:])


def _sums(squared: torch.Tensor) -> torch.Tensor:
    """Sum of each row's elements [n], float64, without a float64 copy of all of them."""
    rows = squared.flatten(1)
    if rows.device.type != "cpu":
        return rows.sum(1, dtype=torch.float64)
    step = max(1, SUMMED_AT_ONCE // max(1, rows.shape[1]))
    return torch.cat([part.double().sum(1) for part in rows.split(step)])
