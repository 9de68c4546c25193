# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the votes to come will probably say: a beta-binomial model of the votes of two classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import betabinom

from .denoising_errors import DenoisingErrors
from .rules import draw_scores

__all__ = ["VoteModel"]

# Pairs of classes at a time: the table of the votes that each may still get is in memory.
ROWS = 4096


@dataclass(frozen=True)
class VoteModel:
    """Votes of two classes as draws from an urn: the share of one of them is Beta(a, a) distributed over images.

    After s votes for the leader and r for its rival, the share's distribution is Beta(a + s, a + r), and the votes to
    come are beta-binomial. Votes are taken as independent given the share; levels that are stratified and well spread
    scatter less than that, so that the model errs on the careful side. It is symmetric in the two classes.

    Args:
        concentration: a; 1 for all shares being equally likely beforehand, less where most images are clear.

    Raises:
        ValueError: when ``concentration`` is not positive.

    Example:
        >>> x = torch.tensor([[1.0] * 9, [1.0, -1.0] * 4 + [1.0]])  # nine votes to none, five to four
        >>> chance = VoteModel().chance_to_lose(x, torch.ones(501), torch.zeros(501))
        >>> bool(chance[0] < 0.01), bool(chance[1] > 0.3)
        (True, True)
    """

    concentration: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.concentration < np.inf:
            raise ValueError(f"concentration: expected a positive number, got {self.concentration!r}")

    @classmethod
    def fit(cls, errors: DenoisingErrors) -> VoteModel:
        """The most likely concentration for validation images [n, K, N], all pairs of classes that get votes together.

        Raises:
            ValueError: when there are fewer than 8 images or errors are missing.
        """
        if len(errors) < 8 or not bool(errors.evaluated.all()):
            raise ValueError(f"errors: expected at least 8 images with all draws evaluated, got {len(errors)} images")
        votes = draw_scores(errors, "vote").sum(2).cpu().numpy()
        first, second = np.triu_indices(errors.num_classes, 1)
        wins, losses = votes[:, first].round().ravel(), votes[:, second].round().ravel()
        wins, losses = wins[wins + losses > 0], losses[wins + losses > 0]

        def surprise(log_a: float) -> float:
            a = np.exp(log_a)
            return -float(betabinom.logpmf(wins, wins + losses, a, a).sum())

        return cls(float(np.exp(minimize_scalar(surprise, bounds=(-4.0, 4.0), method="bounded").x)))

    def chance_to_lose(self, x: torch.Tensor, weights: torch.Tensor, log_snr: torch.Tensor) -> torch.Tensor:
        """Probability that the total of all N draws will not be positive, given the first n of them [M], float64.

        Args:
            x: votes of the leader minus those of the rival in the draws made so far [M, n].
            weights: weight of every draw in the total [N].
            log_snr: log-SNR of every draw [N]; has no influence.
        """
        made, w, values = x.shape[1], weights.to(x.device).double(), x.double()
        if made == len(w):
            return (values @ w <= 0).double()
        seen, left = w[:made], w[made:]
        wins, losses = (sign * values for sign in (1, -1))
        wins, losses = (votes.clamp(min=0) @ seen * (made / seen.sum()) for votes in (wins, losses))
        to_come = (len(left) * (wins + losses) / made).round()
        # Votes the rival needs so that what it gains is the leader's lead.
        needed = ((to_come + values @ seen / left.mean()) / 2 - 1e-9).ceil()
        a, b = self.concentration + losses, self.concentration + wins
        parts = zip(needed.split(ROWS), to_come.split(ROWS), a.split(ROWS), b.split(ROWS), strict=True)
        return torch.cat([_at_least(*part, most=len(left)) for part in parts])

    def to_dict(self) -> dict[str, float]:
        """As plain numbers, for a JSON file."""
        return {"concentration": self.concentration}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VoteModel:
        """From what `to_dict` gave; other keys are ignored."""
        if "concentration" not in values:
            raise ValueError("values: expected concentration, it is missing")
        return cls(float(values["concentration"]))


def _at_least(needed: torch.Tensor, total: torch.Tensor, a: torch.Tensor, b: torch.Tensor, most: int) -> torch.Tensor:
    """P(X >= needed) [M] of a beta-binomial X of ``total`` votes [M], at most ``most``.

    P(0) = B(a, total + b) / B(a, b), and P(k + 1) / P(k) = (total - k) (k + a) / ((k + 1) (total - k - 1 + b)).
    """
    needed, total, a, b = (values[:, None] for values in (needed, total, a, b))
    k = torch.arange(most + 1, dtype=total.dtype, device=total.device)
    left = (total - k[:-1]).clamp(min=0)
    steps = (left * (k[:-1] + a) / (k[1:] * ((left - 1).clamp(min=0) + b))).log()
    none = (total + b).lgamma() + (a + b).lgamma() - (total + a + b).lgamma() - b.lgamma()
    log_pmf = torch.cat([none, none + steps.cumsum(1)], 1)
    return log_pmf.exp().masked_fill(k < needed, 0.0).sum(1).clamp(max=1.0)
