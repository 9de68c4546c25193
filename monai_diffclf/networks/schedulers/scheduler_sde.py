# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From a MONAI scheduler to an SDE, and back: the noise schedule ``vp_sde``, which importing this registers."""

from __future__ import annotations

import numpy as np
import torch
from monai.networks.schedulers import NoiseSchedules, Scheduler
from scipy.interpolate import PchipInterpolator

from .noise_process import NoiseProcess
from .noise_schedules import schedule_tables
from .parameterization import alpha_sigma
from .rectified_flow_process import is_rectified_flow
from .sde import SDE, VPSDE

__all__ = ["SchedulerSDE"]

_NEWTON_STEPS = 6


class SchedulerSDE(SDE):
    """The variance preserving SDE that passes through the noise levels of a MONAI scheduler.

    Timestep i of T is the time t = (i + 1) / T; in between, the log-SNR is a monotone cubic of t (Fritsch and Carlson
    1980). A network trained with the scheduler is called with timesteps, not with t:
    :class:`monai_diffclf.networks.RetimedNetwork` turns the one into the other.

    The other way, a scheduler for an SDE, is ``DDPMScheduler(T, schedule="vp_sde", beta_min=0.1, beta_max=20.0)``: its
    timestep i has the log-SNR of ``VPSDE(beta_min, beta_max)`` at t = (i + 1) / T.

    Args:
        scheduler: DDPM, DDIM or PNDM.

    Raises:
        TypeError: when ``scheduler`` is not a MONAI scheduler with a table of noise levels.
        ValueError: when its noise levels do not rise from step to step.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> sde = SchedulerSDE(DDPMScheduler(1000, schedule="vp_sde", beta_min=0.1, beta_max=20.0))
        >>> [round(float(sde.log_snr(t) - VPSDE().log_snr(t)), 3) + 0 for t in (0.01, 0.5, 1.0)]
        [0.0, 0.0, 0.0]
    """

    def __init__(self, scheduler: Scheduler) -> None:
        process = NoiseProcess.of(scheduler)
        if is_rectified_flow(scheduler):
            raise TypeError(
                "scheduler: expected DDPM, DDIM or PNDM, got RFlowScheduler, which has no variance preserving SDE; "
                "RetimedNetwork runs a network trained with it under any SDE"
            )
        steps = process.num_train_timesteps
        if steps < 2:
            raise ValueError(f"scheduler: expected at least 2 timesteps, got {steps}")
        super().__init__(t_min=1 / steps)
        times = np.arange(1, steps + 1) / steps
        levels = process.log_snr(torch.arange(steps)).numpy()
        if not (np.diff(levels) < 0).all():
            raise ValueError("scheduler: expected noise levels that rise from step to step, got some that do not")
        self._level = PchipInterpolator(times, levels)
        self._rate = self._level.derivative()
        self._time = PchipInterpolator(levels[::-1], times[::-1])

    def alpha_sigma(self, t: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
        """sqrt(sigmoid(lambda)) and sqrt(sigmoid(-lambda))."""
        return alpha_sigma(self.log_snr(t))

    def log_snr(self, t: torch.Tensor | float) -> torch.Tensor:
        """The interpolated log-SNR."""
        return _evaluate(self._level, t)

    def log_snr_rate(self, t: torch.Tensor | float) -> torch.Tensor:
        """-d lambda / dt of the interpolation."""
        return -_evaluate(self._rate, t)

    def time(self, log_snr: torch.Tensor | float) -> torch.Tensor:
        """The time of a log-SNR, by Newton's method from the interpolated inverse."""
        target = torch.as_tensor(log_snr, dtype=torch.float64)
        t = _evaluate(self._time, target).clamp(self.t_min, 1.0)
        for _ in range(_NEWTON_STEPS):
            step = (self.log_snr(t) - target) / self.log_snr_rate(t).clamp(min=1e-12)
            t = (t + step).clamp(self.t_min, 1.0)
        return t

    def drift_rate(self, t: torch.Tensor | float) -> torch.Tensor:
        """d log alpha / dt = sigma^2 / 2 d lambda / dt."""
        return -0.5 * self.alpha_sigma(t)[1].square() * self.log_snr_rate(t)


def _evaluate(curve: PchipInterpolator, at: torch.Tensor | float) -> torch.Tensor:
    """A SciPy curve at a tensor, on its device; outside the table the value at its end."""
    where = torch.as_tensor(at, dtype=torch.float64)
    points = np.clip(where.detach().cpu().numpy(), curve.x[0], curve.x[-1])
    return torch.as_tensor(np.asarray(curve(points)), dtype=torch.float64, device=where.device)


@NoiseSchedules.add_def("vp_sde", "Noise levels of the variance preserving SDE at t = 1 / T, ..., 1")
def _vp_sde_schedule(
    num_train_timesteps: int, beta_min: float = 0.1, beta_max: float = 20.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tables (betas, alphas, alphas_cumprod) of ``VPSDE(beta_min, beta_max)``."""
    times = torch.arange(1, num_train_timesteps + 1, dtype=torch.float64) / num_train_timesteps
    return schedule_tables(VPSDE(beta_min, beta_max).log_snr(times))
