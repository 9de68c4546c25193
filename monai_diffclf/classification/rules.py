# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From errors to a class: majority vote and mean error."""

from __future__ import annotations

import math

import torch

from .denoising_errors import DenoisingErrors, check_errors
from .draw_weights import Weighting, draw_weights
from .result import DenoisingClassification
from .vote_statistics import effective_draws, probability_uncertainty, vote_uncertainty

__all__ = ["classify_errors", "count_votes", "draw_scores", "mean_errors", "vote_uncertainty"]

RULES = ("vote", "mean", "weighted_vote")


def draw_scores(errors: DenoisingErrors, rule: str = "vote") -> torch.Tensor:
    """What each draw gives each class [B, K, N], float64: the class with the largest weighted total wins.

    For the votes 1 to the class with the smallest error in the draw and 0 to the others (shared among tied classes, so
    that none is favoured by its index); for the mean -e[b, k, n]. NaN where a class was not evaluated.

    Raises:
        ValueError: when ``rule`` is unknown.

    Example:
        >>> errors = DenoisingErrors(torch.tensor([[[0.1, 0.3], [0.2, 0.3]]]), torch.arange(2), torch.zeros(2))
        >>> draw_scores(errors).tolist()
        [[[1.0, 0.5], [0.0, 0.5]]]
    """
    check_rule(rule)
    return score_values(errors.values, rule)


def score_values(values: torch.Tensor, rule: str) -> torch.Tensor:
    """:func:`draw_scores` of values [B, K, n]; the rule is known to be one."""
    if rule == "mean":
        return -values.double()
    evaluated = ~torch.isnan(values)
    values = torch.where(evaluated, values, torch.inf)
    winners = ((values == values.min(dim=1, keepdim=True).values) & evaluated).double()
    return torch.where(evaluated, winners / winners.sum(1, keepdim=True).clamp(min=1), torch.nan)


def check_rule(rule: str) -> None:
    """Refuse an unknown rule.

    Raises:
        ValueError: when it is none of `RULES`.
    """
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {list(RULES)}, got {rule!r}")


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not a positive number.

    Raises:
        ValueError: when it is none.
    """
    if not (isinstance(temperature, (int, float)) and math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature: expected a positive number, got {temperature!r}")


def vote_weights(errors: DenoisingErrors, rule: str, weighting: Weighting) -> torch.Tensor:
    """What the vote of each draw counts [N], float64: 1, or as the rule and the importance of the draws say."""
    if rule == "weighted_vote":
        weights = draw_weights(errors, weighting)
        return weights / weights.mean()
    return draw_weights(errors, "uniform")


def decision_weights(errors: DenoisingErrors, rule: str, weighting: Weighting) -> torch.Tensor:
    """Weight of each draw in the totals that decide [N], float64."""
    return draw_weights(errors, weighting) if rule == "mean" else vote_weights(errors, rule, weighting)


def count_votes(errors: DenoisingErrors, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Votes of each class [B, K], float64: every draw votes for the class with the smallest error.

    Favero et al. (2025), majority vote: vote_n = argmin_k e[b, k, n]. Classes that tie within a draw share its vote, so
    that no class is favoured by its index. Draws without any evaluated class cast no vote.

    Args:
        errors: errors [B, K, N].
        weights: what the vote of each draw counts [N]; None for 1.

    Example:
        >>> values = torch.tensor([[[0.1, 0.3, 0.2], [0.2, 0.1, 0.2]]])
        >>> count_votes(DenoisingErrors(values, torch.arange(3), torch.zeros(3))).tolist()
        [[1.5, 1.5]]
    """

    def count(part: DenoisingErrors) -> torch.Tensor:
        votes = torch.nan_to_num(draw_scores(part, "vote"), nan=0.0)
        return votes.sum(2) if weights is None else (votes * weights.to(votes)).sum(2)

    return errors.image_by_image(count)


def mean_errors(errors: DenoisingErrors, weighting: Weighting = "uniform") -> torch.Tensor:
    """Weighted mean over the evaluated draws of each class's errors [B, K], float64; inf for a class never evaluated.

    Favero et al. (2025), equation 3; see :func:`draw_weights` for the weights. Errors differ more between noise levels
    than between classes, so a class that was given up after fewer draws is compared with the longest evaluated one on
    the draws that both have: mean_k = mean_j + mean over the shared draws of w_n (e[k, n] - e[j, n]).

    Example:
        >>> values = torch.tensor([[[0.1, 0.3], [0.2, 0.4]]])
        >>> mean_errors(DenoisingErrors(values, torch.arange(2), torch.zeros(2))).round(decimals=4).tolist()
        [[0.2, 0.3]]
        >>> given_up = torch.tensor([[[0.1, 0.3], [0.2, torch.nan]]])
        >>> mean_errors(DenoisingErrors(given_up, torch.arange(2), torch.zeros(2))).round(decimals=4).tolist()
        [[0.2, 0.3]]
    """
    weights = draw_weights(errors, weighting)
    return errors.image_by_image(lambda part: _mean_errors(part, weights))


