# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Forward stochastic differential equations with a linear drift: VP, sub-VP and VE.

All of them noise an image as x_t = alpha(t) x_0 + sigma(t) epsilon, t in (0, 1], and differ in alpha and sigma alone.

References:
    Song et al., Score-based generative modeling through stochastic differential equations, ICLR 2021 (appendix B).
    Kingma et al., Variational diffusion models, NeurIPS 2021 (everything as a function of the log-SNR).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch

from .noise_process import column

__all__ = ["SDE", "VESDE", "VPSDE", "SubVPSDE"]


class SDE(ABC):
    """dx = f(t) x dt + g(t) dw on t in (0, 1], whose marginals are x_t = alpha(t) x_0 + sigma(t) epsilon.

    Drift and diffusion follow from the marginals: f = d log alpha / dt and g^2 / sigma^2 = -d lambda / dt with the
    log-SNR lambda = log(alpha^2 / sigma^2) (Kingma et al. 2021, appendix F). Times and what is computed from them are
    float64 of any shape.

    Args:
        t_min: smallest time, where an image counts as clean; in (0, 1).

    Raises:
        ValueError: when ``t_min`` is out of range.
    """

    prior_std: float = 1.0
    """Standard deviation of the Gaussian that stands for the images at t = 1."""

    def __init__(self, t_min: float = 1e-5) -> None:
        if not 0 < t_min < 1:
            raise ValueError(f"t_min: expected a time in (0, 1), got {t_min!r}")
        self.t_min = float(t_min)

    @abstractmethod
    def alpha_sigma(self, t: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
        """Factors alpha of the image and sigma of the noise at t, the marginal's mean factor and deviation."""

    @abstractmethod
    def log_snr(self, t: torch.Tensor | float) -> torch.Tensor:
        """lambda = log(alpha^2 / sigma^2) at t, strictly decreasing."""

    @abstractmethod
    def log_snr_rate(self, t: torch.Tensor | float) -> torch.Tensor:
        """-d lambda / dt at t, positive."""

    @abstractmethod
    def time(self, log_snr: torch.Tensor | float) -> torch.Tensor:
        """The time t of a log-SNR, the inverse of :meth:`log_snr`."""

    @abstractmethod
    def drift_rate(self, t: torch.Tensor | float) -> torch.Tensor:
        """f(t) = d log alpha / dt."""

    def drift(self, x: torch.Tensor, t: torch.Tensor | float) -> torch.Tensor:
        """f(t) x [B, C, *spatial] at one time for all or one an image [B]."""
        return column(self.drift_rate(t), x) * x

    def diffusion(self, t: torch.Tensor | float) -> torch.Tensor:
        """g(t) = sigma sqrt(-d lambda / dt)."""
        return self.alpha_sigma(t)[1] * self.log_snr_rate(t).sqrt()

    @property
    def log_snr_range(self) -> tuple[float, float]:
        """The log-SNR at t = 1 and at ``t_min``."""
        return float(self.log_snr(1.0)), float(self.log_snr(self.t_min))

    def prior_log_density(self, x: torch.Tensor) -> torch.Tensor:
        """log N(x; 0, prior_std^2) of images at t = 1 [B, C, *spatial], in nats, float64 [B]."""
        z = x.double().flatten(1) / self.prior_std
        return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi * self.prior_std**2))


