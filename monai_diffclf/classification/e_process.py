# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Evidence against a tie that may be looked at after every draw: e-processes for a fixed set of N draws.

The N draws of an image are a finite population, taken in random order without replacement. Under the null hypothesis
that one class's total is not above the other's, an e-process E_1, E_2, ... has expectation at most 1 at every time, so
that it ever reaches 1 / alpha with probability at most alpha (Ville 1939). Hence one may look after every draw.
"""

from __future__ import annotations

import math

import torch

__all__ = ["log_e_betting", "log_e_unbounded"]

# Shares of the capital that are bet, and scales of the effect that are bet on; the mixture adapts to the best of them.
BETS = tuple(float(c) for c in torch.logspace(-2.5, -0.01, 12))
EFFECTS = (0.2, 0.6, 1.8)
BURN_IN = 8
# How much wider than the draws made those to come may scatter, in standard deviations, where nothing bounds them.
WIDER = 2.0


def _null_means(x: torch.Tensor, population: int) -> torch.Tensor:
    """Largest conditional mean of draw i given draws 1..i-1 that the null hypothesis (total <= 0) allows [M, n]."""
    before = x.cumsum(1) - x
    left = population - torch.arange(x.shape[1], dtype=x.dtype, device=x.device)
    return -before / left


def log_e_betting(x: torch.Tensor, population: int) -> torch.Tensor:
    """Log e-value against "the total of all draws is not positive", for draws in [-1, 1]: exact for votes [M].

    Betting without replacement (Waudby-Smith and Ramdas 2024, section 5): E_n = mean over c of the product over i of
    1 + c (x_i - m_i) / (1 + m_i), with m_i = -(x_1 + ... + x_{i-1}) / (N - i + 1), the mean of what is left if the
    total is 0. Assumes nothing but the bounds and the random order.

    Args:
        x: differences of one pair of classes in the draws made so far, each in [-1, 1] [M, n].
        population: number of all draws N.

    Returns:
        log E_n [M]; inf where even the draws left cannot make the total 0 or less.

    Example:
        >>> x = torch.ones(1, 20, dtype=torch.float64)
        >>> bool(log_e_betting(x, 100) > math.log(100)), bool(log_e_betting(x * 0, 100) < 1e-9)
        (True, True)
    """
    mean = _null_means(x, population)
    # Below -1 the null hypothesis is impossible; at -1 only losing draws are left under it.
    possible = 1 + mean
    factor = (x - mean) / possible.clamp(min=1e-9)
    bets = torch.tensor(BETS, dtype=x.dtype, device=x.device)
    wealth = torch.log1p((bets[:, None, None] * factor).clamp(min=-1 + 1e-12)).sum(2)
    log_e = torch.logsumexp(wealth, 0) - math.log(len(BETS))
    left = population - x.shape[1]
    return torch.where(x.sum(1) > left + 1e-9, torch.inf, log_e)


def log_e_unbounded(x: torch.Tensor, population: int) -> torch.Tensor:
    """Log e-value against "the total of all draws is not positive", for differences without bounds [M].

    Without bounds on the draws to come no test can be valid for all populations and stop early: one draw may undo all
    others. This one assumes that the draws to come scatter at most twice as widely as those made: their variance v_i
    around their own mean is at most 4 s_i^2, with s_i^2 the sample variance of draws 1 to i - 1. Nothing is assumed of
    their shape; they may be skewed.

    If y has a mean of at most 0 and variance v, exp(d y - d^2 (y^2 + 2 v) / 6) has expectation at most 1 for every
    d >= 0 (Delyon 2009, proposition 12). With y_i = x_i - m_i (see :func:`log_e_betting`) and g_i = N / (N - i), the
    sum of y_i g_i is the martingale N S_i / (N - i) of sampling without replacement, and E_n is the mean over d of
    exp(sum_i d g_i y_i - d^2 g_i^2 (y_i^2 + 8 s_i^2) / 6). It is an e-process for as long as the assumption has held:
    it reaches 1 / alpha before the assumption fails with probability at most alpha. d is mixed over half-normal
    distributions, whose scale is set by the first draws, which earn nothing.

    Args:
        x: differences of one pair of classes in the draws made so far [M, n], n < N.
        population: number of all draws N.

    Returns:
        log E_n [M]; 0 while there are no more draws than set the scale.

    Example:
        >>> x = 0.01 * (1 + 0.5 * torch.randn(1, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
        >>> bool(log_e_unbounded(x, 500) > math.log(100)), bool(log_e_unbounded(-x, 500) < 0)
        (True, True)
    """
    if x.shape[1] <= BURN_IN:
        return torch.zeros(len(x), dtype=x.dtype, device=x.device)
    number = torch.arange(x.shape[1], dtype=x.dtype, device=x.device)
    gain = population / (population - 1 - number).clamp(min=0.5)
    # Around the first draw, so that no digits are lost where the draws hardly differ.
    shifted = x - x[:, :1]
    total, squares = shifted.cumsum(1) - shifted, shifted.square().cumsum(1) - shifted.square()
    scatter = (squares - total.square() / number.clamp(min=1)).clamp(min=0) / (number - 1).clamp(min=1)
    y = x - _null_means(x, population)
    spread = (y.square() + 2 * WIDER**2 * scatter) / 3
    scale = x[:, :BURN_IN].square().mean(1).sqrt().clamp(min=1e-100)  # its square must not be 0
    drift = (gain * y)[:, BURN_IN:].sum(1) / scale
    variance = (gain.square() * spread)[:, BURN_IN:].sum(1) / scale.square()
    effect = x.new_tensor(EFFECTS)[:, None]
    wide = 1 + effect.square() * variance
    z = effect * drift / wide.sqrt()
    parts = math.log(2) - 0.5 * wide.log() + 0.5 * z.square() + torch.special.log_ndtr(z)
    return torch.logsumexp(parts, 0) - math.log(len(EFFECTS))
