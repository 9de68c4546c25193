# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Decide with a stopping rule, draw by draw: from a network as the draws are made, or from stored errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from .denoising_errors import DenoisingErrors
from .draw_weights import Weighting
from .look import Look
from .result import DenoisingClassification
from .rules import classify_errors
from .stopping import StoppingRule, check_valid

__all__ = ["replay", "run_draws"]

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
    order = stopping.order(num_draws).to(device)
    ordered = replace(errors.select(order), values=errors.values.clone())
    # A weight belongs to its draw, wherever that comes in the order.
    weighting = weighting[order.to(weighting.device)] if isinstance(weighting, torch.Tensor) else weighting
    racing = torch.ones(images, classes, dtype=torch.bool, device=device)
    decided = torch.zeros(images, dtype=torch.bool, device=device)
    made = 0
    for look in stopping.looks(num_draws):
        todo = (~decided).nonzero().flatten()
        if len(todo) == 0:
            break
        ordered.values[todo, :, made:look] = make(todo, order[made:look], racing[todo])
        made = look
        racing[todo] = stopping.remaining(Look.of(ordered[todo], made, rule=rule, weighting=weighting))
        decided = racing.sum(1) == 1
    # With all draws made the answer is that of all draws, ties broken as ever.
    decided |= made == num_draws
    values = torch.full_like(ordered.values, torch.nan)
    values[:, :, order] = ordered.values
    return replace(errors, values=values), decided


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
        ValueError: when the stopping rule is not valid for ``rule`` or asks for more draws than there are.

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

    blank = replace(errors, values=torch.full_like(errors.values, torch.nan))
    spent, decided = run_draws(blank, stored, stopping, rule=rule, weighting=weighting)
    result = classify_errors(spent, rule, weighting=weighting, temperature=temperature)
    return replace(result, decided=decided, guarantee=stopping.guarantee)
