# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Squared epsilon errors from a network: any images, draws and classes, packed into full forward calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from ..classification import NoiseDraws, image_keys
from ..networks.conditioning import Conditioning, class_table
from ..networks.schedulers.noise_process import NoiseProcess

__all__ = ["DrawEvaluator"]


@dataclass
class DrawEvaluator:
    """A network, some images and the noise draws they are tested with.

    Args:
        network: the denoiser in eval mode.
        images: images [B, C, *spatial], float32.
        process: the network's forward process.
        draws: the noise draws.
        conditioning: from labels [n] to keyword arguments of the network.
        num_classes: number of classes K.
        batch_size: network evaluations in one forward call.
        kwargs: further keyword arguments of the network.
        amp_dtype: dtype of the network's autocast, None for none. Errors and their sums are never reduced.
    """

    network: Callable[..., Any]
    images: torch.Tensor
    process: NoiseProcess
    draws: NoiseDraws
    conditioning: Conditioning
    num_classes: int
    batch_size: int
    kwargs: dict[str, Any]
    amp_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        self.random = self.draws.random(image_keys(self.images), self.images.device)
        self.timesteps = self.process.timesteps(self.draws.levels)
        self.conditions = class_table(self.conditioning, self.num_classes, self.images.device)

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
            full_precision: ignore ``amp_dtype``.

        Returns:
            mean squared error of each pair and class [P, K], float32; NaN where not asked for.

        Raises:
            ValueError: when a prediction has the wrong shape or is not finite.
        """
        values = torch.full((len(image), self.num_classes), torch.nan, device=self.images.device)
        evaluations = classes.cpu().nonzero()
        image, draw = image.cpu(), draw.cpu()
        for start in range(0, len(evaluations), self.batch_size):
            chunk = evaluations[start : start + self.batch_size]
            first, last = int(chunk[0, 0]), int(chunk[-1, 0])
            pairs = slice(first, last + 1)
            squared = self._squared(image[pairs], draw[pairs], chunk - torch.tensor([first, 0]), full_precision)
            sums = squared.flatten(1).sum(1, dtype=torch.float64)
            pair, label = chunk.to(values.device).unbind(1)
            values[pair, label] = sums.div(squared[0].numel()).float()
            if maps is not None:
                owner = image[chunk[:, 0]].to(values.device) * self.num_classes + label
                pixels = squared.mean(1, dtype=torch.float64)
                if map_weights is not None:
                    weights = map_weights.to(pixels.device)[draw[chunk[:, 0]].to(pixels.device)]
                    pixels *= weights.reshape(-1, *[1] * (pixels.ndim - 1))
                maps.view(-1, *maps.shape[2:]).index_add_(0, owner, pixels)
        # An error that is not finite would pass for a draw that was not made.
        bad = ~torch.isfinite(values) & classes.to(values.device)
        if bool(bad.any()):
            count = len(image[bad.any(1).cpu()].unique())
            raise ValueError(
                f"network: expected finite predictions, got NaN or infinity for {count} of {len(self.images)} images"
            )
        return values

    def _squared(
        self, image: torch.Tensor, draw: torch.Tensor, evaluations: torch.Tensor, full_precision: bool
    ) -> torch.Tensor:
        """Squared epsilon errors [n, C, *spatial] of n evaluations (pair, class) of the given pairs."""
        shape, device = tuple(self.images.shape[1:]), self.images.device
        noise = self.draws.batch_noise(self.random, image, draw, shape)
        images, timesteps = self.images[image.to(device)], self.timesteps[draw].to(device)
        pair, label = evaluations.to(device).unbind(1)
        noisy = self.process.add_noise(images, noise, timesteps)[pair]
        condition = {name: table[label] for name, table in self.conditions.items()}
        with torch.inference_mode(), self._autocast(full_precision):
            prediction = self.network(x=noisy, timesteps=timesteps[pair], **condition, **self.kwargs)
        if prediction.shape != noisy.shape:
            raise ValueError(
                f"network: expected a prediction of the input's shape {list(noisy.shape)}, got "
                f"{list(prediction.shape)}; networks that also predict a variance are not supported"
            )
        target = self.process.target(images, noise, timesteps)[pair]
        factor = self.process.epsilon_factor(timesteps).to(device=device, dtype=torch.float32)[pair]
        squared: torch.Tensor = (prediction.float() - target).square() * factor.reshape(-1, *[1] * (images.ndim - 1))
        return squared

    def _autocast(self, full_precision: bool) -> AbstractContextManager[Any]:
        if self.amp_dtype is None:
            return nullcontext()
        enabled = not full_precision
        return torch.autocast(self.images.device.type, dtype=self.amp_dtype, enabled=enabled)

    def grid(self, images: torch.Tensor, draws: torch.Tensor, classes: torch.Tensor, **options: Any) -> torch.Tensor:
        """Errors of some images [b], each under the same draws [n] and under its own classes [b, K]: [b, K, n]."""
        image = images.repeat_interleave(len(draws))
        mask = classes.repeat_interleave(len(draws), dim=0)
        values = self.evaluate(image, draws.repeat(len(images)), mask, **options)
        return values.view(len(images), len(draws), self.num_classes).transpose(1, 2).contiguous()

    @property
    def num_elements(self) -> int:
        """Elements of one image."""
        return math.prod(self.images.shape[1:])
