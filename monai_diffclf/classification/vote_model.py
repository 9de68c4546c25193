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
        made, w, values = x.shape[1], weights.double().cpu().numpy(), x.double().cpu().numpy()
        seen, left = w[:made], w[made:]
        wins, losses = (np.maximum(sign * values, 0) @ seen * made / seen.sum() for sign in (1, -1))
        to_come = np.round(len(left) * (wins + losses) / made)
        # Votes the rival needs so that what it gains is the leader's lead.
        lead = values @ seen / left.mean()
        needed = np.ceil((to_come + lead) / 2 - 1e-9)
        chance = betabinom.sf(needed - 1, to_come, self.concentration + losses, self.concentration + wins)
        return torch.from_numpy(np.where(needed > to_come, 0.0, chance)).to(x.device)

    def to_dict(self) -> dict[str, float]:
        """As plain numbers, for a JSON file."""
        return {"concentration": self.concentration}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VoteModel:
        """From what `to_dict` gave; other keys are ignored."""
        if "concentration" not in values:
            raise ValueError("values: expected concentration, it is missing")
        return cls(float(values["concentration"]))
