# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""When enough draws have been spent on an image: pure functions of the errors so far, for vote and mean, K >= 2.

:class:`monai_diffclf.classification.PredictiveCurtailment` is in `predictive_curtailment.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch

from .._checks import check_integer
from .denoising_errors import DenoisingErrors
from .draw_weights import Weighting
from .draws import check_seed, random_order
from .e_process import log_e_betting, log_e_unbounded
from .look import Look
from .rules import RULES

__all__ = ["CurtailedVote", "ForecastingRule", "Look", "SequentialTest", "StagedElimination", "StoppingRule"]


@runtime_checkable
class StoppingRule(Protocol):
    """Says after some draws which classes of an image are still in the race; an image with one class left is decided.

    ``rules`` are the rules of decision it is valid for, ``guarantee`` says in words what a decided class is. A rule is
    a pure function of the draws so far, so that it can be replayed on stored errors
    (:func:`monai_diffclf.classification.replay`).
    """

    rules: tuple[str, ...]
    guarantee: str

    def order(self, num_draws: int) -> torch.Tensor:
        """The order in which the draws are made, a permutation [N]."""
        ...

    def looks(self, num_draws: int) -> list[int]:
        """After how many draws the rule looks, ascending; no draws are made after the last look."""
        ...

    def remaining(self, look: Look) -> torch.Tensor:
        """Classes still in the race [B, K], bool; at least the leader's."""
        ...


@runtime_checkable
class ForecastingRule(StoppingRule, Protocol):
    """A stopping rule that knows the draws' levels, and decides by what it forecasts of those not made."""

    def for_draws(self, weights: torch.Tensor, log_snr: torch.Tensor, rule: str) -> StoppingRule:
        """The rule for draws with weights [N] and log-SNR [N]: what depends on them alone is worked out once."""
        ...

    def mean_errors(self, errors: DenoisingErrors, weighting: Weighting = "uniform") -> torch.Tensor:
        """The mean error of each class over all draws [B, K], by which it decides."""
        ...

    def mean_weights(self, errors: DenoisingErrors, weighting: Weighting = "uniform") -> torch.Tensor:
        """How much each draw made counts in the difference of two classes' mean errors [B, N]."""
        ...


def spaced_looks(num_draws: int, block: int, min_draws: int = 1, max_draws: int | None = None) -> list[int]:
    """Every ``block`` draws from ``min_draws`` on, and when draws run out.

    Raises:
        ValueError: when it takes more draws than there are.
    """
    for name, value in (("min_draws", min_draws), ("max_draws", max_draws)):
        if value is not None and value > num_draws:
            raise ValueError(f"{name}: expected at most the {num_draws} draws there are, got {value}")
    last = num_draws if max_draws is None else max_draws
    return sorted({*range(max(block, min_draws), last, block), last})


def check_alpha(alpha: float, name: str = "alpha") -> float:
    """Refuse what is no probability between 0 and 1.

    Raises:
        ValueError: when it is none.
    """
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < 1:
        raise ValueError(f"{name}: expected a probability between 0 and 1, both excluded, got {alpha!r}")
    return float(alpha)


def check_valid(stopping: StoppingRule, rule: str) -> None:
    """Refuse a stopping rule that is not made for a rule of decision.

    Raises:
        ValueError: when it is not valid for ``rule``.
    """
    if rule not in stopping.rules:
        kind = type(stopping).__name__
        raise ValueError(f"stopping: {kind} is valid for rules {list(stopping.rules)}, not {rule!r}")


def eliminate(
    look: Look, is_out: Callable[[torch.Tensor], torch.Tensor], standing: torch.Tensor | None = None
) -> torch.Tensor:
    """Classes left [B, K] when ``is_out`` [M] judges every rival by the leader's lead over it [M, n].

    Args:
        look: the draws so far.
        is_out: the judge.
        standing: by what the leader leads [B, K]; None for the totals so far, by which all draws decide.
    """
    remaining = look.racing
    if look.num_made == look.num_draws:
        return remaining & (look.totals >= look.totals.amax(1, keepdim=True))
    standing = look.totals if standing is None else torch.where(remaining, standing, -torch.inf)
    leader = standing.argmax(1, keepdim=True)
    image, rival = remaining.scatter(1, leader, False).nonzero(as_tuple=True)
    leads = look.scores[image, leader[image, 0]] - look.scores[image, rival]
    remaining = remaining.index_put((image, rival), ~is_out(leads))
    return remaining if look.rule == "mean" else _whole_race(remaining, look)


def _whole_race(remaining: torch.Tensor, look: Look) -> torch.Tensor:
    """For votes: nobody leaves before the image is decided; a class that cannot win still takes votes from others."""
    return torch.where(remaining.sum(1, keepdim=True) == 1, remaining, look.racing)


class CurtailedVote:
    """Stop when the leader of the vote can no longer be caught: always the class that all draws would give.

    A class that leads by more votes than there are draws left keeps its lead. The prediction of the vote is therefore
    exactly that of all draws; vote share, uncertainty and probabilities are those of the draws made. For the mean there
    is no such rule, as an error has no upper bound.

    Args:
        block: draws between two looks.

    Raises:
        ValueError: when ``block`` is not a positive integer.

    Example:
        >>> from monai_diffclf.classification import DenoisingErrors
        >>> values = torch.stack([torch.zeros(1, 5), torch.ones(1, 5)], 1)
        >>> errors = DenoisingErrors(values, torch.arange(5), torch.zeros(5))
        >>> [CurtailedVote().remaining(Look.of(errors, made)).tolist() for made in (2, 3)]
        [[[True, True]], [[True, False]]]
    """

    rules = ("vote", "weighted_vote")
    guarantee = "the class that all draws would give, always"

    def __init__(self, block: int = 1) -> None:
        self.block = check_integer(block, "block")

    def __repr__(self) -> str:
        return f"CurtailedVote(block={self.block})"

    def order(self, num_draws: int) -> torch.Tensor:
        """As they are."""
        return torch.arange(num_draws)

    def looks(self, num_draws: int) -> list[int]:
        """Every ``block`` draws."""
        return spaced_looks(num_draws, self.block)

    def remaining(self, look: Look) -> torch.Tensor:
        """A class is out when it trails by more than the weight of the draws left."""
        totals = look.totals
        left = look.weights[look.num_made :].sum()
        return _whole_race(totals.max(1, keepdim=True).values - totals <= left + 1e-9, look)


class SequentialTest:
    """Stop when a test that may be looked at after every draw is sure of the class that all draws would give.

    Of every image the N draws are a fixed set, made in random order. A class is eliminated when the e-process against
    "it ends level with the leader or above" reaches (K - 1) / alpha, so that the class that all draws would give is
    lost with probability at most alpha over the random order, over all looks together, ties included.

    For the vote this needs no assumption (:func:`log_e_betting`). For the mean none can be had without: one draw still
    to come may undo all others, so that no test could be right for all sets of draws and stop early. It is a test under
    the assumption that the differences of two classes in the draws to come scatter at most twice as widely, in standard
    deviations, as in those made (:func:`log_e_unbounded`): alpha bounds the errors before the first look at which this
    fails. Differences may be skewed. On real errors of a few heavy-tailed images it does fail;
    ``benchmarks/fewer_draws/tied_populations.py`` measures how often ties are decided then.

    Args:
        alpha: largest probability of a wrong elimination, in (0, 1).
        block: draws between two looks.
        max_draws: draws after which an image is left undecided; None for all.
        seed: seed of the order.

    Raises:
        ValueError: when an argument is out of range.

    Example:
        >>> from monai_diffclf.classification import DenoisingErrors
        >>> values = torch.stack([torch.zeros(1, 64), torch.ones(1, 64)], 1)
        >>> errors = DenoisingErrors(values, torch.arange(64), torch.zeros(64))
        >>> [SequentialTest(0.01).remaining(Look.of(errors, made)).sum().item() for made in (2, 16)]
        [2, 1]
    """

    rules = RULES

    def __init__(self, alpha: float = 0.01, *, block: int = 4, max_draws: int | None = None, seed: int = 0) -> None:
        self.block = check_integer(block, "block")
        self.max_draws = None if max_draws is None else check_integer(max_draws, "max_draws")
        self.alpha, self.seed = check_alpha(alpha), check_seed(seed)
        self.guarantee = (
            f"the class that all draws would give, with probability at least {1 - alpha:g} over their order; for the "
            "mean if no draws to come scatter more than twice as widely as those made"
        )

    def __repr__(self) -> str:
        return f"SequentialTest(alpha={self.alpha}, block={self.block}, max_draws={self.max_draws}, seed={self.seed})"

    def order(self, num_draws: int) -> torch.Tensor:
        """Random, as the guarantee needs."""
        return random_order(num_draws, self.seed)

    def looks(self, num_draws: int) -> list[int]:
        """Every ``block`` draws."""
        return spaced_looks(num_draws, self.block, max_draws=self.max_draws)

    def remaining(self, look: Look) -> torch.Tensor:
        """A class is out when the evidence against it reaches (K - 1) / alpha."""
        limit = math.log((look.scores.shape[1] - 1) / self.alpha)

        def is_out(leads: torch.Tensor) -> torch.Tensor:
            x = leads * look.weights[: look.num_made]
            if look.rule == "mean":
                return log_e_unbounded(x, look.num_draws) >= limit
            return log_e_betting(x / look.weights.max(), look.num_draws) >= limit

        return eliminate(look, is_out)


class StagedElimination:
    """Keep the best classes after each of some fixed numbers of draws: the stages of Li et al. (2023, section 3.2).

    For comparison: how often it differs from all draws is not controlled. Classes are ranked by their votes or mean
    error so far; in the vote, those kept share the later votes among them, as in the code of Favero et al. (2025).

    Args:
        draws: numbers of draws after which classes are dropped, ascending.
        keep: how many classes are kept after each of them, not ascending; the last is 1.

    Raises:
        ValueError: when the stages do not fit together.

    Example:
        >>> from monai_diffclf.classification import DenoisingErrors
        >>> values = torch.arange(4.0).view(1, 4, 1).expand(1, 4, 20)
        >>> errors = DenoisingErrors(values, torch.arange(20), torch.zeros(20))
        >>> rule = StagedElimination(draws=(5, 10), keep=(2, 1))
        >>> [rule.remaining(Look.of(errors, made, rule="mean")).sum().item() for made in rule.looks(20)]
        [2, 1]
    """

    rules = RULES
    guarantee = "none"

    def __init__(self, draws: Sequence[int] = (25, 250), keep: Sequence[int] = (5, 1)) -> None:
        stages = [*draws, *keep]
        if len(draws) != len(keep) or not draws or any(not isinstance(n, int) or n < 1 for n in stages):
            raise ValueError(
                f"draws, keep: expected positive integers, as many of each, got {list(draws)}, {list(keep)}"
            )
        if list(draws) != sorted(set(draws)) or list(keep) != sorted(keep, reverse=True) or keep[-1] != 1:
            raise ValueError(
                f"draws, keep: expected draws to ascend and keep to descend to 1, got {list(draws)}, {list(keep)}"
            )
        self.stages: Mapping[int, int] = dict(zip(draws, keep, strict=True))

    def __repr__(self) -> str:
        return f"StagedElimination(draws={tuple(self.stages)}, keep={tuple(self.stages.values())})"

    def order(self, num_draws: int) -> torch.Tensor:
        """As they are."""
        return torch.arange(num_draws)

    def looks(self, num_draws: int) -> list[int]:
        """At the end of each stage."""
        if max(self.stages) > num_draws:
            raise ValueError(f"draws: expected at most the {num_draws} draws there are, got {max(self.stages)}")
        return list(self.stages)

    def remaining(self, look: Look) -> torch.Tensor:
        """The best classes so far, as many as this stage keeps."""
        keep = min(self.stages[look.num_made], look.scores.shape[1])
        best = look.totals.topk(keep, dim=1).indices
        return torch.zeros_like(look.racing).scatter_(1, best, True) & look.racing
