# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The noise process of a scheduler with a table of noise levels: DDPM, DDIM, PNDM."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.schedulers import Scheduler

from .noise_process import NoiseProcess
from .parameterization import PREDICTION_TYPES, alpha_sigma

__all__ = ["TableProcess"]

_ARCHIVED = "generative.networks.schedulers"
"""Where the archived package monai-generative has its schedulers: other classes, the same tables."""


class TableProcess(NoiseProcess):
    """alpha^2 = ``alphas_cumprod``, sigma^2 = 1 - alpha^2; timesteps are integers 0 to T - 1.

    Built on the scheduler's tables rather than its ``add_noise``, which converts those tables to the dtype of its input
    for good: one half-precision call would degrade all later ones.

    Args:
        scheduler: a scheduler of MONAI, or of monai-generative, with ``prediction_type`` epsilon, sample or
            v_prediction.

    Raises:
        TypeError: when ``scheduler`` is none of these, or has no table.
        ValueError: when its prediction type is not supported.
    """

    discrete = True

    def __init__(self, scheduler: Scheduler) -> None:
        self.prediction_type = scheduler_prediction(scheduler)
        if not isinstance(getattr(scheduler, "alphas_cumprod", None), torch.Tensor):
            raise TypeError(
                f"scheduler: expected one with a table of noise levels (alphas_cumprod), got {type(scheduler).__name__}"
            )
        self.num_train_timesteps = int(scheduler.num_train_timesteps)
        alpha2 = scheduler.alphas_cumprod.detach().to(device="cpu", dtype=torch.float64)
        # A schedule that reaches exactly 0 or 1 (MONAI's "cosine" in float32) would have an infinite log-SNR there.
        alpha2 = alpha2.clamp(1e-12, 1 - 1e-12)
        self._log_snr_table = torch.log(alpha2) - torch.log1p(-alpha2)
        rate = -torch.gradient(self._log_snr_table)[0] if len(alpha2) > 1 else torch.ones(1, dtype=torch.float64)
        self._rate_table = rate * self.num_train_timesteps

    def timesteps(self, levels: torch.Tensor) -> torch.Tensor:
        """Timesteps of levels in [0, 1) [N], int64."""
        return (levels.double() * self.num_train_timesteps).long()

    def at_log_snr(self, log_snr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Timesteps (float32, between two of them a fraction), alpha and sigma (float64) of some log-SNR [N].

        A log-SNR beyond the schedule gives the schedule's end.
        """
        levels = log_snr.double()
        table = self._log_snr_table.to(levels.device).flip(0)  # ascending, as searchsorted needs it
        levels = levels.clamp(table[0], table[-1])
        above = torch.searchsorted(table, levels.contiguous()).clamp(1, self.num_train_timesteps - 1)
        low, high = table[above - 1], table[above]
        share = (levels - low) / (high - low).clamp(min=1e-12)
        return ((self.num_train_timesteps - above - share).float(), *alpha_sigma(levels))

    def log_snr(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Log signal-to-noise ratio log(alpha^2 / sigma^2) [N], float64."""
        return self._log_snr_table.to(timesteps.device)[timesteps.long()]

    def log_snr_rate(self, timesteps: torch.Tensor) -> torch.Tensor:
        """-d log-SNR / dt [N], float64, t in [0, 1] over the schedule."""
        return self._rate_table.to(timesteps.device)[timesteps.long()]

    def alpha_sigma(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Factors of the image and of the noise [N] each, float64."""
        return alpha_sigma(self.log_snr(timesteps))


def scheduler_prediction(scheduler: Any, default: str = "epsilon") -> str:
    """What a network trained with a scheduler predicts.

    Args:
        scheduler: the scheduler.
        default: what holds for one that does not say.

    Raises:
        TypeError: when ``scheduler`` is neither MONAI's nor monai-generative's.
        ValueError: when its prediction type is not supported.
    """
    archived = any(kind.__module__.startswith(_ARCHIVED) for kind in type(scheduler).__mro__)
    if not (isinstance(scheduler, Scheduler) or archived):
        kind = type(scheduler).__name__
        raise TypeError(f"scheduler: expected a monai.networks.schedulers.Scheduler, got {kind}")
    prediction = str(getattr(scheduler, "prediction_type", default))
    if prediction not in PREDICTION_TYPES:
        raise ValueError(f"scheduler: expected prediction_type in {list(PREDICTION_TYPES)}, got {prediction!r}")
    return prediction