class VPSDE(SDE):
    """Variance preserving: dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw, beta(t) = beta_min + t (beta_max - beta_min).

    With B(t) the integral of beta, alpha^2 = exp(-B) and sigma^2 = 1 - alpha^2 (Song et al. 2021, equation 32). It is
    the limit of the linear DDPM schedule, and the process of Sarker et al. (ISBI 2025).

    Args:
        beta_min: beta(0).
        beta_max: beta(1).
        t_min: see :class:`SDE`.

    Raises:
        ValueError: when not 0 < beta_min <= beta_max, or ``t_min`` is out of range.

    Example:
        >>> sde = VPSDE(beta_min=0.1, beta_max=20.0)
        >>> [round(float(sde.log_snr(t)), 1) for t in (1e-5, 0.1, 0.5, 1.0)]
        [13.8, 2.2, -2.5, -10.0]
        >>> round(float(sde.time(sde.log_snr(0.3))), 6)
        0.3
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, *, t_min: float = 1e-5) -> None:
        super().__init__(t_min)
        _check_increasing("beta_min", beta_min, "beta_max", beta_max, strict=False)
        self.beta_min, self.beta_max = float(beta_min), float(beta_max)

    def beta(self, t: torch.Tensor | float) -> torch.Tensor:
        """Rate of the noise at t."""
        return self.beta_min + _double(t) * (self.beta_max - self.beta_min)

    def integral(self, t: torch.Tensor | float) -> torch.Tensor:
        """B(t), the integral of beta from 0 to t."""
        t = _double(t)
        return t * self.beta_min + t.square() * (0.5 * (self.beta_max - self.beta_min))

    def alpha_sigma(self, t: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
        """exp(-B / 2) and sqrt(1 - exp(-B))."""
        integral = self.integral(t)
        return torch.exp(-0.5 * integral), (-torch.expm1(-integral)).sqrt()

    def log_snr(self, t: torch.Tensor | float) -> torch.Tensor:
        """-log(exp(B) - 1)."""
        return -_log_expm1(self.integral(t))

    def log_snr_rate(self, t: torch.Tensor | float) -> torch.Tensor:
        """Beta / (1 - exp(-B))."""
        return self.beta(t) / -torch.expm1(-self.integral(t))

    def time(self, log_snr: torch.Tensor | float) -> torch.Tensor:
        """B = log(1 + exp(-lambda)), and t from it."""
        return self._time_of_integral(torch.nn.functional.softplus(-_double(log_snr), threshold=700))

    def drift_rate(self, t: torch.Tensor | float) -> torch.Tensor:
        """-beta / 2."""
        return -0.5 * self.beta(t)

    def _time_of_integral(self, integral: torch.Tensor) -> torch.Tensor:
        # 2 B / (b + sqrt(b^2 + 2 B d)), the root of d t^2 / 2 + b t = B, in the form without cancellation.
        slope = self.beta_max - self.beta_min
        return 2 * integral / (self.beta_min + (self.beta_min**2 + 2 * integral * slope).sqrt())


class SubVPSDE(VPSDE):
    """Sub-variance preserving: the drift of `VPSDE`, alpha^2 = exp(-B), with less noise, sigma = 1 - exp(-B).

    g^2 = beta (1 - exp(-2 B)) (Song et al. 2021, equation 29 and appendix B).

    Args:
        beta_min: beta(0).
        beta_max: beta(1).
        t_min: see :class:`SDE`; at 0.001 sigma is 1e-4, the noise vanishes faster than that of `VPSDE`.

    Example:
        >>> sde = SubVPSDE(beta_min=0.1, beta_max=20.0)
        >>> alpha, sigma = sde.alpha_sigma(0.4)
        >>> bool(alpha**2 + sigma**2 < 1), round(float(sde.time(sde.log_snr(0.4))), 6)
        (True, 0.4)
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, *, t_min: float = 1e-3) -> None:
        super().__init__(beta_min, beta_max, t_min=t_min)

    def alpha_sigma(self, t: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
        """exp(-B / 2) and 1 - exp(-B)."""
        integral = self.integral(t)
        return torch.exp(-0.5 * integral), -torch.expm1(-integral)

    def log_snr(self, t: torch.Tensor | float) -> torch.Tensor:
        """-B - 2 log(1 - exp(-B))."""
        integral = self.integral(t)
        return -integral - 2 * torch.log(-torch.expm1(-integral))

    def log_snr_rate(self, t: torch.Tensor | float) -> torch.Tensor:
        """Beta (1 + exp(-B)) / (1 - exp(-B))."""
        integral = self.integral(t)
        return self.beta(t) * (1 + torch.exp(-integral)) / -torch.expm1(-integral)

    def time(self, log_snr: torch.Tensor | float) -> torch.Tensor:
        """With q = exp(-lambda), exp(B) = 1 + q / 2 + sqrt(q + q^2 / 4), and t from B."""
        q = torch.exp(-_double(log_snr))
        return self._time_of_integral(torch.log1p(q / 2 + (q + q.square() / 4).sqrt()))


class VESDE(SDE):
    """Variance exploding: alpha = 1, sigma(t) = sigma_min (sigma_max / sigma_min)^t (Song et al. 2021, equation 30).

    Args:
        sigma_min: sigma(0); must be well below the finest detail of the images.
        sigma_max: sigma(1), the standard deviation of the prior; must be well above that of the images.
        t_min: see :class:`SDE`.

    Raises:
        ValueError: when not 0 < sigma_min < sigma_max, or ``t_min`` is out of range.

    Example:
        >>> sde = VESDE(sigma_min=0.01, sigma_max=50.0)
        >>> round(float(sde.alpha_sigma(0.5)[1]), 4), sde.prior_std
        (0.7071, 50.0)
    """

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0, *, t_min: float = 1e-5) -> None:
        super().__init__(t_min)
        _check_increasing("sigma_min", sigma_min, "sigma_max", sigma_max, strict=True)
        self.sigma_min, self.sigma_max = float(sigma_min), float(sigma_max)
        self.prior_std = self.sigma_max

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha_sigma(self, t: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
        """1 and sigma(t)."""
        sigma = self.sigma_min * torch.exp(_double(t) * self._log_ratio)
        return torch.ones_like(sigma), sigma

    def log_snr(self, t: torch.Tensor | float) -> torch.Tensor:
        """-2 log sigma."""
        return -2 * (math.log(self.sigma_min) + _double(t) * self._log_ratio)

    def log_snr_rate(self, t: torch.Tensor | float) -> torch.Tensor:
        """2 log(sigma_max / sigma_min) at every t."""
        return torch.full_like(_double(t), 2 * self._log_ratio)

    def time(self, log_snr: torch.Tensor | float) -> torch.Tensor:
        """log(sigma / sigma_min) / log(sigma_max / sigma_min)."""
        return (-0.5 * _double(log_snr) - math.log(self.sigma_min)) / self._log_ratio

    def drift_rate(self, t: torch.Tensor | float) -> torch.Tensor:
        """0."""
        return torch.zeros_like(_double(t))


def _double(t: torch.Tensor | float) -> torch.Tensor:
    return torch.as_tensor(t, dtype=torch.float64)


def _log_expm1(x: torch.Tensor) -> torch.Tensor:
    """log(exp(x) - 1), also where exp overflows or x is tiny."""
    return x + torch.log(-torch.expm1(-x))


def _check_increasing(low_name: str, low: float, high_name: str, high: float, *, strict: bool) -> None:
    fits = 0 < low < high if strict else 0 < low <= high
    if not (fits and math.isfinite(high)):
        sign = "<" if strict else "<="
        raise ValueError(f"{low_name}, {high_name}: expected 0 < {low_name} {sign} {high_name}, got {low!r}, {high!r}")
