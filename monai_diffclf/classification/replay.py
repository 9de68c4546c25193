# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Decide with a stopping rule, draw by draw: from a network as the draws are made, or from stored errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from .denoising_errors import DenoisingErrors, check_errors
from .draw_weights import Weighting, draw_weights
from .look import Look
from .result import DenoisingClassification
from .rules import classify_errors, decision_weights, score_values
from .stopping import ForecastingRule, StoppingRule, check_valid

__all__ = ["classify_draws", "mean_weights", "replay", "run_draws"]

MakeDraws = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def run_draws(
    errors: DenoisingErrors,
    make: MakeDraws,
    stopping: StoppingRule,
    *,
    rule: str = "vote",
    weighting: Weighting = "uniform",
) -> tuple[DenoisingErrors, torch.Tensor]:
    """Make draws until every image is decided or the rule makes no more.

    Args:
        errors: errors [B, K, N] without values (NaN), which say how many images, classes and draws there are.
        make: function (images [b], draws [n], classes [b, K]) -> values [b, K, n] that evaluates the network for some
            images, draws and, an image, the classes still in the race; NaN for the others.
        stopping: the rule.
        rule: the rule of decision.
        weighting: see :func:`monai_diffclf.classification.draw_weights`.

    Returns:
        the errors, NaN where nothing was evaluated, and which images are decided [B], bool.
    """
    check_valid(stopping, rule)
    device, (images, classes, num_draws) = errors.values.device, errors.values.shape
    weights = decision_weights(errors, rule, weighting)
    if isinstance(stopping, ForecastingRule):
        stopping = stopping.for_draws(weights, errors.log_snr, rule)
    order = stopping.order(num_draws).to(device)
    weights, log_snr = weights[order], errors.log_snr[order]
    values, every_class = errors.values.clone(), torch.arange(classes, device=device)[:, None]
    # Of the images that are not decided: which they are, what their draws gave each class, which classes are left.
    todo = torch.arange(images, device=device)
    scores = torch.empty(images, classes, 0, dtype=torch.float64, device=device)
    racing = torch.ones(images, classes, dtype=torch.bool, device=device)
    made = 0
    for look in stopping.looks(num_draws):
        if len(todo) == 0:
            break
        draws = order[made:look]
        new = make(todo, draws, racing)
        values[todo[:, None, None], every_class, draws] = new
        made, scores = look, torch.cat([scores, score_values(new, rule)], 2)
        racing = stopping.remaining(Look(scores, weights, log_snr, rule))
        undecided = racing.sum(1) > 1
        if not bool(undecided.all()):
            todo, scores, racing = todo[undecided], scores[undecided], racing[undecided]
    decided = torch.ones(images, dtype=torch.bool, device=device)
    # With all draws made the answer is that of all draws, ties broken as ever.
    decided[todo] = made == num_draws
    return replace(errors, values=values), decided


def classify_draws(
    errors: DenoisingErrors,
    stopping: StoppingRule | None,
    *,
    rule: str = "vote",
    weighting: Weighting = "uniform",
    temperature: float = 1.0,
) -> DenoisingClassification:
    """Classify from the draws that a stopping rule made, by the mean errors that it decided by if it has its own.

    Args:
        errors: errors [B, K, N], NaN where the rule made none.
        stopping: the rule; None for :func:`monai_diffclf.classification.classify_errors`.
        rule: rule of decision, see :func:`monai_diffclf.classification.classify_errors`.
        weighting: see :func:`monai_diffclf.classification.draw_weights`.
        temperature: see :func:`monai_diffclf.classification.classify_errors`.
    """
    means = (
        stopping.mean_errors(errors, weighting) if isinstance(stopping, ForecastingRule) and rule == "mean" else None
    )
    return classify_errors(errors, rule, weighting=weighting, temperature=temperature, mean_error=means)


def mean_weights(errors: DenoisingErrors, stopping: StoppingRule | None, weighting: Weighting) -> torch.Tensor:
    """How much each draw made counts in the difference of mean errors that decides an image [B, N]."""
    if isinstance(stopping, ForecastingRule):
        return stopping.mean_weights(errors, weighting)
    return draw_weights(errors, weighting).expand(len(errors), -1)


def replay(
    errors: DenoisingErrors,
    stopping: StoppingRule,
    *,
    rule: str = "vote",
    weighting: Weighting = "uniform",
    temperature: float = 1.0,
) -> DenoisingClassification:
    """What a stopping rule would have made of stored errors: the same result as with the network, without it.

    Args:
        errors: stored errors [B, K, N]; NaN only where the rule itself had stopped.
        stopping: the rule.
        rule: rule of decision, see :func:`monai_diffclf.classification.classify_errors`.
        weighting: see :func:`monai_diffclf.classification.draw_weights`.
        temperature: see :func:`monai_diffclf.classification.classify_errors`.

    Raises:
        TypeError: when ``errors`` is no `DenoisingErrors`.
        ValueError: when the stopping rule is not valid for ``rule`` or asks for more draws than there are, or an error
            is infinite.

    Example:
        >>> from monai_diffclf.classification import CurtailedVote
        >>> values = torch.stack([torch.zeros(1, 7), torch.ones(1, 7)], 1)
        >>> result = replay(DenoisingErrors(values, torch.arange(7), torch.zeros(7)), CurtailedVote())
        >>> result.predicted.tolist(), result.network_evaluations.tolist(), result.decided.tolist()
        ([0], [8], [True])
    """

    def stored(images: torch.Tensor, draws: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        values = errors.values[images][:, :, draws.to(errors.values.device)]
        return torch.where(classes[:, :, None], values, torch.nan)

    blank = replace(check_errors(errors), values=torch.full_like(errors.values, torch.nan))
    spent, decided = run_draws(blank, stored, stopping, rule=rule, weighting=weighting)
    result = classify_draws(spent, stopping, rule=rule, weighting=weighting, temperature=temperature)
    return replace(result, decided=decided, guarantee=stopping.guarantee)
