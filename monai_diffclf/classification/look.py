# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The draws made so far, as a stopping rule sees them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from .denoising_errors import DenoisingErrors
from .draw_weights import Weighting
from .rules import decision_weights, draw_scores

__all__ = ["Look"]


@dataclass(frozen=True)
class Look:
    """What a stopping rule sees of some images after their first n of N draws, in the order in which they are made.

    Args:
        scores: what each draw gave each class, see :func:`monai_diffclf.classification.draw_scores` [B, K, n], float64;
            NaN in the last draw for a class that has been eliminated.
        weights: weight of every draw in the totals, those to come too [N].
        log_snr: log-SNR of every draw, those to come too [N].
        rule: ``"vote"``, ``"mean"`` or ``"weighted_vote"``.
    """

    scores: torch.Tensor
    weights: torch.Tensor
    log_snr: torch.Tensor
    rule: str

    @classmethod
    def of(
        cls, errors: DenoisingErrors, num_made: int, *, rule: str = "vote", weighting: Weighting = "uniform"
    ) -> Look:
        """The look after the first ``num_made`` of all draws of ``errors`` [B, K, N]."""
        weights = decision_weights(errors, rule, weighting)
        return cls(draw_scores(errors.first(num_made), rule), weights, errors.log_snr, rule)

    @property
    def num_draws(self) -> int:
        """Number of all draws N."""
        return len(self.weights)

    @property
    def num_made(self) -> int:
        """Number of draws made n."""
        return self.scores.shape[2]

    @cached_property
    def racing(self) -> torch.Tensor:
        """Classes not eliminated before [B, K], bool."""
        return ~torch.isnan(self.scores[:, :, -1])

    @cached_property
    def totals(self) -> torch.Tensor:
        """Weighted total of each class so far [B, K]; -inf for a class eliminated before."""
        total = (torch.nan_to_num(self.scores, nan=0.0) * self.weights[: self.num_made]).sum(2)
        return torch.where(self.racing, total, -torch.inf)

    def leads(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The leader [B] and its scores minus those of every class [B, K, n]; NaN against eliminated ones."""
        leader = self.totals.argmax(1)
        return leader, self.scores[torch.arange(len(leader), device=leader.device), leader][:, None] - self.scores
