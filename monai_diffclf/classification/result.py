# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a user gets from a diffusion classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .errors import DenoisingErrors

__all__ = ["Classification"]


@dataclass(frozen=True)
class Classification:
    """The classes of a batch of images, how sure they are, and the errors behind them.

    Args:
        predicted: predicted class [B], int64.
        probabilities: class probabilities [B, K], rows sum to 1.
        vote_share: share of the draws won by each class [B, K], rows sum to 1.
        mean_error: weighted mean error of each class [B, K], float64.
        uncertainty: named uncertainties [B]: ``vote_variance``, ``vote_entropy``, ``margin``, the interval
            ``vote_share_low`` to ``vote_share_high``, and ``entropy_monte_carlo`` and ``entropy_remaining``: what more
            draws would settle and what they would not (see :func:`monai_diffclf.uncertainty.vote_uncertainty`).
        network_evaluations: network evaluations spent on each image [B], int64.
        errors: the errors all of it was computed from.
        decided: whether the guarantee holds for the class of each image [B], bool; False where draws ran out first.
        guarantee: what the class is guaranteed to be, in words.
        error_maps: mean squared epsilon error of each pixel and class [B, K, *spatial], if asked for.
    """

    predicted: torch.Tensor
    probabilities: torch.Tensor
    vote_share: torch.Tensor
    mean_error: torch.Tensor
    uncertainty: dict[str, torch.Tensor]
    network_evaluations: torch.Tensor
    errors: DenoisingErrors
    decided: torch.Tensor
    guarantee: str
    error_maps: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.predicted)
