# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One view of all schedulers and SDEs: z = alpha x + sigma epsilon, and what the network predicts of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from monai.networks.schedulers import Scheduler

__all__ = ["NoiseProcess", "column"]


def column(vector: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A vector [B], or one number for all, shaped to multiply a batch [B, C, *spatial]."""
    return vector.to(device=like.device, dtype=like.dtype).reshape(-1, *[1] * (like.ndim - 1))


class NoiseProcess(ABC):
    """A forward process z = alpha x + sigma epsilon, and the target p = a x + b epsilon of the network trained with it.

    A subclass says where its timesteps lie (`timesteps`, `log_snr`, `log_snr_rate`, `alpha_sigma`, `at_log_snr`) and,
    if the network predicts neither ``"epsilon"`` nor ``"sample"``, what it predicts (`mixture`). All else follows: with
    d = alpha b - a sigma a prediction p for z implies

        epsilon_hat = (alpha p - a z) / d,    x_hat = (b z - sigma p) / d,

    and an error of p is one of epsilon times d / alpha.

    ``NoiseProcess(scheduler)`` is the process of a MONAI scheduler: :class:`TableProcess` for DDPM, DDIM and PNDM, also
    those of the archived monai-generative, :class:`RectifiedFlowProcess` for RFlow. A network that is called with the
    time of an SDE has :class:`monai_diffclf.networks.schedulers.SDEProcess`.

    Raises:
        TypeError: when the scheduler is not one of MONAI's.
        ValueError: when its prediction type is not supported.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> process = NoiseProcess(DDPMScheduler(num_train_timesteps=10, schedule="cosine"))
        >>> process.timesteps(torch.tensor([0.0, 0.55, 0.99])).tolist()
        [0, 5, 9]
        >>> bool((process.log_snr(torch.arange(10)).diff() < 0).all())
        True
    """

    prediction_type: str
    num_train_timesteps: int
    discrete: bool
    """Whether timesteps are integers, so that a path visits each at most once."""

    def __new__(cls, *args: Any, **kwargs: Any) -> NoiseProcess:
        """The subclass for a scheduler, as `pathlib.Path` is one for a system."""
        if cls is not NoiseProcess:
            return super().__new__(cls)
        from .rectified_flow_process import RectifiedFlowProcess, is_rectified_flow
        from .table_process import TableProcess

        scheduler = args[0] if args else kwargs.get("scheduler")
        return super().__new__(RectifiedFlowProcess if is_rectified_flow(scheduler) else TableProcess)

    @staticmethod
    def of(scheduler: Scheduler | NoiseProcess) -> NoiseProcess:
        """The process of a scheduler; a process is taken as it is."""
        return scheduler if isinstance(scheduler, NoiseProcess) else cast(Any, NoiseProcess)(scheduler)

    @abstractmethod
    def timesteps(self, levels: torch.Tensor) -> torch.Tensor:
        """What the network is called with at levels in [0, 1) [N]; 0 is the least noise."""

    @abstractmethod
    def at_log_snr(self, log_snr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Timesteps (float32), alpha and sigma (float64) of some log-SNR [N]; beyond the process its ends."""

    @abstractmethod
    def log_snr(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Log signal-to-noise ratio log(alpha^2 / sigma^2) [N], float64."""

    @abstractmethod
    def log_snr_rate(self, timesteps: torch.Tensor) -> torch.Tensor:
        """-d log-SNR / d level [N], float64."""

    @abstractmethod
    def alpha_sigma(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Factors of the image and of the noise [N] each, float64."""

    def levels(self, log_snr: torch.Tensor) -> torch.Tensor:
        """Levels in [0, 1) at which the log-SNR is the one given [N], float64; within one timestep if discrete.

        Args:
            log_snr: log-SNR [N].

        Raises:
            ValueError: when one lies beyond the process.

        Example:
            >>> from monai.networks.schedulers import DDPMScheduler
            >>> process = NoiseProcess.of(DDPMScheduler(1000, schedule="cosine"))
            >>> process.log_snr(process.timesteps(process.levels(torch.tensor([3.0, -2.0])))).round(decimals=1).tolist()
            [3.0, -2.0]
        """
        wanted = log_snr.double().cpu()
        ends = torch.tensor([0.0, 1 - 1e-9], dtype=torch.float64)
        most, least = self.log_snr(self.timesteps(ends)).double().cpu().tolist()
        if not bool(((wanted >= least) & (wanted <= most)).all()):
            raise ValueError(
                f"log_snr: expected numbers from {least:.2f} to {most:.2f}, where this process has its levels, got "
                f"{[round(value, 4) for value in wanted.tolist()]}"
            )
        low, high = torch.zeros_like(wanted), torch.full_like(wanted, 1 - 1e-9)
        for _ in range(50):  # the log-SNR falls with the level
            middle = (low + high) / 2
            above = self.log_snr(self.timesteps(middle)).double() > wanted
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return high

    def mixture(self, alpha: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(a, b) of what the network predicts, a x + b epsilon, of the shape of alpha and sigma, float64.

        By default the velocity of a variance preserving process, v = alpha epsilon - sigma x (Salimans and Ho 2022,
        appendix D), for any prediction that is neither epsilon nor the sample.
        """
        if self.prediction_type == "epsilon":
            return torch.zeros_like(alpha), torch.ones_like(alpha)
        if self.prediction_type == "sample":
            return torch.ones_like(alpha), torch.zeros_like(alpha)
        return -sigma, alpha

    def add_noise(self, images: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """z = alpha x + sigma epsilon [B, C, *spatial], for timesteps [B]."""
        alpha, sigma = self.alpha_sigma(timesteps)
        return column(alpha, images) * images + column(sigma, images) * noise

    def target(self, images: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What the network should predict [B, C, *spatial]."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return images
        a, b = self.mixture(*self.alpha_sigma(timesteps))
        return column(b, images) * noise + column(a, images) * images

    def epsilon_factor(self, timesteps: torch.Tensor) -> torch.Tensor:
        """c with (epsilon - epsilon_hat)^2 = c (target - prediction)^2 [N], float64.

        1 for epsilon, SNR for the sample, alpha^2 for v (also that of rectified flow), sigma^2 for the score. It
        depends on the level alone, which is why votes are the same in every parameterisation.
        """
        if self.prediction_type == "epsilon":
            return torch.ones_like(timesteps, dtype=torch.float64)
        if self.prediction_type == "sample":
            return torch.exp(self.log_snr(timesteps))
        alpha, sigma = self.alpha_sigma(timesteps)
        a, b = self.mixture(alpha, sigma)
        return (alpha / (alpha * b - a * sigma)) ** 2

    def predict_sample(self, prediction: torch.Tensor, noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The image that a prediction implies, x_hat [B, C, *spatial]."""
        if self.prediction_type == "sample":
            return prediction
        alpha, sigma = self.alpha_sigma(timesteps)
        a, b = self.mixture(alpha, sigma)
        d = alpha * b - a * sigma
        return column(b / d, noisy) * noisy - column(sigma / d, noisy) * prediction

    def to_epsilon(
        self, prediction: torch.Tensor, noisy: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        """The noise that a prediction for noisy images implies [B, C, *spatial]; alpha and sigma [B], or of all."""
        if self.prediction_type == "epsilon":
            return prediction
        a, b = self.mixture(alpha, sigma)
        d = alpha * b - a * sigma
        return column(alpha / d, noisy) * prediction - column(a / d, noisy) * noisy

    def from_epsilon(
        self, epsilon: torch.Tensor, noisy: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        """What would be predicted for noisy images with this noise, the inverse of :meth:`to_epsilon`."""
        if self.prediction_type == "epsilon":
            return epsilon
        a, b = self.mixture(alpha, sigma)
        return column((alpha * b - a * sigma) / alpha, noisy) * epsilon + column(a / alpha, noisy) * noisy
