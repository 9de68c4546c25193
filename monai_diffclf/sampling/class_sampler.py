# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Images of each class, sampled from a class-conditional diffusion model."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.schedulers import Scheduler

from .._checks import check_integer
from ..classification.philox import ImageRandom
from ..networks.class_use import check_uses_classes
from ..networks.conditioning import Conditioning
from ..networks.denoiser import Denoiser
from ..networks.latent_space import LatentSpace, check_decodes, check_latent_space, decode
from ..networks.schedulers.noise_process import NoiseProcess
from .paths import denoise

__all__ = ["sample_classes"]

METHODS = ("ddim", "ancestral")


@torch.no_grad()
def sample_classes(
    network: torch.nn.Module,
    scheduler: Scheduler | NoiseProcess,
    labels: torch.Tensor,
    shape: Sequence[int],
    *,
    num_classes: int,
    conditioning: str | Conditioning = "class_labels",
    num_steps: int = 25,
    guidance: float = 0.0,
    method: str = "ddim",
    seed: int = 0,
    device: torch.device | str = "cpu",
    latent_space: LatentSpace | None = None,
    conditions: Mapping[str, Any] | None = None,
) -> torch.Tensor:
    """Sample one image a label, by deterministic DDIM steps or by ancestral ones.

    A DDIM step (Song et al. 2021, equation 12 with eta = 0) takes the implied clean image x_hat and noise epsilon_hat
    to the next, lower level: z' = alpha' x_hat + sigma' epsilon_hat. It holds for every `NoiseProcess`, rectified flow
    included. For ancestral steps see :func:`monai_diffclf.sampling.ancestral_step`.

    Args:
        network: the denoiser, in eval mode.
        scheduler: the scheduler it was trained with.
        labels: class of each image [B].
        shape: shape of one image, or of its latents [C, *spatial].
        num_classes: number of classes K; index K is the null class.
        conditioning: see :mod:`monai_diffclf.networks.conditioning`.
        num_steps: number of network evaluations an image; two more tell whether the network uses the class.
        guidance: w of classifier-free guidance (1 + w) f(z, k) - w f(z, null) (Ho and Salimans 2022, equation 6); 0 for
            none.
        method: ``"ddim"`` or ``"ancestral"``.
        seed: seed of the noise; the i-th image of any call with this seed and shape starts from the same noise.
        device: where the network is.
        latent_space: the space the network works in, one that can decode; None for pixels.
        conditions: further arguments of the network: tensors with one row a label, and what all calls share.

    Returns:
        images [B, C, *spatial], scaled as in training.

    Raises:
        ValueError: when ``num_steps`` is not a positive integer, ``method`` is unknown, the latent space cannot decode
            or the network ignores the class.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> class Denoiser(torch.nn.Module):  # knows that class k is the constant image k
        ...     def forward(self, x, timesteps, context=None, class_labels=None):
        ...         return class_labels.view(-1, 1, 1, 1).expand_as(x).float()
        >>> scheduler = DDPMScheduler(100, schedule="cosine", prediction_type="sample")
        >>> images = sample_classes(Denoiser().eval(), scheduler, torch.tensor([0, 1]), [1, 4, 4], num_classes=2)
        >>> [round(x, 1) for x in images.mean((1, 2, 3)).tolist()]
        [0.0, 1.0]
    """
    num_steps = check_integer(num_steps, "num_steps")
    if method not in METHODS:
        raise ValueError(f"method: expected one of {list(METHODS)}, got {method!r}")
    space = check_latent_space(latent_space)
    check_decodes(space, "samples")
    labels = labels.to(device)
    denoiser = Denoiser(
        network,
        scheduler,
        num_classes,
        conditioning=conditioning,
        conditions=conditions,
        num_images=len(labels),
        null_class=guidance > 0,
        device=device,
    )
    # In the middle of equal parts of the schedule: neither end, where there is nothing to predict or nothing left.
    levels = torch.linspace(1 - 0.5 / num_steps, 0.5 / num_steps, num_steps, dtype=torch.float64)
    keys = [struct.pack("<q", index) for index in range(len(labels))]
    random = ImageRandom(keys, seed, purpose=b"sampling", device=device)
    everyone = torch.arange(len(labels), device=device)

    if len(labels):
        check_uses_classes(denoiser, torch.zeros(1, *shape, device=device), null_class=guidance > 0)

    def noise(step: int) -> torch.Tensor:
        return random.normal(everyone, torch.full_like(everyone, step), shape)

    latents = denoise(
        denoiser,
        noise(0),
        denoiser.process.timesteps(levels),
        labels,
        away=torch.full_like(labels, num_classes),
        guidance=guidance,
        image=everyone,
        noise=None if method == "ddim" else lambda step: noise(step + 1).double(),
    )
    return decode(space, latents.float(), purpose="samples")
