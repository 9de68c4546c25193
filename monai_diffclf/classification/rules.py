# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From errors to a class: majority vote and mean error."""

from __future__ import annotations

import math

import torch

from .errors import DenoisingErrors
from .result import Classification

__all__ = ["classify_errors", "count_votes", "draw_weights", "mean_errors", "vote_uncertainty"]

RULES = ("vote", "mean")
WEIGHTINGS = ("uniform", "elbo", "min_snr")


def draw_weights(errors: DenoisingErrors, weighting: str = "uniform", *, gamma: float = 5.0) -> torch.Tensor:
    """Weight of each draw's error in the mean [N], float64.

    * ``"uniform"``: 1. All levels of the schedule count alike, as in the released code of Favero et al. (2025).
    * ``"elbo"``: -d lambda / dt, the weight under which the mean is the negative log-likelihood's bound
      (Kingma et al. 2021, equation 18). With the exact denoiser it gives the exact posterior.
    * ``"min_snr"``: min(SNR, gamma) / SNR (Hang et al. 2023, section 3.4).

    Args:
        errors: the errors; their ``log_snr`` is used, and ``log_snr_rate`` by the ELBO.
        weighting: one of the above.
        gamma: limit of the min-SNR weight.

    Raises:
        ValueError: when ``weighting`` is unknown or ``log_snr_rate`` is needed and missing.

    Example:
        >>> e = DenoisingErrors(torch.rand(1, 2, 3), torch.arange(3), torch.tensor([5.0, 0.0, -5.0]))
        >>> draw_weights(e, "min_snr").tolist()[1:]
        [1.0, 1.0]
    """
    log_snr = errors.log_snr.double()
    if weighting == "uniform":
        return torch.ones_like(log_snr)
    if weighting == "min_snr":
        if not gamma > 0:
            raise ValueError(f"gamma: expected a positive number, got {gamma}")
        return torch.exp((math.log(gamma) - log_snr).clamp(max=0.0))
    if weighting == "elbo":
        if errors.log_snr_rate is None:
            raise ValueError("weighting 'elbo' needs errors.log_snr_rate; these errors were stored without it")
        return errors.log_snr_rate.double()
    raise ValueError(f"weighting: expected one of {list(WEIGHTINGS)}, got {weighting!r}")


def count_votes(errors: DenoisingErrors) -> torch.Tensor:
    """Votes of each class [B, K], float64: every draw votes for the class with the smallest error.

    Favero et al. (2025), majority vote: vote_n = argmin_k e[b, k, n]. Classes that tie within a draw share its vote, so
    that no class is favoured by its index. Draws without any evaluated class cast no vote.

    Example:
        >>> values = torch.tensor([[[0.1, 0.3, 0.2], [0.2, 0.1, 0.2]]])
        >>> count_votes(DenoisingErrors(values, torch.arange(3), torch.zeros(3))).tolist()
        [[1.5, 1.5]]
    """
    values = torch.where(errors.evaluated, errors.values, torch.inf)
    best = values.min(dim=1, keepdim=True).values
    winners = ((values == best) & errors.evaluated).double()
    return (winners / winners.sum(1, keepdim=True).clamp(min=1)).sum(2)


def mean_errors(errors: DenoisingErrors, weighting: str = "uniform") -> torch.Tensor:
    """Weighted mean over the evaluated draws of each class's errors [B, K], float64; inf for a class never evaluated.

    Favero et al. (2025), equation 3; see :func:`draw_weights` for the weights.

    Example:
        >>> values = torch.tensor([[[0.1, 0.3], [0.2, 0.4]]])
        >>> mean_errors(DenoisingErrors(values, torch.arange(2), torch.zeros(2))).round(decimals=4).tolist()
        [[0.2, 0.3]]
    """
    weight = draw_weights(errors, weighting)
    evaluated = errors.evaluated
    total = (torch.nan_to_num(errors.values.double(), nan=0.0) * weight).sum(2)
    count = evaluated.sum(2)
    return torch.where(count > 0, total / count.clamp(min=1), torch.inf)


