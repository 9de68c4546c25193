# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The loss of denoising networks, with its weightings over noise levels."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from monai.networks.schedulers import Scheduler
from torch import nn

from .._checks import check_number
from ..networks.schedulers.noise_process import NoiseProcess

__all__ = ["DenoisingLoss"]

WEIGHTINGS = ("min_snr", "epsilon", "prediction")


class DenoisingLoss(nn.Module):
    """Weighted squared error of a denoiser's prediction, mean over batch and elements.

    With c the factor that turns the error of the prediction into the error of epsilon (1 for epsilon, SNR for the
    sample, alpha^2 for v) the weight of the prediction's error is

    * ``"min_snr"``: c min(SNR, gamma) / SNR. On v this is min(SNR, gamma) / (SNR + 1) (Hang et al. 2023, section 3.4);
    * ``"epsilon"``: c, the plain error of epsilon (Ho et al. 2020, equation 14);
    * ``"prediction"``: 1, the plain error of whatever is predicted.

    Args:
        scheduler: the scheduler the network is trained with, or an `SDEProcess`.
        weighting: one of the above.
        gamma: limit of min-SNR.

    Raises:
        ValueError: when ``weighting`` is unknown or ``gamma`` is not positive.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> loss = DenoisingLoss(DDPMScheduler(num_train_timesteps=10, prediction_type="epsilon"), weighting="epsilon")
        >>> targets = {"target": torch.ones(2, 1, 4, 4), "timesteps": torch.tensor([1, 8])}
        >>> round(float(loss(torch.zeros(2, 1, 4, 4), targets)), 6)
        1.0
    """

    def __init__(self, scheduler: Scheduler | NoiseProcess, *, weighting: str = "min_snr", gamma: float = 5.0) -> None:
        super().__init__()
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting: expected one of {list(WEIGHTINGS)}, got {weighting!r}")
        check_number(gamma, "gamma", "a positive number", lambda limit: limit > 0)
        self.process = NoiseProcess.of(scheduler)
        self.weighting = weighting
        self.gamma = gamma

    def weight(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Weight of the prediction's squared error at each timestep [B], float64."""
        if self.weighting == "prediction":
            return torch.ones_like(timesteps, dtype=torch.float64)
        factor = self.process.epsilon_factor(timesteps)
        if self.weighting == "epsilon":
            return factor
        return factor * torch.exp((math.log(self.gamma) - self.process.log_snr(timesteps)).clamp(max=0.0))

    def forward(self, prediction: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The loss, a scalar.

        Args:
            prediction: what the network predicted [B, C, *spatial].
            targets: ``"target"`` [B, C, *spatial] and ``"timesteps"`` [B], as `DenoisingPrepareBatch` makes them.

        Raises:
            ValueError: when the shapes differ.
        """
        squared = self.squared_error(prediction, targets["target"])
        return (squared * self.weight(targets["timesteps"]).to(squared)).mean()

    @staticmethod
    def squared_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean squared error over the elements of each row [B], float32.

        Raises:
            ValueError: when the shapes differ.
        """
        if prediction.shape != target.shape:
            shapes = f"{list(target.shape)}, got {list(prediction.shape)}"
            raise ValueError(f"prediction: expected the target's shape {shapes}")
        return (prediction.float() - target.float()).square().flatten(1).mean(1)
