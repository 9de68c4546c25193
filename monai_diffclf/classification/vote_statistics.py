# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How sure votes and probabilities say that an image's class is, and how much of the doubt is due to few draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..keys import NamedValues, UncertaintyKeys
from .denoising_errors import DenoisingErrors

__all__ = [
    "SURE_WHEN_LARGE",
    "effective_draws",
    "of_final_probabilities",
    "probability_uncertainty",
    "probe_uncertainty",
    "vote_uncertainty",
]

SURE_WHEN_LARGE = frozenset(
    (
        *(key.value for key in UncertaintyKeys if key.value.endswith(("_margin", "_share_low", "_share_high"))),
        "margin",  # as margins were called: still large where an image is sure
    )
)
"""Which uncertainties are large where an image is sure; the others are large where it is not."""

_OF_PROBES: dict[str, str] = {
    UncertaintyKeys.VOTE_VARIANCE: UncertaintyKeys.PROBE_VARIANCE,
    UncertaintyKeys.VOTE_ENTROPY: UncertaintyKeys.PROBE_ENTROPY,
    UncertaintyKeys.VOTE_MARGIN: UncertaintyKeys.PROBE_MARGIN,
    UncertaintyKeys.VOTE_SHARE_LOW: UncertaintyKeys.PROBE_SHARE_LOW,
    UncertaintyKeys.VOTE_SHARE_HIGH: UncertaintyKeys.PROBE_SHARE_HIGH,
    UncertaintyKeys.ENTROPY_MONTE_CARLO: UncertaintyKeys.PROBE_ENTROPY_MONTE_CARLO,
    UncertaintyKeys.ENTROPY_REMAINING: UncertaintyKeys.PROBE_ENTROPY_REMAINING,
}

_Z = 1.959963984540054  # the 97.5 % point of the normal distribution


def vote_uncertainty(
    vote_share: torch.Tensor, num_draws: torch.Tensor | float | None = None
) -> dict[str, torch.Tensor]:
    """How the votes split, as named numbers [B] an image.

    * ``vote_variance``: p (1 - p) of the winner's share p, in [0, 1/4] (Favero et al. 2025).
    * ``vote_entropy``: -sum_k p_k log p_k, in nats, in [0, log K].
    * ``vote_margin``: share of the winner less that of the runner-up, in [0, 1]; large means sure.

    They look as sure after 5 draws as after 500. With ``num_draws`` there are also:

    * ``vote_share_low``, ``vote_share_high``: 95 % interval of the winner's share (Wilson 1927).
    * ``entropy_remaining``, ``entropy_monte_carlo``: the entropy of the votes, in nats, in two parts. Given the votes,
      the shares of infinitely many draws are p ~ Dirichlet(votes + 1/2) (Jeffreys' prior). What more draws would not
      settle is E[H(p)]: draws disagree about the image. What they would is H(E[p]) - E[H(p)] >= 0, the information
      that the next draw holds about p (as in BALD, Houlsby et al. 2011); it tends to 0 as draws grow.

    Args:
        vote_share: share of the draws won by each class [B, K].
        num_draws: number of draws that voted, for all images or for each [B]; for weighted votes the number of
            unweighted ones that are worth as much, see :func:`effective_draws`.

    Raises:
        ValueError: when ``num_draws`` is negative.

    Example:
        >>> share = torch.tensor([[0.75, 0.25]])
        >>> {name: round(float(value), 4) for name, value in vote_uncertainty(share).items()}
        {'vote_variance': 0.1875, 'vote_entropy': 0.5623, 'vote_margin': 0.5}
        >>> few, many = vote_uncertainty(share, 8), vote_uncertainty(share, 800)
        >>> [round(float(u["vote_share_low"]), 2) for u in (few, many)]
        [0.41, 0.72]
        >>> [round(float(u["entropy_monte_carlo"]), 4) for u in (few, many)]
        [0.0515, 0.0006]
    """
    top = vote_share.topk(2, dim=1).values
    # 0.0 - 0.0 is 0, where -0.0 would be printed with its sign.
    entropy = 0.0 - torch.xlogy(vote_share, vote_share).sum(1)
    winner = top[:, 0]
    uncertainty = {
        UncertaintyKeys.VOTE_VARIANCE: winner * (1 - winner),
        UncertaintyKeys.VOTE_ENTROPY: entropy,
        UncertaintyKeys.VOTE_MARGIN: winner - top[:, 1],
    }
    if num_draws is None:
        return NamedValues(uncertainty)
    share = vote_share.double()
    draws = torch.as_tensor(num_draws, device=share.device).double().expand(len(share))
    if bool((draws < 0).any()):
        raise ValueError(f"num_draws: expected the number of draws that voted, at least 0, got {float(draws.min())}")
    low, high = _wilson_interval(share.amax(1), draws)
    remaining, monte_carlo = _split_entropy(share, draws)
    further = {
        UncertaintyKeys.VOTE_SHARE_LOW: low,
        UncertaintyKeys.VOTE_SHARE_HIGH: high,
        UncertaintyKeys.ENTROPY_MONTE_CARLO: monte_carlo,
        UncertaintyKeys.ENTROPY_REMAINING: remaining,
    }
    return NamedValues(uncertainty | {name: value.to(vote_share.dtype) for name, value in further.items()})


