# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Noise schedules given by their log signal-to-noise ratio, registered with MONAI's ``NoiseSchedules``.

The continuous functions give lambda(t) = log(alpha^2 / sigma^2), from clean at t = 0 to noise at t = 1. Importing this
module adds ``cosine_log_snr``, ``shifted_cosine`` and ``linear_log_snr`` to the names that MONAI's schedulers take as
``schedule``. All sample lambda at ``t = linspace(0, 1, T)``, so the first and the last of the T timesteps have the
limits of lambda.

References:
    Hoogeboom, Heek and Salimans, simple diffusion: end-to-end diffusion for high resolution images, ICML 2023.
    Favero et al., Conditional diffusion models are medical image classifiers, MIDL 2025 (the variant ``as_released``).
"""

from __future__ import annotations

import math

import torch
from monai.networks.schedulers import NoiseSchedules

__all__ = [
    "cosine_log_snr",
    "cosine_log_snr_slope",
    "linear_log_snr",
    "shifted_cosine_log_snr",
    "shifted_cosine_log_snr_slope",
]


def cosine_log_snr(t: torch.Tensor | float, *, log_snr_min: float = -15.0, log_snr_max: float = 15.0) -> torch.Tensor:
    """Log signal-to-noise ratio of the cosine schedule between two limits.

    lambda(t) = -2 log tan(a + t (b - a)), a = atan(exp(-log_snr_max / 2)), b = atan(exp(-log_snr_min / 2))
    (Hoogeboom et al. 2023).

    Args:
        t: time, any shape, in [0, 1].
        log_snr_min: lambda(1).
        log_snr_max: lambda(0).

    Returns:
        lambda, shaped as ``t``; computed in float64, returned in the dtype of ``t`` (float32 for a number).

    Raises:
        ValueError: when ``log_snr_min`` is not below ``log_snr_max``.

    Example:
        >>> [round(value, 4) for value in cosine_log_snr(torch.tensor([0.0, 0.25, 0.5, 1.0])).tolist()]
        [15.0, 1.7612, 0.0, -15.0]
    """
    start, stop = _angles(log_snr_min, log_snr_max)
    time, dtype = _time(t)
    return (-2 * torch.log(torch.tan(start + time * (stop - start)))).to(dtype)


def cosine_log_snr_slope(
    t: torch.Tensor | float, *, log_snr_min: float = -15.0, log_snr_max: float = 15.0
) -> torch.Tensor:
    """Derivative of ``cosine_log_snr``: d lambda / dt = -4 (b - a) / sin(2 (a + t (b - a))), always negative.

    Args:
        t: time, any shape, in [0, 1].
        log_snr_min: lambda(1).
        log_snr_max: lambda(0).

    Returns:
        d lambda / dt, shaped as ``t``; computed in float64, returned in the dtype of ``t`` (float32 for a number).

    Raises:
        ValueError: when ``log_snr_min`` is not below ``log_snr_max``.

    Example:
        >>> round(cosine_log_snr_slope(0.5).item(), 4)
        -6.2788
    """
    start, stop = _angles(log_snr_min, log_snr_max)
    time, dtype = _time(t)
    return (-4 * (stop - start) / torch.sin(2 * (start + time * (stop - start)))).to(dtype)


def linear_log_snr(t: torch.Tensor | float, *, log_snr_min: float = -6.0, log_snr_max: float = 5.0) -> torch.Tensor:
    """Log signal-to-noise ratio that falls evenly: lambda(t) = log_snr_max + t (log_snr_min - log_snr_max).

    All levels between the limits are equally frequent, as in variational diffusion models with a linear schedule
    (Kingma et al. 2021). For representations, whose classes part over a narrow range of levels.

    Args:
        t: time, any shape, in [0, 1].
        log_snr_min: lambda(1).
        log_snr_max: lambda(0).

    Returns:
        lambda, shaped as ``t``; computed in float64, returned in the dtype of ``t`` (float32 for a number).

    Raises:
        ValueError: when ``log_snr_min`` is not below ``log_snr_max``.

    Example:
        >>> linear_log_snr(torch.tensor([0.0, 0.5, 1.0])).tolist()
        [5.0, -0.5, -6.0]
    """
    _angles(log_snr_min, log_snr_max)
    time, dtype = _time(t)
    return (log_snr_max + time * (log_snr_min - log_snr_max)).to(dtype)


def shifted_cosine_log_snr(
    t: torch.Tensor | float,
    *,
    resolution: float,
    reference_resolution: float = 64.0,
    log_snr_min: float = -15.0,
    log_snr_max: float = 15.0,
    as_released: bool = False,
) -> torch.Tensor:
    """Log signal-to-noise ratio of the cosine schedule, shifted for large images.

    lambda(t) = cosine(t) + shift, shift = 2 log(reference_resolution / resolution) (Hoogeboom et al. 2023):
    neighbouring pixels of a large image are alike, so it takes more noise to hide as much of it. The limits are
    compensated before the tangent map, so lambda still runs from ``log_snr_max`` to ``log_snr_min``.

    ``as_released`` reproduces the code published by Favero et al. (2025), which instead moves both limits by half the
    shift in the same direction: with 256 pixels and +-15, lambda runs from 10.84 to -19.16. For their weights only.

    Args:
        t: time, any shape, in [0, 1].
        resolution: edge of the image in pixels.
        reference_resolution: edge of the image for which the unshifted schedule is meant, in pixels.
        log_snr_min: lambda(1) (before the move, if ``as_released``).
        log_snr_max: lambda(0) (before the move, if ``as_released``).
        as_released: use the limits of the published code.

    Returns:
        lambda, shaped as ``t``; computed in float64, returned in the dtype of ``t`` (float32 for a number).

    Raises:
        ValueError: when a resolution is not positive, or ``log_snr_min`` is not below ``log_snr_max``.

    Example:
        >>> t = torch.tensor([0.0, 0.5, 1.0])
        >>> [round(value, 2) for value in shifted_cosine_log_snr(t, resolution=256).tolist()]
        [15.0, -2.77, -15.0]
        >>> [round(value, 2) for value in shifted_cosine_log_snr(t, resolution=256, as_released=True).tolist()]
        [10.84, -2.77, -19.16]
    """
    shift, low, high = _shifted_limits(resolution, reference_resolution, log_snr_min, log_snr_max, as_released)
    time, dtype = _time(t)
    return (cosine_log_snr(time, log_snr_min=low, log_snr_max=high) + shift).to(dtype)


def shifted_cosine_log_snr_slope(
    t: torch.Tensor | float,
    *,
    resolution: float,
    reference_resolution: float = 64.0,
    log_snr_min: float = -15.0,
    log_snr_max: float = 15.0,
    as_released: bool = False,
) -> torch.Tensor:
    """Derivative d lambda / dt of ``shifted_cosine_log_snr``, which has the same arguments.

    Args:
        t: time, any shape, in [0, 1].
        resolution: edge of the image in pixels.
        reference_resolution: edge of the image for which the unshifted schedule is meant, in pixels.
        log_snr_min: lambda(1) (before the move, if ``as_released``).
        log_snr_max: lambda(0) (before the move, if ``as_released``).
        as_released: use the limits of the published code.

    Returns:
        d lambda / dt, shaped as ``t``; computed in float64, returned in the dtype of ``t`` (float32 for a number).

    Raises:
        ValueError: when a resolution is not positive, or ``log_snr_min`` is not below ``log_snr_max``.

    Example:
        >>> round(shifted_cosine_log_snr_slope(0.5, resolution=256).item(), 4)
        -6.2738
    """
    _, low, high = _shifted_limits(resolution, reference_resolution, log_snr_min, log_snr_max, as_released)
    return cosine_log_snr_slope(t, log_snr_min=low, log_snr_max=high)


@NoiseSchedules.add_def("cosine_log_snr", "Cosine schedule between two limits of the log signal-to-noise ratio")
def _cosine_schedule(
    num_train_timesteps: int, log_snr_min: float = -15.0, log_snr_max: float = 15.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tables (betas, alphas, alphas_cumprod) of ``cosine_log_snr``."""
    t = _time_grid(num_train_timesteps)
    return schedule_tables(cosine_log_snr(t, log_snr_min=log_snr_min, log_snr_max=log_snr_max))


