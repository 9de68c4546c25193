# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The variational bound on the log-likelihood, from errors, with its own error bar."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .denoising_errors import DenoisingErrors
from .draw_weights import draw_weights

__all__ = ["VariationalBound", "variational_bound"]


@dataclass(frozen=True)
class VariationalBound:
    """A lower bound on log p(x | k) in nats, estimated from noise draws.

    Args:
        value: the bound [B, K], float64.
        standard_error: standard error of ``value`` over the draws [B, K], float64.
        difference_error: standard error of the difference of two classes' bounds [B, K, K], float64. Draws are paired,
            so that it is far smaller than those of the bounds.
        errors: the errors behind it.
    """

    value: torch.Tensor
    standard_error: torch.Tensor
    difference_error: torch.Tensor
    errors: DenoisingErrors


def variational_bound(errors: DenoisingErrors, constant: torch.Tensor | float = 0.0) -> VariationalBound:
    """log p(x | k) >= constant - D / 2 mean_n(w_n e[k, n]), with w = -d lambda / d level (Kingma et al. 2021, eq. 18).

    The standard error is that of levels drawn in strata, of which neighbours are alike (von Neumann et al. 1941): with
    the draws sorted by level, half the mean squared difference of neighbours over N. It errs on the large side where
    the errors change much from one level to the next.

    Args:
        errors: errors [B, K, N] of at least two draws, all evaluated; with ``log_snr_rate``.
        constant: what the bound has besides, [B, K] or what broadcasts to it: the reconstruction at t_min and the
            divergence from the prior at t = 1.

    Raises:
        ValueError: when there is one draw only, some were not evaluated, or the rate is missing.

    Example:
        >>> values, levels = torch.full((1, 2, 4), 0.5), torch.linspace(3, -3, 4)
        >>> errors = DenoisingErrors(values, torch.arange(4), levels, log_snr_rate=torch.ones(4), num_elements=8)
        >>> bound = variational_bound(errors)
        >>> bound.value.tolist(), bound.standard_error.tolist()
        ([[-2.0, -2.0]], [[0.0, 0.0]])
    """
    if errors.num_draws < 2:
        raise ValueError("errors: expected at least 2 draws, from one there is no standard error")
    if not bool(errors.evaluated.all()):
        raise ValueError("errors: expected all draws of all classes, some were not evaluated (a stopping rule?)")
    terms = -0.5 * errors.num_elements * errors.values.double() * draw_weights(errors, "elbo")
    terms = terms[:, :, errors.log_snr.argsort()]
    gaps = terms[:, :, None] - terms[:, None]
    return VariationalBound(
        value=terms.mean(2) + constant,
        standard_error=_standard_error(terms),
        difference_error=_standard_error(gaps),
        errors=errors,
    )


def _standard_error(terms: torch.Tensor) -> torch.Tensor:
    """Standard error of the mean over the last axis, of terms sorted by level."""
    return (0.5 * terms.diff(dim=-1).square().mean(-1) / terms.shape[-1]).sqrt()
