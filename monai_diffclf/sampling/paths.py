# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Paths between an image and noise under a class: up by inversion, down by deterministic or ancestral steps.

Up: add noise (`NoiseProcess.add_noise`), or follow the class's own deterministic path back (`invert`). Down
(`denoise`): deterministic DDIM steps, or ancestral steps that draw noise, with or without guidance. Either way down can
be kept to a mask. The arithmetic of a path is float64, as an inversion divides by the little noise of the lowest level;
the network gets float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from .._checks import check_integer
from ..networks.denoiser import Denoiser
from ..networks.schedulers.noise_process import NoiseProcess

__all__ = ["ancestral_step", "denoise", "edit_timesteps", "invert"]


def edit_timesteps(process: NoiseProcess, start: float, num_steps: int) -> torch.Tensor:
    """Timesteps of an edit [S], from ``start`` down to the least noise, each one once.

    Evenly spaced over the schedule. Where the schedule has fewer timesteps than asked for, each is taken once, so that
    S is smaller.

    Args:
        process: the forward process.
        start: where in the schedule to start, in (0, 1]; 1 is all noise.
        num_steps: number of levels.

    Raises:
        ValueError: when an argument is out of range.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> edit_timesteps(NoiseProcess(DDPMScheduler(1000)), 0.5, 5).tolist()
        [500, 375, 250, 125, 0]
    """
    if isinstance(start, bool) or not isinstance(start, (int, float)) or not 0 < start <= 1:
        raise ValueError(f"start: expected a number above 0 and up to 1, the share of the schedule, got {start!r}")
    num_steps = check_integer(num_steps, "num_steps", 2)
    levels = torch.linspace(start, 0, num_steps, dtype=torch.float64)
    timesteps = process.timesteps(levels)
    if process.discrete:
        timesteps = timesteps.clamp(max=process.num_train_timesteps - 1).unique(sorted=True).flip(0)
    return timesteps


def invert(
    denoiser: Denoiser,
    images: torch.Tensor,
    timesteps: torch.Tensor,
    labels: torch.Tensor,
    *,
    image: torch.Tensor | None = None,
    corrections: int = 2,
) -> list[torch.Tensor]:
    """Noisy images from which deterministic DDIM steps lead back to the images: DDIM inversion, corrected.

    A DDIM step (Song et al. 2021, equation 12 with eta = 0) is z_s = alpha_s x_hat(z_t) + sigma_s epsilon_hat(z_t). The
    usual inversion takes x_hat and epsilon_hat at z_s instead, and does not come back to the image. Here the step is
    solved for z_t by fixed-point iterations z_t <- (alpha_t / alpha_s) (z_s - sigma_s epsilon_hat(z_t)) + sigma_t
    epsilon_hat(z_t), starting from the last level's epsilon_hat. No guidance is used.

    Args:
        denoiser: the denoiser.
        images: images [B, C, *spatial].
        timesteps: timesteps of the path, highest first, from `edit_timesteps`.
        labels: class of each image [B].
        image: index of each image [B], for conditions of the images' own.
        corrections: network evaluations a step, at least 1.

    Returns:
        z at each timestep [B, C, *spatial], float64, in the order of ``timesteps``.
    """
    process, path = denoiser.process, []
    z, alpha, sigma = images.double(), 1.0, 0.0
    epsilon = torch.zeros_like(z)
    for timestep in timesteps.flip(0):
        alpha_t, sigma_t = (float(factor) for factor in process.alpha_sigma(timestep[None]))
        ratio = alpha_t / alpha
        for _ in range(corrections):
            up = ratio * (z - sigma * epsilon) + sigma_t * epsilon
            epsilon = (up - alpha_t * denoiser.clean(up, timestep, labels, image=image)) / sigma_t
        z, alpha, sigma = ratio * (z - sigma * epsilon) + sigma_t * epsilon, alpha_t, sigma_t
        path.append(z)
    return path[::-1]


def ancestral_step(
    process: NoiseProcess,
    noisy: torch.Tensor,
    clean: torch.Tensor,
    now: torch.Tensor,
    then: torch.Tensor,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """One step down, from z at ``now`` to z at ``then``.

    With ``noise`` a draw from q(z_s | z_t, x_hat) (Ho et al. 2020, equation 7; Kingma et al. 2021, equation 4):
    z_s = alpha_s x_hat + (sigma_s^2 - v)^(1/2) epsilon_hat + v^(1/2) noise, v = (sigma_t^2 - (alpha_t / alpha_s)^2
    sigma_s^2) sigma_s^2 / sigma_t^2. Without it the deterministic DDIM step, v = 0.

    Args:
        process: the forward process.
        noisy: z_t [B, C, *spatial].
        clean: x_hat [B, C, *spatial].
        now: timestep t, one number.
        then: timestep s, below t.
        noise: standard normal noise [B, C, *spatial], or None.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (
        (float(factor) for factor in process.alpha_sigma(timestep[None])) for timestep in (now, then)
    )
    epsilon = (noisy - alpha_t * clean) / sigma_t
    if noise is None:
        return alpha_s * clean + sigma_s * epsilon
    kept = alpha_t * sigma_s / (alpha_s * sigma_t)  # (sigma_s^2 - v)^(1/2) / sigma_s
    fresh = sigma_s * math.sqrt(1 - kept**2)
    return alpha_s * clean + sigma_s * kept * epsilon + fresh * noise


def denoise(
    denoiser: Denoiser,
    noisy: torch.Tensor,
    timesteps: torch.Tensor,
    labels: torch.Tensor,
    *,
    away: torch.Tensor | None = None,
    guidance: float = 0.0,
    image: torch.Tensor | None = None,
    noise: Callable[[int], torch.Tensor] | None = None,
    clip: Sequence[float] | None = None,
    mask: torch.Tensor | None = None,
    known: Callable[[int], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Denoise from the first timestep down; the result is x_hat at the last.

    The network is evaluated once at each timestep, and always told the level that z has.

    Args:
        denoiser: the denoiser.
        noisy: z at the first timestep [B, C, *spatial].
        timesteps: timesteps, highest first, from `edit_timesteps`.
        labels: class of each image [B].
        away: class or null class to guide away from [B], or None.
        guidance: w of the guidance, see :class:`monai_diffclf.networks.Denoiser`.
        image: index of each image [B], for conditions of the images' own.
        noise: from the index of a step to standard normal noise [B, C, *spatial], for ancestral steps; None for
            deterministic ones.
        clip: bounds of the clean image at each step, or None.
        mask: where to edit [B, 1, *spatial], 0 to 1; elsewhere z is put back to ``known`` at each step.
        known: from the index of a timestep to z there [B, C, *spatial], needed with ``mask``.

    Raises:
        ValueError: when ``mask`` comes without ``known``.
    """
    if mask is not None and known is None:
        raise ValueError("known: expected a function with the mask, got None")
    z, clean = noisy.double(), noisy
    for step, timestep in enumerate(timesteps):
        clean = denoiser.clean(z, timestep, labels, away=away, guidance=guidance, image=image)
        if clip is not None:
            clean = clean.clamp(*clip)
        if step + 1 < len(timesteps):
            draw = None if noise is None else noise(step)
            z = ancestral_step(denoiser.process, z, clean, timestep, timesteps[step + 1], draw)
            if mask is not None and known is not None:
                z = mask * z + (1 - mask) * known(step + 1)
    return clean
