# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One view of all MONAI schedulers: z = alpha x + sigma epsilon, and what the network predicts of it."""

from __future__ import annotations

import torch
from monai.networks.schedulers import RFlowScheduler, Scheduler

from .parameterization import PREDICTION_TYPES, alpha_sigma, from_epsilon, to_epsilon

__all__ = ["NoiseProcess"]


def column(vector: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A vector [B], or one number for all, shaped to multiply a batch [B, C, *spatial]."""
    return vector.to(device=like.device, dtype=like.dtype).reshape(-1, *[1] * (like.ndim - 1))


class NoiseProcess:
    """The forward process of a MONAI scheduler and the target of the network trained with it.

    * DDPM, DDIM, PNDM: alpha^2 = ``alphas_cumprod``, sigma^2 = 1 - alpha^2; timesteps are integers 0 to T - 1. Targets:
      epsilon; the sample x; v = alpha epsilon - sigma x (Salimans and Ho 2022, appendix D).
    * RFlow: alpha = 1 - t / T, sigma = t / T; its "v_prediction" is x - epsilon (Liu et al. 2022, with MONAI's sign).

    Built on the scheduler's tables rather than its ``add_noise``, which converts those tables to the dtype of its input
    for good: one half-precision call would degrade all later ones.

    A network that is called with the time of an SDE has :class:`SDEProcess` in place of it.

    Args:
        scheduler: a MONAI scheduler with ``prediction_type`` epsilon, sample or v_prediction.

    Raises:
        TypeError: when ``scheduler`` is not a MONAI scheduler.
        ValueError: when its prediction type is not supported.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> process = NoiseProcess(DDPMScheduler(num_train_timesteps=10, schedule="cosine"))
        >>> process.timesteps(torch.tensor([0.0, 0.55, 0.99])).tolist()
        [0, 5, 9]
        >>> bool((process.log_snr(torch.arange(10)).diff() < 0).all())
        True
    """

    def __init__(self, scheduler: Scheduler) -> None:
        if not isinstance(scheduler, Scheduler):
            kind = type(scheduler).__name__
            raise TypeError(f"scheduler: expected a monai.networks.schedulers.Scheduler, got {kind}")
        self.prediction_type = str(getattr(scheduler, "prediction_type", "epsilon"))
        if self.prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"scheduler: expected prediction_type in {list(PREDICTION_TYPES)}, got {self.prediction_type!r}"
            )
        self.num_train_timesteps = int(scheduler.num_train_timesteps)
        self.rectified_flow = isinstance(scheduler, RFlowScheduler)
        self.discrete = not self.rectified_flow or bool(scheduler.use_discrete_timesteps)
        if not self.rectified_flow:
            alpha2 = scheduler.alphas_cumprod.detach().to(device="cpu", dtype=torch.float64)
            # A schedule that reaches exactly 0 or 1 (MONAI's "cosine" in float32) would have an infinite log-SNR there.
            alpha2 = alpha2.clamp(1e-12, 1 - 1e-12)
            self._log_snr_table = torch.log(alpha2) - torch.log1p(-alpha2)
            rate = -torch.gradient(self._log_snr_table)[0] if len(alpha2) > 1 else torch.ones(1, dtype=torch.float64)
            self._rate_table = rate * self.num_train_timesteps

    @classmethod
    def of(cls, scheduler: Scheduler | NoiseProcess) -> NoiseProcess:
        """The process of a scheduler; a process is taken as it is."""
        return scheduler if isinstance(scheduler, NoiseProcess) else cls(scheduler)

    def timesteps(self, levels: torch.Tensor) -> torch.Tensor:
        """Timesteps of levels in [0, 1) [N]: int64, or float32 for a continuous rectified flow."""
        scaled = levels.double() * self.num_train_timesteps
        if not self.rectified_flow:
            return scaled.long()
        # Level 0 and T have an infinite log-SNR: nothing to predict at the one, nothing left of the image at the other.
        if self.discrete:
            return scaled.long().clamp(1, max(1, self.num_train_timesteps - 1))
        return scaled.clamp(1e-3 * self.num_train_timesteps, (1 - 1e-3) * self.num_train_timesteps).float()

    def at_log_snr(self, log_snr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Timesteps (float32, between two of them a fraction), alpha and sigma (float64) of some log-SNR [N].

        A log-SNR beyond the schedule gives the schedule's end.
        """
        steps, levels = self.num_train_timesteps, log_snr.double()
        if self.rectified_flow:
            s = torch.sigmoid(-0.5 * levels)
            return (s * steps).float(), 1 - s, s
        table = self._log_snr_table.to(levels.device).flip(0)  # ascending, as searchsorted needs it
        levels = levels.clamp(table[0], table[-1])
        above = torch.searchsorted(table, levels.contiguous()).clamp(1, steps - 1)
        low, high = table[above - 1], table[above]
        share = (levels - low) / (high - low).clamp(min=1e-12)
        return ((steps - above - share).float(), *alpha_sigma(levels))

    def log_snr(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Log signal-to-noise ratio log(alpha^2 / sigma^2) [N], float64."""
        if self.rectified_flow:
            s = timesteps.double() / self.num_train_timesteps
            return 2 * (torch.log1p(-s) - torch.log(s))
        return self._log_snr_table.to(timesteps.device)[timesteps.long()]

    def log_snr_rate(self, timesteps: torch.Tensor) -> torch.Tensor:
        """-d log-SNR / dt [N], float64, t in [0, 1] over the schedule."""
        if self.rectified_flow:
            s = timesteps.double() / self.num_train_timesteps
            return 2 / (s * (1 - s))
        return self._rate_table.to(timesteps.device)[timesteps.long()]

    def alpha_sigma(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Factors of the image and of the noise [N] each, float64."""
        if self.rectified_flow:
            s = timesteps.double() / self.num_train_timesteps
            return 1 - s, s
        log_snr = self.log_snr(timesteps)
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()

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
        if self.rectified_flow:
            return images - noise
        alpha, sigma = self.alpha_sigma(timesteps)
        return column(alpha, images) * noise - column(sigma, images) * images

    def epsilon_factor(self, timesteps: torch.Tensor) -> torch.Tensor:
        """c with (epsilon - epsilon_hat)^2 = c (target - prediction)^2 [N], float64.

        1 for epsilon, SNR for the sample, alpha^2 for v (also that of rectified flow). It depends on the level alone,
        which is why votes are the same in every parameterisation.
        """
        if self.prediction_type == "epsilon":
            return torch.ones_like(timesteps, dtype=torch.float64)
        if self.prediction_type == "sample":
            return torch.exp(self.log_snr(timesteps))
        return self.alpha_sigma(timesteps)[0] ** 2

    def predict_sample(self, prediction: torch.Tensor, noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The image that a prediction implies, x_hat [B, C, *spatial]."""
        alpha, sigma = (column(factor, noisy) for factor in self.alpha_sigma(timesteps))
        if self.prediction_type == "epsilon":
            return (noisy - sigma * prediction) / alpha
        if self.prediction_type == "sample":
            return prediction
        if self.rectified_flow:
            return noisy + sigma * prediction
        return alpha * noisy - sigma * prediction

    def to_epsilon(
        self, prediction: torch.Tensor, noisy: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        """The noise that a prediction for noisy images implies [B, C, *spatial]; alpha and sigma [B], or of all."""
        alpha, sigma = column(alpha, noisy), column(sigma, noisy)
        if self.rectified_flow and self.prediction_type == "v_prediction":
            return noisy - alpha * prediction
        return to_epsilon(prediction, noisy, alpha, sigma, source=self.prediction_type)

    def from_epsilon(
        self, epsilon: torch.Tensor, noisy: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        """What would be predicted for noisy images with this noise, the inverse of :meth:`to_epsilon`."""
        alpha, sigma = column(alpha, noisy), column(sigma, noisy)
        if self.rectified_flow and self.prediction_type == "v_prediction":
            return (noisy - epsilon) / alpha
        return from_epsilon(epsilon, noisy, alpha, sigma, target=self.prediction_type)