def vote_uncertainty(vote_share: torch.Tensor) -> dict[str, torch.Tensor]:
    """How the votes split, as three numbers an image.

    * ``vote_variance``: p (1 - p) of the winner's share p, in [0, 1/4] for two classes (Favero et al. 2025).
    * ``vote_entropy``: -sum_k p_k log p_k, in nats, in [0, log K].
    * ``margin``: share of the winner less that of the runner-up, in [0, 1]; large means sure.

    Args:
        vote_share: share of the draws won by each class [B, K].

    Example:
        >>> u = vote_uncertainty(torch.tensor([[0.75, 0.25]]))
        >>> {name: round(float(value), 4) for name, value in u.items()}
        {'vote_variance': 0.1875, 'vote_entropy': 0.5623, 'margin': 0.5}
    """
    top = vote_share.topk(2, dim=1).values
    entropy = -torch.xlogy(vote_share, vote_share).sum(1)
    return {"vote_variance": top[:, 0] * (1 - top[:, 0]), "vote_entropy": entropy, "margin": top[:, 0] - top[:, 1]}


def classify_errors(
    errors: DenoisingErrors, rule: str = "vote", *, weighting: str = "uniform", temperature: float = 1.0
) -> Classification:
    """Classify images from stored errors.

    With D elements an image, the score of class k is s_k = -(D / 2) mean_n(w_n e[k, n]) / temperature.

    * ``"mean"``: probabilities softmax_k(s_k), the class with the smallest mean error (Favero et al. 2025, equation 3).
      With the ELBO weighting and temperature 1, s_k estimates log p(x | k) up to a constant, so that an exact denoiser
      yields the exact posterior under equal priors. Real networks are overconfident in this form: fit the temperature
      on validation data.
    * ``"vote"``: the class with most votes; among tied classes the one with the smallest mean error. Probabilities are
      the smoothed vote share (votes_k + 1 / (2 K) + softmax_k(s) / 2) / (N + 1): one further vote, half of it given to
      all classes alike and half by the mean error, so that no probability is 0 and tied votes are ranked as the
      tie-break does.

    Args:
        errors: errors [B, K, N].
        rule: ``"vote"`` or ``"mean"``.
        weighting: weighting of the mean error, see :func:`draw_weights`. The vote does not depend on it, save for ties.
        temperature: divides the scores; larger is less sure.

    Raises:
        ValueError: when ``rule`` or ``weighting`` is unknown, or ``temperature`` is not positive.

    Example:
        >>> values = torch.tensor([[[0.9, 0.3, 0.2], [0.2, 0.4, 0.5]]])
        >>> errors = DenoisingErrors(values, torch.arange(3), torch.zeros(3))
        >>> int(classify_errors(errors, "vote").predicted), int(classify_errors(errors, "mean").predicted)
        (0, 1)
    """
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {list(RULES)}, got {rule!r}")
    if not (isinstance(temperature, (int, float)) and math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature: expected a positive number, got {temperature!r}")
    mean = mean_errors(errors, weighting)
    softmax = torch.softmax(-0.5 * errors.num_elements * mean / temperature, dim=1)
    votes = count_votes(errors)
    cast = votes.sum(1, keepdim=True)
    vote_share = (votes / cast.clamp(min=1)).float()
    # Fractional votes of tied draws are sums of 1/2, 1/3...: equal up to rounding is a tie.
    tied = votes >= votes.max(1, keepdim=True).values - 1e-9
    by_vote = torch.where(tied, mean, torch.inf).argmin(1)
    if rule == "vote":
        predicted = by_vote
        probabilities = (votes + 0.5 / errors.num_classes + 0.5 * softmax) / (cast + 1)
    else:
        predicted, probabilities = mean.argmin(1), softmax
    return Classification(
        predicted=predicted,
        probabilities=probabilities.float(),
        vote_share=vote_share,
        mean_error=mean,
        uncertainty=vote_uncertainty(vote_share),
        network_evaluations=errors.network_evaluations,
        errors=errors,
    )
