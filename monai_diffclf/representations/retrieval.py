# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The training images that are nearest in a representation: what stands for counterfactuals where nothing decodes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.schedulers import Scheduler
from numpy.typing import NDArray

from .._checks import plain_tensor
from ..classification import NoiseDraws, image_keys
from ..networks.denoiser import Denoiser
from ..networks.latent_space import LatentSpace, encode
from ..networks.schedulers import NoiseProcess
from ..sampling.paths import denoise, edit_timesteps
from .training_index import Neighbour, TrainingIndex, mean_vectors

__all__ = ["Retrieval", "edit_latents"]


@torch.no_grad()
def edit_latents(
    latents: torch.Tensor,
    denoiser: Denoiser,
    labels: torch.Tensor,
    *,
    keys: Sequence[bytes],
    start: float = 0.6,
    num_steps: int = 10,
    seed: int = 0,
) -> torch.Tensor:
    """Latents as they might be had their images been of other classes: noised to a level, and denoised as the class.

    Deterministic DDIM steps from z = alpha x + sigma epsilon (Meng et al., SDEdit, ICLR 2022), with the
    same noise whatever the class.

    Args:
        latents: latents [B, D, *grid].
        denoiser: the network with its noise process and classes.
        labels: the class each is edited towards [B].
        keys: what the noise of each is seeded by, see :func:`monai_diffclf.classification.image_keys`.
        start: where in the schedule to start, in (0, 1]; the higher, the less is kept.
        num_steps: levels of the way down, at least 2.
        seed: of the noise.

    Returns:
        edited latents [B, D, *grid].
    """
    timesteps = edit_timesteps(denoiser.process, start, num_steps)
    draws = NoiseDraws(torch.zeros(1), seed)
    rows = torch.arange(len(latents), device=latents.device)
    random = draws.random(keys, latents.device)
    noise = draws.batch_noise(random, rows, torch.zeros_like(rows), latents.shape[1:]).double()
    noisy = denoiser.process.add_noise(latents.double(), noise, timesteps[0].expand(len(latents)))
    return denoise(denoiser, noisy, timesteps, labels, image=rows).to(latents.dtype)


class Retrieval:
    """Training images nearest to an image as it is, and to it edited towards another class.

    In place of counterfactuals for a space that cannot draw: not what the image would look like, but which known
    images it would then be near. `monai_diffclf.handlers.CaseReport` takes it as ``nearest=``.

    Args:
        index: the training images, or the path of their index.
        latent_space: the space, of the index's version.
        scheduler: the noise schedule of the network.
        num_classes: number of classes.
        read: transform of an item ``{"image": file}`` that gives the image as the network's pipeline has it, for
            pictures; None for names alone.
        conditioning: how a class reaches the network.
        count: how many images of each.
        start: see `edit_latents`, as the next.
        num_steps: levels of the way down.
        batch_size: network evaluations in one call.

    Raises:
        ValueError: when the index is of another space.
    """

    def __init__(
        self,
        index: TrainingIndex | str | os.PathLike[str],
        latent_space: LatentSpace,
        scheduler: Scheduler | NoiseProcess,
        num_classes: int,
        *,
        read: Callable[[dict[str, Any]], Any] | None = None,
        conditioning: str = "class_labels",
        count: int = 3,
        start: float = 0.6,
        num_steps: int = 10,
        batch_size: int = 256,
    ) -> None:
        self.index = index if isinstance(index, TrainingIndex) else TrainingIndex.load(index)
        if self.index.version != latent_space.version:
            raise ValueError(
                f"index: expected one of the space {latent_space.version}, got one of {self.index.version}; train "
                "again, or remove the file, and no nearest training images are shown"
            )
        self.latent_space, self.scheduler, self.num_classes = latent_space, scheduler, num_classes
        self.read, self.conditioning, self.count = read, conditioning, count
        self.start, self.num_steps, self.batch_size = start, num_steps, batch_size

    @torch.no_grad()
    def __call__(
        self, images: torch.Tensor, network: torch.nn.Module, *, target: torch.Tensor, **_: Any
    ) -> list[list[Neighbour]]:
        """Neighbours of each image: of it as it is, then of it edited towards its target.

        Args:
            images: images [B, C, *spatial].
            network: the denoiser, in eval mode.
            target: class to edit each towards [B].
        """
        latents = encode(self.latent_space, images)
        denoiser = Denoiser(
            network,
            self.scheduler,
            self.num_classes,
            conditioning=self.conditioning,
            num_images=len(images),
            batch_size=self.batch_size,
            device=latents.device,
        )
        keys = image_keys(images)
        edited = edit_latents(latents, denoiser, target, keys=keys, start=self.start, num_steps=self.num_steps)
        own = self.index.nearest(mean_vectors(latents), count=self.count)
        other = self.index.nearest(mean_vectors(edited), count=self.count, as_class=target.tolist())
        return [mine + theirs for mine, theirs in zip(own, other, strict=True)]

    def picture(self, neighbour: Neighbour) -> NDArray[Any] | None:
        """The image of a neighbour [C, *spatial] in [-1, 1]; None where its file is not at hand or cannot be read."""
        if self.read is None or not neighbour.file or not Path(neighbour.file).is_file():
            return None
        try:
            found: Any = self.read({"image": neighbour.file})["image"]
        except (ValueError, OSError, RuntimeError):
            return None
        return np.asarray(plain_tensor(torch.as_tensor(found)).float().cpu())
