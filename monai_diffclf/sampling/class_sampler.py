# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Images of each class, sampled from a class-conditional diffusion model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.schedulers import Scheduler

from ..networks.conditioning import Conditioning, make_conditioning
from ..networks.schedulers.noise_process import NoiseProcess

__all__ = ["sample_classes"]


@torch.no_grad()
def sample_classes(
    network: torch.nn.Module,
    scheduler: Scheduler,
    labels: torch.Tensor,
    shape: Sequence[int],
    *,
    num_classes: int,
    conditioning: str | Conditioning = "class_labels",
    num_steps: int = 25,
    guidance: float = 0.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Sample one image a label with deterministic DDIM steps (Song et al. 2021, equation 12 with eta = 0).

    Every step takes the implied clean image x_hat and noise epsilon_hat to the next, lower level: z' = alpha' x_hat +
    sigma' epsilon_hat. It holds for every scheduler of `NoiseProcess`, rectified flow included.

    Args:
        network: the denoiser, in eval mode.
        scheduler: the scheduler it was trained with.
        labels: class of each image [B].
        shape: shape of one image [C, *spatial].
        num_classes: number of classes K; index K is the null class.
        conditioning: see :mod:`monai_diffclf.networks.conditioning`.
        num_steps: number of network evaluations an image.
        guidance: w of classifier-free guidance (1 + w) f(z, k) - w f(z, null) (Ho and Salimans 2022, equation 6); 0 for
            none.
        seed: seed of the starting noise; the i-th image of any call with this seed and shape starts from the same
            noise.
        device: where the network is.

    Returns:
        images [B, C, *spatial], scaled as in training.

    Raises:
        ValueError: when ``num_steps`` is not a positive integer.

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
    if not isinstance(num_steps, int) or num_steps < 1:
        raise ValueError(f"num_steps: expected a positive integer, got {num_steps!r}")
    process, condition = NoiseProcess.of(scheduler), make_conditioning(conditioning, num_classes)
    levels = torch.linspace(1 - 0.5 / num_steps, 0.5 / num_steps, num_steps, dtype=torch.float64)
    timesteps = process.timesteps(levels).to(device)
    generator = torch.Generator().manual_seed(seed)
    z = torch.stack([torch.randn(tuple(shape), generator=generator) for _ in labels]).to(device)
    labels = labels.to(device)
    clean = z
    for step in range(num_steps):
        now = timesteps[step].expand(len(labels))
        prediction = network(x=z, timesteps=now, **condition(labels)).float()
        if guidance:
            null = network(x=z, timesteps=now, **condition(torch.full_like(labels, num_classes))).float()
            prediction = (1 + guidance) * prediction - guidance * null
        clean = process.predict_sample(prediction, z, now)
        if step + 1 < num_steps:
            alpha, sigma = (float(factor) for factor in process.alpha_sigma(timesteps[step : step + 1]))
            z = process.add_noise(clean, (z - alpha * clean) / sigma, timesteps[step + 1].expand(len(labels)))
    return clean
