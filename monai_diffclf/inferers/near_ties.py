# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Decisions that reduced precision could turn are made again in full precision."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..classification import DenoisingErrors, StoppingRule, draw_scores
from ..classification.draw_weights import Weighting
from ..classification.replay import classify_draws, mean_weights
from ..classification.rules import vote_weights
from .draw_evaluator import DrawEvaluator

__all__ = ["redo_near_ties"]

PILOT_DRAWS = 8
SAFETY = 5.0


def redo_near_ties(
    errors: DenoisingErrors,
    source: DrawEvaluator,
    *,
    rule: str,
    weighting: Weighting,
    stopping: StoppingRule | None = None,
) -> tuple[DenoisingErrors, torch.Tensor]:
    """Make again in float32 what rounding could have turned.

    The first draws of each image are repeated in float32. What they differ by says how far rounding reaches. A rounding
    d of the network's prediction changes an error e by about 2 sqrt(c e) d, with c of
    :meth:`NoiseProcess.epsilon_factor`; in units of sqrt(c e) all levels are alike, and the difference between a class
    and the best one has a rounding with mean b and root mean square r. For a vote, draws in which the two best classes
    are closer than 5 r are made again if there are enough of them to change the class; for the mean, all draws of an
    image are if another class is closer to the best one, in the sum of all draws, than their b together and 5 r of
    chance. Few draws estimate the rounding, so that a class may still differ where two classes are closer than the
    rounding of the network itself.

    Args:
        errors: errors in reduced precision [B, K, N], NaN where not evaluated.
        source: network and images they came from.
        rule: rule of decision.
        weighting: weights of the draws.
        stopping: the stopping rule that made the draws.

    Returns:
        the errors, with those in float32 where they were made again, and how many evaluations that took [B], int64.
    """
    values = errors.values.clone()
    redone = torch.zeros(len(values), dtype=torch.int64, device=values.device)

    def again(which: torch.Tensor) -> None:
        """Make again the errors of some images and draws, bool [B, N], for the classes they were made for."""
        image, draw = which.nonzero().unbind(1)
        classes = errors.evaluated[image, :, draw]
        exact = source.evaluate(image, draw, classes, full_precision=True)
        values[image, :, draw] = exact
        redone.index_add_(0, image, source.evaluations(classes))

    made = errors.evaluated.any(1)
    pilot = made & (made.cumsum(1) <= PILOT_DRAWS)
    again(pilot)
    current = replace(errors, values=values)
    leader = classify_draws(current, stopping, rule=rule, weighting=weighting).predicted
    factor = source.denoiser.process.epsilon_factor(source.timesteps).to(values.device)
    unit = (current.values.double().nanmean(1) * factor).sqrt().clamp(min=1e-300)[:, None]
    rounding = (_leads((values - errors.values).double(), leader) / unit).masked_fill(~pilot[:, None], torch.nan)
    if rule == "mean":
        weights = mean_weights(errors, stopping, weighting)[:, None]
        doubtful = _mean_in_doubt(current, rounding, leader, weights, unit)[:, None] & made
    else:
        doubtful = _votes_in_doubt(current, rounding, leader, vote_weights(errors, rule, weighting), unit)
    doubtful &= ~pilot
    if bool(doubtful.any()):
        again(doubtful)
    return replace(errors, values=values), redone


def _leads(values: torch.Tensor, leader: torch.Tensor) -> torch.Tensor:
    """Every class minus the leader [B, K, N]."""
    return values - values[torch.arange(len(values), device=values.device), leader][:, None]


def _reach(rounding: torch.Tensor, leader: torch.Tensor) -> torch.Tensor:
    """Root mean square of the rounding of every class against the leader, the largest of them [B]."""
    return rounding.square().nanmean(2).sqrt().nan_to_num().scatter(1, leader[:, None], 0.0).amax(1)


def _mean_in_doubt(
    errors: DenoisingErrors, rounding: torch.Tensor, leader: torch.Tensor, weights: torch.Tensor, unit: torch.Tensor
) -> torch.Tensor:
    """Images whose smallest mean error rounding could turn [B], bool."""
    leads = _leads(errors.values.double(), leader) * weights
    count = torch.isfinite(leads).sum(2)
    size = unit * weights * torch.isfinite(leads)
    bias = rounding.nanmean(2).nan_to_num().abs() * size.nansum(2)
    chance = SAFETY * _reach(rounding, leader)[:, None] * size.square().nansum(2).sqrt()
    # A class given up earlier lost by more than chance, the leader's lead over itself is 0.
    rival = (count == count.max(1, keepdim=True).values).scatter(1, leader[:, None], False)
    return ((leads.nansum(2).abs() <= bias + chance) & rival).any(1)


def _votes_in_doubt(
    errors: DenoisingErrors, rounding: torch.Tensor, leader: torch.Tensor, weights: torch.Tensor, unit: torch.Tensor
) -> torch.Tensor:
    """Draws whose vote rounding could turn [B, N], bool, of images that have enough of them to change the class."""
    best = errors.values.nan_to_num(nan=torch.inf).topk(2, dim=1, largest=False).values
    made = errors.evaluated.any(1)
    near = (best[:, 1] - best[:, 0] <= SAFETY * _reach(rounding, leader)[:, None] * unit[:, 0].nan_to_num()) & made
    votes = draw_scores(errors, "vote").nan_to_num() * weights
    lead = votes.sum(2).topk(2, dim=1).values
    at_stake = 2 * (near * weights).sum(1)
    lead = lead[:, 0] - lead[:, 1]
    # Level votes are decided by the mean error, to which all draws contribute.
    return (near & (lead <= at_stake)[:, None]) | (made & (lead <= 1e-9)[:, None])
