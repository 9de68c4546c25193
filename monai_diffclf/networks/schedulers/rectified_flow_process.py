# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The noise process of rectified flow."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.schedulers import RFlowScheduler

from .noise_process import NoiseProcess
from .table_process import scheduler_prediction

__all__ = ["RectifiedFlowProcess", "is_rectified_flow"]

EDGE = 1e-3
"""Share of the schedule at either end that is left out: there the log-SNR is infinite."""


class RectifiedFlowProcess(NoiseProcess):
    """alpha = 1 - s, sigma = s with s = t / T; "v_prediction" is x - epsilon (Liu et al. 2022, with MONAI's sign).

    Args:
        scheduler: MONAI's `RFlowScheduler`, or the one that a bundle of before MONAI 1.5 brings along, as MAISI's.

    Raises:
        ValueError: when its prediction type is not supported.
    """

    def __init__(self, scheduler: RFlowScheduler) -> None:
        self.prediction_type = scheduler_prediction(scheduler, "v_prediction")
        self.num_train_timesteps = int(scheduler.num_train_timesteps)
        self.discrete = bool(scheduler.use_discrete_timesteps)

    def timesteps(self, levels: torch.Tensor) -> torch.Tensor:
        """Timesteps of levels in [0, 1) [N]: int64, or float32 where they are continuous."""
        scaled = levels.double() * self.num_train_timesteps
        # Level 0 and T have an infinite log-SNR: nothing to predict at the one, nothing left of the image at the other.
        if self.discrete:
            return scaled.long().clamp(1, max(1, self.num_train_timesteps - 1))
        return scaled.clamp(EDGE * self.num_train_timesteps, (1 - EDGE) * self.num_train_timesteps).float()

    def at_log_snr(self, log_snr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Timesteps (float32), alpha and sigma (float64) of some log-SNR [N]."""
        s = torch.sigmoid(-0.5 * log_snr.double())
        return (s * self.num_train_timesteps).float(), 1 - s, s

    def log_snr(self, timesteps: torch.Tensor) -> torch.Tensor:
        """2 log((1 - s) / s) [N], float64."""
        s = self._share(timesteps)
        return 2 * (torch.log1p(-s) - torch.log(s))

    def log_snr_rate(self, timesteps: torch.Tensor) -> torch.Tensor:
        """-d log-SNR / ds = 2 / (s (1 - s)) [N], float64."""
        s = self._share(timesteps)
        return 2 / (s * (1 - s))

    def alpha_sigma(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Factors of the image and of the noise [N] each, float64."""
        s = self._share(timesteps)
        return 1 - s, s

    def mixture(self, alpha: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(1, -1) for the velocity x - epsilon."""
        if self.prediction_type == "v_prediction":
            return torch.ones_like(alpha), -torch.ones_like(alpha)
        return super().mixture(alpha, sigma)

    def _share(self, timesteps: torch.Tensor) -> torch.Tensor:
        return timesteps.double() / self.num_train_timesteps


def is_rectified_flow(scheduler: Any) -> bool:
    """Whether a scheduler is MONAI's of rectified flow, or of its form: without a table, its timesteps discrete or not.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> is_rectified_flow(RFlowScheduler()), is_rectified_flow(DDPMScheduler(10))
        (True, False)
    """
    of_its_form = hasattr(scheduler, "use_discrete_timesteps") and not hasattr(scheduler, "alphas_cumprod")
    return isinstance(scheduler, RFlowScheduler) or of_its_form
