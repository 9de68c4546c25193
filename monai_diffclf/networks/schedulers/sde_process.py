# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An SDE as a noise process: training, the denoising classifier and its stopping rules run on it unchanged."""

from __future__ import annotations

import torch

from .noise_process import NoiseProcess
from .scheduler_sde import SchedulerSDE
from .sde import SDE, VPSDE, SubVPSDE

__all__ = ["SDEProcess"]

PREDICTIONS = ("score", "epsilon", "sample", "v_prediction")
TIME_SAMPLINGS = ("uniform", "log_snr")


class SDEProcess(NoiseProcess):
    """The forward process of an SDE, what a network predicts of it, and how its times are drawn.

    Wherever a MONAI scheduler says how a network was trained (`DenoisingPrepareBatch`, `DenoisingLoss`,
    `DiffusionClassifierInferer`), this says it for a network that is called with the SDE's time, float in (0, 1].

    A score is s = -epsilon / sigma, so that sigma^2 |s - s_hat|^2 = |epsilon - epsilon_hat|^2: the sigma^2 weighting of
    denoising score matching (Song et al. 2021, equation 7; Sarker et al. 2025) is the plain error of epsilon.

    Levels in [0, 1) become times

    * ``"uniform"``: t = t_min + level (1 - t_min);
    * ``"log_snr"``: lambda falls evenly from its largest to its smallest value. As g^2 / sigma^2 = -d lambda / dt,
      these are the times drawn by importance for the likelihood weighting g^2 (Song, Durkan et al. 2021, section 4.2):
      the mean of the plain epsilon errors is then an unbiased estimate of the weighted loss, up to a constant.

    Args:
        sde: the forward process.
        prediction_type: ``"score"``, ``"epsilon"``, ``"sample"``, or ``"v_prediction"`` (v = alpha epsilon - sigma x,
            for variance preserving processes only).
        time_sampling: ``"uniform"`` or ``"log_snr"``.

    Raises:
        TypeError: when ``sde`` is not an SDE.
        ValueError: when another argument is unknown, or v is predicted of a process that does not preserve variance.

    Example:
        >>> process = SDEProcess(VPSDE(), time_sampling="log_snr")
        >>> times = process.timesteps(torch.tensor([0.0, 0.5, 0.999]))
        >>> [round(float(value), 2) for value in process.log_snr(times)]
        [13.81, 1.88, -10.03]
        >>> process.log_snr_rate(times).round(decimals=2).tolist()
        [23.86, 23.86, 23.86]
    """

    def __init__(self, sde: SDE, prediction_type: str = "score", *, time_sampling: str = "uniform") -> None:
        if not isinstance(sde, SDE):
            raise TypeError(f"sde: expected an SDE such as VPSDE(), got {type(sde).__name__}")
        check_prediction(sde, prediction_type)
        if time_sampling not in TIME_SAMPLINGS:
            raise ValueError(f"time_sampling: expected one of {list(TIME_SAMPLINGS)}, got {time_sampling!r}")
        self.sde, self.prediction_type, self.time_sampling = sde, prediction_type, time_sampling
        self.num_train_timesteps, self.discrete = 1, False

    def timesteps(self, levels: torch.Tensor) -> torch.Tensor:
        """Times of levels in [0, 1) [N], float32 in [t_min, 1]."""
        levels, start = levels.double(), self.sde.t_min
        if self.time_sampling == "uniform":
            return (start + levels * (1 - start)).float()
        low, high = self.sde.log_snr_range
        return self.sde.time(high + levels * (low - high)).clamp(start, 1.0).float()

    def at_log_snr(self, log_snr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Times (float32), alpha and sigma (float64) of some log-SNR [N]; beyond the SDE its ends."""
        t = self.sde.time(log_snr).clamp(self.sde.t_min, 1.0)
        return (t.float(), *self.sde.alpha_sigma(t))

    def log_snr(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Log signal-to-noise ratio [N], float64."""
        return self.sde.log_snr(timesteps)

    def log_snr_rate(self, timesteps: torch.Tensor) -> torch.Tensor:
        """-d log-SNR / d level [N], float64, under the time sampling."""
        if self.time_sampling == "uniform":
            return self.sde.log_snr_rate(timesteps) * (1 - self.sde.t_min)
        low, high = self.sde.log_snr_range
        return torch.full_like(timesteps, high - low, dtype=torch.float64)

    def alpha_sigma(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Factors of the image and of the noise [N] each, float64."""
        return self.sde.alpha_sigma(timesteps)

    def mixture(self, alpha: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(0, -1 / sigma) for the score of the noisy image, -epsilon / sigma."""
        if self.prediction_type == "score":
            return torch.zeros_like(alpha), -1 / sigma
        return super().mixture(alpha, sigma)


def check_prediction(sde: SDE, prediction_type: str) -> None:
    """Refuse what a network cannot predict of a process.

    Raises:
        ValueError: when it is unknown, or v of a process that does not preserve variance.
    """
    if prediction_type not in PREDICTIONS:
        raise ValueError(f"prediction_type: expected one of {list(PREDICTIONS)}, got {prediction_type!r}")
    preserves = isinstance(sde, (VPSDE, SchedulerSDE)) and not isinstance(sde, SubVPSDE)
    if prediction_type == "v_prediction" and not preserves:
        raise ValueError(
            f"prediction_type: v_prediction is defined for variance preserving processes only, got {type(sde).__name__}"
        )