@NoiseSchedules.add_def("linear_log_snr", "Levels spread evenly between two limits of the log signal-to-noise ratio")
def _linear_schedule(
    num_train_timesteps: int, log_snr_min: float = -6.0, log_snr_max: float = 5.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tables (betas, alphas, alphas_cumprod) of ``linear_log_snr``."""
    t = _time_grid(num_train_timesteps)
    return schedule_tables(linear_log_snr(t, log_snr_min=log_snr_min, log_snr_max=log_snr_max))


@NoiseSchedules.add_def("shifted_cosine", "Cosine schedule shifted for the image's resolution (simple diffusion)")
def _shifted_cosine_schedule(
    num_train_timesteps: int,
    resolution: float,
    reference_resolution: float = 64.0,
    log_snr_min: float = -15.0,
    log_snr_max: float = 15.0,
    as_released: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tables (betas, alphas, alphas_cumprod) of ``shifted_cosine_log_snr``."""
    log_snr = shifted_cosine_log_snr(
        _time_grid(num_train_timesteps),
        resolution=resolution,
        reference_resolution=reference_resolution,
        log_snr_min=log_snr_min,
        log_snr_max=log_snr_max,
        as_released=as_released,
    )
    return schedule_tables(log_snr)


def _time(t: torch.Tensor | float) -> tuple[torch.Tensor, torch.dtype]:
    """Time in float64, because the tangent near its pole needs it, and the dtype to answer in."""
    if not isinstance(t, torch.Tensor):
        t = torch.tensor(t, dtype=torch.float32)
    return t.double(), t.dtype if t.is_floating_point() else torch.float32


def _angles(log_snr_min: float, log_snr_max: float) -> tuple[float, float]:
    if not log_snr_min < log_snr_max:
        raise ValueError(
            f"Argument `log_snr_min` must be below `log_snr_max`, but got {log_snr_min} and {log_snr_max}; "
            "the first is the log signal-to-noise ratio at t = 1 (noise), the second at t = 0 (clean)."
        )
    return math.atan(math.exp(-0.5 * log_snr_max)), math.atan(math.exp(-0.5 * log_snr_min))


def _shifted_limits(
    resolution: float, reference_resolution: float, log_snr_min: float, log_snr_max: float, as_released: bool
) -> tuple[float, float, float]:
    """The shift, and the limits to use before it is added."""
    for name, value in (("resolution", resolution), ("reference_resolution", reference_resolution)):
        if not value > 0:
            raise ValueError(f"Argument `{name}` must be a positive number of pixels, but got {value}.")
    shift = 2 * math.log(reference_resolution / resolution)
    move = 0.5 * shift if as_released else -shift
    return shift, log_snr_min + move, log_snr_max + move


def _time_grid(num_train_timesteps: int) -> torch.Tensor:
    if num_train_timesteps < 2:
        raise ValueError(
            f"Argument `num_train_timesteps` must be at least 2, but got {num_train_timesteps}; "
            "one timestep cannot reach from clean images to noise."
        )
    return torch.linspace(0, 1, num_train_timesteps, dtype=torch.float64)


def schedule_tables(log_snr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """MONAI's tables (betas, alphas, alphas_cumprod), float32, from lambda in float64.

    alphas_cumprod = sigmoid(lambda) = alpha^2. Near 1 it is a multiple of 6e-8 in float32, so at lambda = 15 a log-SNR
    read back from the table is off by up to 0.1; the functions of this module have no such limit.
    """
    alphas_cumprod = torch.sigmoid(log_snr)
    previous = torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:-1]])
    alphas = alphas_cumprod / previous
    return (1 - alphas).float(), alphas.float(), alphas_cumprod.float()