def _mean_errors(errors: DenoisingErrors, weights: torch.Tensor) -> torch.Tensor:
    evaluated = errors.evaluated
    values = torch.nan_to_num(errors.values.double(), nan=0.0) * weights
    count = evaluated.sum(2)
    mean = torch.where(count > 0, values.sum(2) / count.clamp(min=1), torch.inf)
    if bool((count == count[:, :1]).all()):
        return mean
    longest = count.argmax(1)[:, None, None].expand(-1, 1, errors.num_draws)
    both = evaluated & evaluated.gather(1, longest)
    shared = both.sum(2)
    difference = torch.where(both, values - values.gather(1, longest), 0.0).sum(2) / shared.clamp(min=1)
    paired = mean.gather(1, longest[:, :, 0]) + difference
    given_up = (count < count.max(1, keepdim=True).values) & (shared > 0)
    return torch.where(given_up, paired, mean)


def classify_errors(
    errors: DenoisingErrors,
    rule: str = "vote",
    *,
    weighting: Weighting = "uniform",
    temperature: float = 1.0,
    mean_error: torch.Tensor | None = None,
) -> DenoisingClassification:
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
    * ``"weighted_vote"``: as the vote, each draw's vote counting w_n / mean(w).

    A class evaluated on fewer draws than others was given up by a stopping rule and cannot win.

    Args:
        errors: errors [B, K, N].
        rule: ``"vote"``, ``"mean"`` or ``"weighted_vote"``.
        weighting: weights of the draws, see :func:`draw_weights`. The vote does not depend on it, save for ties.
        temperature: divides the scores; larger is less sure.
        mean_error: the mean error of each class [B, K], where it is better known than from the draws made alone; None
            for :func:`mean_errors`.

    Raises:
        TypeError: when ``errors`` is no `DenoisingErrors`.
        ValueError: when ``rule`` or ``weighting`` is unknown, ``temperature`` is not positive, an error is infinite, or
            an image has none.

    Example:
        >>> values = torch.tensor([[[0.9, 0.3, 0.2], [0.2, 0.4, 0.5]]])
        >>> errors = DenoisingErrors(values, torch.arange(3), torch.zeros(3))
        >>> int(classify_errors(errors, "vote").predicted), int(classify_errors(errors, "mean").predicted)
        (0, 1)
    """
    check_rule(rule)
    check_temperature(temperature)
    count = check_errors(errors).num_evaluated
    most = count.max(1, keepdim=True).values
    racing = count == most
    mean = mean_errors(errors, weighting) if mean_error is None else mean_error
    _check_decidable(most[:, 0] > 0, "errors: expected at least one that was evaluated for each image, got none")
    _check_decidable(
        (torch.isfinite(mean) | ~racing).all(1), "mean_error: expected finite numbers of finite weights, got others"
    )
    best = torch.where(racing, mean, torch.inf).min(1, keepdim=True).values
    # Given up for worse: an estimate from fewer draws must not make it the most probable again.
    mean = torch.where(racing, mean, torch.maximum(mean, best + 1e-6 * best.abs()))
    softmax = torch.softmax(-0.5 * errors.num_elements * mean / temperature, dim=1)
    counted = vote_weights(errors, rule, weighting)
    votes = count_votes(errors, counted)
    cast = votes.sum(1, keepdim=True)
    vote_share = (votes / cast.where(cast > 0, 1.0)).float()
    standing = torch.where(racing, votes, -torch.inf)
    # Fractional votes of tied draws are sums of 1/2, 1/3...: equal up to rounding is a tie.
    tied = standing >= standing.max(1, keepdim=True).values - 1e-9
    if rule == "mean":
        predicted, probabilities = torch.where(racing, mean, torch.inf).argmin(1), softmax
    else:
        predicted = torch.where(tied, mean, torch.inf).argmin(1)
        probabilities = (votes + 0.5 / errors.num_classes + 0.5 * softmax) / (cast + 1)
    probabilities = probabilities.float()
    said_by_votes = vote_uncertainty(vote_share, effective_draws(errors, counted))
    return DenoisingClassification(
        predicted=predicted,
        probabilities=probabilities,
        vote_share=vote_share,
        mean_error=mean,
        uncertainty=said_by_votes | probability_uncertainty(probabilities),
        network_evaluations=errors.network_evaluations,
        errors=errors,
        decided=torch.ones_like(predicted, dtype=torch.bool),
        guarantee="all draws",
    )


def _check_decidable(fine: torch.Tensor, message: str) -> None:
    """Refuse images [B] that would get the first class for want of numbers."""
    if not bool(fine.all()):
        raise ValueError(f"{message} for image(s) {(~fine).nonzero().flatten().tolist()[:10]}")
