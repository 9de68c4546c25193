# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The edits behind a counterfactual: up once, then down under the own class and under the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from .._checks import check_integer
from ..classification import NoiseDraws, image_keys
from ..networks.denoiser import Denoiser
from ..networks.latent_space import LatentSpace, PixelSpace, decode, mask_in_latents
from ..networks.schedulers.noise_process import NoiseProcess
from ..sampling.paths import denoise, edit_timesteps, invert
from .counterfactual_result import Counterfactuals
from .masks import mask_from_map

__all__ = ["EditSettings", "EditedBatch", "PairEdit"]

Judge = Callable[..., torch.Tensor]
METHODS = ("invert", "sample")
GUIDE_AWAY = ("source", "null")


@dataclass(frozen=True)
class EditSettings:
    """How to edit; for the arguments see `CounterfactualGenerator`.

    Raises:
        ValueError: when an argument is out of range.
    """

    process: NoiseProcess
    num_classes: int
    method: str
    start: float
    num_steps: int
    guidance: tuple[float, ...]
    guide_away: str
    edit_fraction: float | None
    seed: int
    clip: Sequence[float] | None
    max_drift: float

    def __post_init__(self) -> None:
        check_integer(self.num_classes, "num_classes", 2)
        if self.method not in METHODS:
            raise ValueError(f"method: expected one of {list(METHODS)}, got {self.method!r}")
        if self.guide_away not in GUIDE_AWAY:
            raise ValueError(f"guide_away: expected one of {list(GUIDE_AWAY)}, got {self.guide_away!r}")
        rising = list(self.guidance) == sorted(set(self.guidance))
        if not (self.guidance and rising and self.guidance[0] >= 0):
            raise ValueError(
                f"guidance: expected a number of 0 or more, or several that rise, got {list(self.guidance)}"
            )
        if self.edit_fraction is not None and not 0 < self.edit_fraction <= 1:
            raise ValueError(f"edit_fraction: expected None or a number above 0 and up to 1, got {self.edit_fraction}")
        if self.clip is not None and not (len(self.clip) == 2 and self.clip[0] < self.clip[1]):
            raise ValueError(f"clip: expected the lowest and the highest value of an image, or None, got {self.clip}")
        if not self.max_drift > 0:
            raise ValueError(f"max_drift: expected a positive number, got {self.max_drift}")
        edit_timesteps(self.process, self.start, self.num_steps)  # refuses what is no path
        NoiseDraws(torch.zeros(1), self.seed)  # refuses what is no seed

    @property
    def uses_null(self) -> bool:
        """Whether the null class is evaluated."""
        return self.guide_away == "null" and self.guidance[-1] > 0


@dataclass(frozen=True)
class EditedBatch:
    """Images to edit, their latents, and which images of the call they are.

    Args:
        images: images [B, C, *spatial], float32.
        latents: what the network works on [B, c, *grid].
        space: the latent space.
        rows: index of each image in the whole call [B]; None for all of them.
    """

    images: torch.Tensor
    latents: torch.Tensor
    space: LatentSpace
    rows: torch.Tensor | None = None

    def __getitem__(self, rows: torch.Tensor) -> EditedBatch:
        return replace(self, images=self.images[rows], latents=self.latents[rows], rows=rows)


