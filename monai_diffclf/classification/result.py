# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a user gets from a diffusion classifier or a score-based one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .denoising_errors import DenoisingErrors

__all__ = ["Classification"]


@dataclass(frozen=True)
class Classification:
    """The classes of a batch of images, how sure they are, and the errors behind them.

    Args:
        predicted: predicted class [B], int64.
        probabilities: class probabilities [B, K], rows sum to 1.
        vote_share: share of the draws won by each class [B, K], rows sum to 1.
        mean_error: weighted mean error of each class [B, K], float64; from a likelihood -2 log p(x | k) / D.
        uncertainty: named uncertainties [B]: ``vote_variance``, ``vote_entropy``, ``margin``, the interval
            ``vote_share_low`` to ``vote_share_high``, and ``entropy_monte_carlo`` and ``entropy_remaining``: what more
            draws would settle and what they would not (see :func:`monai_diffclf.uncertainty.vote_uncertainty`); from a
            likelihood those of :func:`monai_diffclf.classification.classify_likelihood`.
        network_evaluations: network evaluations spent on each image [B], int64.
        errors: the errors all of it was computed from; None where it was a likelihood.
        decided: whether the guarantee holds for the class of each image [B], bool; False where draws ran out first.
        guarantee: what the class is guaranteed to be, in words.
        error_maps: mean squared epsilon error of each pixel and class [B, K, *spatial], if asked for.
        log_likelihood: log p(x | k) in nats [B, K], float64, where that decided (`ScoreClassifierInferer`).
        probe_log_likelihood: the same from each probe of the divergence [B, K, P].
    """

    predicted: torch.Tensor
    probabilities: torch.Tensor
    vote_share: torch.Tensor
    mean_error: torch.Tensor
    uncertainty: dict[str, torch.Tensor]
    network_evaluations: torch.Tensor
    errors: DenoisingErrors | None
    decided: torch.Tensor
    guarantee: str
    error_maps: torch.Tensor | None = None
    log_likelihood: torch.Tensor | None = None
    probe_log_likelihood: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.predicted)

    @property
    def evidence(self) -> torch.Tensor:
        """What all of it was computed from [B, K, N]: errors of N draws, or log-likelihoods of N probes."""
        evidence = self.probe_log_likelihood if self.errors is None else self.errors.values
        if evidence is None:
            raise ValueError("errors: expected errors or log-likelihoods, this result has neither")
        return evidence
