# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Squared epsilon errors from a network: any images, draws and classes, packed into full forward calls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..classification import NoiseDraws
from ..networks.denoiser import Denoiser

__all__ = ["DrawEvaluator"]

CACHED_ELEMENTS = 1 << 17
"""Elements that are compared and summed at a time on a CPU, so that they stay in its cache on the way."""


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
    even: bool
    """Whether all pairs have the same number of evaluations, n / m."""


@dataclass
class DrawEvaluator:
    """A denoiser, some images and the noise draws they are tested with.

    What depends on the draws alone is computed once and kept on the images' device; noise is made there, and all that
    an error needs is ready before the network is called. Indices are made call by call.

    Args:
        denoiser: the network in eval mode, with its process, conditions and precision. Errors and their sums are never
            in reduced precision.
        images: images, or their latents [B, C, *spatial], or tokens [B, C, T], float32.
        draws: the noise draws.
        keys: key of each image [B], which its noise depends on, see :func:`monai_diffclf.classification.image_keys`.
            An image has the same whether it, or what an encoder made of it, is denoised.
    """

    denoiser: Denoiser
    images: torch.Tensor
    draws: NoiseDraws
    keys: Sequence[bytes]

    def __post_init__(self) -> None:
        process, device = self.denoiser.process, self.images.device
        self.random = self.draws.random(self.keys, device)
        self.timesteps = process.timesteps(self.draws.levels)
        alpha, sigma = process.alpha_sigma(self.timesteps)
        a, b = process.mixture(alpha, sigma)
        factor = process.epsilon_factor(self.timesteps)
        table = torch.stack([alpha, sigma, a, b, factor])
        self._alpha, self._sigma, self._a, self._b, self._factor = table.to(device=device, dtype=torch.float32)
        self._timesteps = self.timesteps.to(device)
        self._held: dict[str, torch.Tensor] = {}

    def evaluations(self, classes: torch.Tensor) -> torch.Tensor:
        """Network evaluations of one draw under some classes [P], for bool [P, K]."""
        return classes.sum(1)

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
        values = torch.full(
            (len(image), self.denoiser.num_classes), torch.nan, dtype=torch.float32, device=self.images.device
        )
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
        values = torch.full(
            (len(images), num_classes, count), torch.nan, dtype=torch.float32, device=self.images.device
        )
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
            pairs, evaluations = slice(first, last + 1), torch.bincount(pair)
            vectors = (image[pairs], draw[pairs], pair, label, place[pairs][pair] + label * step)
            of_pairs, draws, owners, labels, places = self._to_device(*vectors)
            even = bool((evaluations == evaluations[0]).all())
            yield Call(of_pairs, draws, owners, labels, places, even)

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
            noisy, target = self._noisy(call)
            owner, timesteps = call.image[call.pair], self._timesteps[call.draw][call.pair]
            with torch.inference_mode():
                prediction = self.denoiser.predict(
                    noisy, timesteps, call.label, image=owner, full_precision=full_precision
                )
            errors = self._compare(prediction.float(), target, call, maps, weights)
            flat[call.place] = errors
            bad.index_add_(0, owner, (~torch.isfinite(errors)).long())
        # An error that is not finite would pass for a draw that was not made.
        if count := int((bad > 0).sum()):
            raise ValueError(
                f"network: expected finite predictions, got NaN or infinity for {count} of {len(self.images)} images"
            )

    def _noisy(self, call: Call) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy images of the evaluations [n, C, *spatial], and the targets of their pairs [m, C, *spatial].

        Pairs are worked through by as many as a processor's cache holds.
        """
        count, shape = len(call.image), self.images.shape[1:]
        repeats = len(call.pair) // count if call.even else 1
        noisy = self.images.new_empty(count, repeats, *shape)
        target = self._scratch("target", (count, *shape))
        tables = [_column(table[call.draw], target) for table in (self._alpha, self._sigma, self._a, self._b)]
        kind = self.denoiser.process.prediction_type
        for part in self._parts(count, self.num_elements):
            own, (alpha, sigma, a, b) = target[part], (table[part] for table in tables)
            made = self.draws.batch_noise(self.random, call.image[part], call.draw[part], shape, memory=self._noise)
            own.copy_(made)
            images = torch.index_select(self.images, 0, call.image[part], out=self._scratch("images", own.shape))
            clean = torch.mul(images, alpha, out=self._scratch("clean", own.shape))
            added = torch.mul(own, sigma, out=self._scratch("added", own.shape))
            noisy[part] = clean.add_(added)[:, None]
            if kind == "sample":
                own.copy_(images)
            elif kind != "epsilon":
                own.mul_(b).add_(images.mul_(a))
        noisy = noisy.flatten(0, 1)
        return noisy if call.even else noisy[call.pair], target

    def _noise(self, count: int) -> torch.Tensor:
        return self._scratch("noise", (count,))

    def _scratch(self, name: str, shape: Sequence[int]) -> torch.Tensor:
        """Memory that is used over and over, as new memory costs more than what is written to it [*shape]."""
        count, held = math.prod(shape), self._held.get(name)
        if held is None or len(held) < count:
            held = self._held[name] = torch.empty(count, dtype=torch.float32, device=self.images.device)
        return held[:count].view(shape)

    def _parts(self, count: int, elements: int) -> list[slice]:
        """Rows of ``elements`` elements each, by as many as stay in a CPU's cache; on another device all at once."""
        step = max(1, CACHED_ELEMENTS // max(1, elements)) if self.images.device.type == "cpu" else max(1, count)
        return [slice(start, min(count, start + step)) for start in range(0, count, step)]

    def _compare(
        self,
        prediction: torch.Tensor,
        target: torch.Tensor,
        call: Call,
        maps: torch.Tensor | None,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """Errors of the evaluations of a call [n], float32; their pixels are added to the maps.

        Differences and squares are float32, sums float64.
        """
        rows = len(target) if call.even else len(prediction)
        predictions = prediction.reshape(rows, -1, *prediction.shape[1:])
        factor, sums = self._factor[call.draw], []
        for part in self._parts(rows, predictions[:1].numel()):
            pair: slice | torch.Tensor = part if call.even else call.pair[part]
            own = predictions[part]
            squared = torch.sub(own, target[pair][:, None], out=self._scratch("squared", own.shape)).square_()
            squared *= _column(factor[pair], squared)
            sums.append(squared.flatten(2).sum(2, dtype=torch.float64))
            if maps is not None:
                pixels = squared.mean(2, dtype=torch.float64)
                if weights is not None:
                    pixels *= _column(weights[call.draw[pair]], pixels)
                every = slice(part.start * predictions.shape[1], part.stop * predictions.shape[1])
                owner = call.image[call.pair[every]] * self.denoiser.num_classes + call.label[every]
                maps.view(-1, *maps.shape[2:]).index_add_(0, owner, pixels.flatten(0, 1))
        return torch.cat(sums).flatten().div_(self.num_elements).float()

    @property
    def num_elements(self) -> int:
        """Elements of one image or its latents."""
        return math.prod(self.images.shape[1:])


def _column(vector: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A vector [m] shaped to multiply [m, ...]."""
    return vector.reshape(-1, *[1] * (like.ndim - 1))