def probe_uncertainty(probe_share: torch.Tensor, num_probes: int) -> dict[str, torch.Tensor]:
    """How the probes of a likelihood split, as named numbers [B]: those of :func:`vote_uncertainty` for probes.

    Args:
        probe_share: share of the probes that would choose each class [B, K].
        num_probes: number of probes P.

    Example:
        >>> probe_uncertainty(torch.tensor([[0.5, 0.5]]), 2)["probe_variance"].tolist()
        [0.25]
    """
    return NamedValues({_OF_PROBES[name]: value for name, value in vote_uncertainty(probe_share, num_probes).items()})


def probability_uncertainty(probabilities: torch.Tensor) -> dict[str, torch.Tensor]:
    """How sure class probabilities are, as named numbers [B].

    * ``probability_margin``: the largest probability less the second, in [0, 1]; large means sure.
    * ``probability_entropy``: -sum_k p_k log p_k, in nats, in [0, log K].

    Args:
        probabilities: class probabilities [B, K].

    Example:
        >>> uncertainty = probability_uncertainty(torch.tensor([[0.75, 0.25]]))
        >>> {name: round(float(value), 4) for name, value in uncertainty.items()}
        {'probability_margin': 0.5, 'probability_entropy': 0.5623}
    """
    top = probabilities.topk(2, dim=1).values
    exact = probabilities.double()
    entropy = 0.0 - torch.xlogy(exact, exact).sum(1)  # not -0.0, as above
    return NamedValues(
        {
            UncertaintyKeys.PROBABILITY_MARGIN: top[:, 0] - top[:, 1],
            UncertaintyKeys.PROBABILITY_ENTROPY: entropy.to(probabilities.dtype),
        }
    )


def of_final_probabilities(uncertainty: Mapping[str, Any], probabilities: torch.Tensor) -> dict[str, Any]:
    """The uncertainties of one image, with those of its probabilities made anew where they are among them.

    For probabilities that were changed after the classification, by a calibration say: what stands beside them must
    speak of them.

    Args:
        uncertainty: named uncertainties of the image.
        probabilities: its class probabilities [K] as they are now.

    Example:
        >>> of_final_probabilities({"vote_margin": 0.5, "probability_margin": 0.5}, torch.tensor([0.625, 0.375]))
        {'vote_margin': 0.5, 'probability_margin': 0.25}
    """
    anew = probability_uncertainty(probabilities.double()[None])
    return NamedValues({**uncertainty, **{name: float(anew[name]) for name in anew if name in uncertainty}})


def _wilson_interval(share: torch.Tensor, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both ends of the 95 % interval of a share [B]: where the score test does not reject; [0, 1] without draws."""
    half = _Z * torch.sqrt(draws * share * (1 - share) + _Z**2 / 4)
    middle = draws * share + _Z**2 / 2
    return ((middle - half) / (draws + _Z**2)).clamp(min=0), ((middle + half) / (draws + _Z**2)).clamp(max=1)


def _split_entropy(share: torch.Tensor, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """E[H(p)] and H(E[p]) - E[H(p)] [B] under the Dirichlet posterior.

    E[H(p)] = psi(a + 1) - sum_k a_k / a psi(a_k + 1) with a the sum of all a_k (Wolpert and Wolf 1995, theorem 6).
    """
    counts = draws[:, None] * share + 0.5
    total = counts.sum(1, keepdim=True)
    mean = counts / total
    remaining = torch.digamma(total[:, 0] + 1) - (mean * torch.digamma(counts + 1)).sum(1)
    return remaining, (-torch.xlogy(mean, mean).sum(1) - remaining).clamp(min=0)


def effective_draws(errors: DenoisingErrors, weights: torch.Tensor) -> torch.Tensor:
    """Number of equal votes worth as much as the weighted votes of each image [B], float64.

    (sum_n w_n)^2 / sum_n w_n^2 over the draws that voted (Kish 1965); their number where all weigh the same.

    Args:
        errors: errors [B, K, N].
        weights: what the vote of each draw counts [N].

    Example:
        >>> errors = DenoisingErrors(torch.rand(1, 2, 4), torch.arange(4), torch.zeros(4))
        >>> effective_draws(errors, torch.ones(4)).tolist()
        [4.0]
        >>> effective_draws(errors, torch.tensor([3, 1, 0, 0])).tolist()
        [1.6]
    """
    voted = errors.image_by_image(lambda part: part.evaluated.any(1))
    weight = voted * weights.to(errors.values.device).double()
    squares = weight.square().sum(1)
    return weight.sum(1).square() / squares.where(squares > 0, 1.0)