class PairEdit:
    """The edits of a batch: the way up is gone once, the ways down share it.

    Args:
        settings: how to edit.
        denoiser: the denoiser.
        batch: images [B].
        source: own classes [B].
        target: classes to edit towards [B].
    """

    def __init__(
        self,
        settings: EditSettings,
        denoiser: Denoiser,
        batch: EditedBatch,
        source: torch.Tensor,
        target: torch.Tensor,
    ) -> None:
        self.settings, self.denoiser, self.source, self.target = settings, denoiser, source, target
        self.images, self.latents, self.space = batch.images, batch.latents, batch.space
        everyone = torch.arange(len(batch.images), device=batch.images.device)
        self.index = everyone if batch.rows is None else batch.rows
        self.away = source if settings.guide_away == "source" else torch.full_like(source, settings.num_classes)
        self.timesteps = edit_timesteps(settings.process, settings.start, settings.num_steps)
        self.draws = NoiseDraws(torch.zeros(1), settings.seed)
        self.random = self.draws.random(image_keys(self.images), self.latents.device)
        self.path = None
        if settings.method == "invert":
            self.path = invert(denoiser, self.latents, self.timesteps, source, image=self.index)

    def run(self, judge: Judge | None, mask: torch.Tensor | None) -> Counterfactuals:
        """Factual and counterfactual of each image, with the first guidance that flips it.

        Args:
            judge: the classifier, from images and their indices to probabilities [B, K], or None.
            mask: where to edit [B, 1, *spatial], 0 to 1; None for everywhere.
        """
        factual, counterfactual = torch.empty_like(self.images), torch.empty_like(self.images)
        used = torch.zeros(len(self.images), device=self.images.device)
        flipped = torch.zeros(len(self.images), dtype=torch.bool, device=self.images.device)
        for number, guidance in enumerate(self.settings.guidance):
            rows = (~flipped).nonzero().flatten()
            if len(rows) == 0:
                break
            used[rows] = guidance
            if number == 0 or self.settings.uses_null:  # away from the own class, guidance leaves it alone
                factual[rows] = self._down(rows, self.source, guidance, mask)
            counterfactual[rows] = self._down(rows, self.target, guidance, mask)
            if judge is not None:
                flipped[rows] = judge(counterfactual[rows], self.index[rows]).argmax(1) == self.target[rows]
        return Counterfactuals(
            self.images,
            factual,
            counterfactual,
            self.source,
            self.target,
            drifted=(factual - self.images).abs().flatten(1).mean(1) > self.settings.max_drift,
            guidance=used,
            mask=mask,
            flipped=None if judge is None else flipped,
        )

    def find_mask(self, evidence: torch.Tensor) -> torch.Tensor | None:
        """Where the evidence for the own class and the change of an edit without mask are both high [B, 1, *spatial].

        Args:
            evidence: how much better the own class explains each pixel than the target [B, *spatial].
        """
        if self.settings.edit_fraction is None:
            return None
        everyone = torch.arange(len(self.images), device=self.images.device)
        edited = self._down(everyone, self.target, self.settings.guidance[0], None)
        change = (edited - self.images).abs().mean(1)
        found = mask_from_map(change * evidence.clamp(min=0), fraction=self.settings.edit_fraction)
        return found.to(self.images)

    def _down(
        self, rows: torch.Tensor, labels: torch.Tensor, guidance: float, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Some of the images, denoised under their labels."""
        images, clip = self.images[rows], self.settings.clip
        where = None if mask is None else mask[rows].double()
        edited = denoise(
            self.denoiser,
            self._known(rows, 0),
            self.timesteps,
            labels[rows],
            away=self.away[rows],
            guidance=guidance,
            image=self.index[rows],
            noise=None if self.path else lambda step: self._noise(rows, step + 1),
            # Latents have no range that is known; their images are clipped in the end.
            clip=None if self.path or not isinstance(self.space, PixelSpace) else clip,
            mask=None if where is None else mask_in_latents(where, self.space.stride, self.latents.shape[2:]),
            known=lambda step: self._known(rows, step),
        )
        if not isinstance(self.space, PixelSpace):
            edited = decode(self.space, edited.to(self.latents.dtype), purpose="counterfactuals")
        if where is not None:
            edited = where * edited + (1 - where) * images
        return (edited if clip is None else edited.clamp(*clip)).float()

    def _known(self, rows: torch.Tensor, step: int) -> torch.Tensor:
        """The images on their way up, at a timestep."""
        if self.path:
            return self.path[step][rows]
        timesteps = self.timesteps[step].expand(len(rows))
        return self.settings.process.add_noise(self.latents[rows].double(), self._noise(rows, 0), timesteps)

    def _noise(self, rows: torch.Tensor, index: int) -> torch.Tensor:
        """Standard normal noise, each image's own: seeded by its pixels, the same whatever class it is edited to."""
        draw = torch.full_like(rows, index)
        return self.draws.batch_noise(self.random, rows, draw, self.latents.shape[1:]).double()
