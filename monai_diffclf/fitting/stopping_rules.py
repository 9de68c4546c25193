# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How often each stopping rule gives the class of all draws, and what it spends: replayed on stored errors.

For each rule and for vote and mean: ``agreement`` with the class of all draws, ``evaluations_ratio`` (mean evaluations
spent over those of all draws) and ``accuracy_difference`` (in accuracy over the known labels), with the number of
images that differ and the exact 95 % upper limit of their rate (Clopper and Pearson 1934).

The model of the predictive rule is fitted to other errors where they are given; else to one half of the patients for
the other half and the reverse, so that no image is judged by a model that has seen it. ``predictive_as_made`` is the
same rule as it was before it chose the order of the draws: as they come, with 8 bands, by what was made, at looks from
8 draws on, every 4, with the same limit at all of them. The sequential rule is replayed in several random orders of
the draws. Rules that are not given for the mean (exact curtailment) make all draws.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from ..classification import (
    CurtailedVote,
    DifferenceModel,
    Look,
    PredictiveCurtailment,
    SequentialTest,
    StagedElimination,
    VoteModel,
    classify_errors,
    replay,
)
from ..classification.stopping import eliminate
from ..storage import StoredErrors, load_errors

__all__ = ["NAMES", "replay_all", "replay_file", "stage_rule"]

NAMES = ("curtailed", "predictive", "predictive_as_made", "sequential", "staged")


def upper_limit(count: int, total: int) -> float:
    """Clopper-Pearson 95 % upper limit of a rate (one-sided)."""
    return float(binomtest(count, total).proportion_ci(0.9, method="exact").high)


def patient_halves(stored: StoredErrors, seed: int = 0) -> torch.Tensor:
    """Which images belong to the first half of the patients [n], bool."""
    names = [patient or f"image {i}" for i, patient in enumerate(stored.patients)]
    unique, index = np.unique(names, return_inverse=True)
    first = np.random.default_rng(seed).permutation(len(unique)) < len(unique) // 2
    return torch.from_numpy(first[index])


Model = VoteModel | DifferenceModel


def fitted(stored: StoredErrors, rule: str, num_bands: int | None = None) -> tuple[Model | None, str]:
    """The model fitted to some images, or none where they are too few to fit to."""
    try:
        if rule == "vote":
            return VoteModel.fit(stored.errors), "fitted"
        return DifferenceModel.fit(stored.errors, rule, num_bands=num_bands), "fitted"
    except ValueError:
        return None, "prior"


class AsMade:
    """The predictive rule as it was: draws come as they are, and what was made decides."""

    rules = ("vote", "mean")
    guarantee = "under the model"

    def __init__(self, alpha: float, model: Model | None) -> None:
        self.rule = PredictiveCurtailment(alpha, model, block=4, min_draws=8)

    def order(self, num_draws: int) -> torch.Tensor:
        """As they are."""
        return torch.arange(num_draws)

    def looks(self, num_draws: int) -> list[int]:
        """Every 4 draws from 8 on."""
        return self.rule.looks(num_draws)

    def remaining(self, look: Look) -> torch.Tensor:
        """A class is out when its chance to end above the leader of the draws made is below alpha / (K - 1)."""
        model = self.rule.model or (VoteModel() if look.rule == "vote" else DifferenceModel.prior())
        limit = self.rule.alpha / (look.scores.shape[1] - 1)
        return eliminate(look, lambda leads: model.chance_to_lose(leads, look.weights, look.log_snr) < limit)


def summary(stored: StoredErrors, rule: str, parts: list[tuple[torch.Tensor, list[Any]]]) -> dict[str, float | int]:
    """Agreement, cost and accuracy of stopping rules, each on its images; several of them are averaged over."""
    full = classify_errors(stored.errors, rule).predicted
    known = stored.labels >= 0
    differ = spent = right = total = 0.0
    for images, rules in parts:
        for stopping in rules:
            result = replay(stored.errors[images], stopping, rule=rule)
            differ += float((result.predicted != full[images]).sum())
            spent += float(result.network_evaluations.sum())
            gain = (result.predicted == stored.labels[images]).double() - (
                full[images] == stored.labels[images]
            ).double()
            right += float(gain[known[images]].sum())
            total += len(result)
    cost = stored.errors.num_draws * stored.errors.num_classes
    labelled = float(known.double().mean())
    return {
        "agreement": 1 - differ / total,
        "evaluations_ratio": spent / total / cost,
        "accuracy_difference": right / total / labelled if labelled else float("nan"),
        "images": len(stored.labels),
        "differ": differ / (total / len(stored.labels)),
        "differ_upper_limit": upper_limit(int(differ), int(total)),
    }


def replay_all(stored: StoredErrors, alpha: float, fit: StoredErrors | None, orders: int) -> dict[str, Any]:
    """All rules for vote and mean."""
    everyone = torch.ones(len(stored.labels), dtype=torch.bool)
    half = patient_halves(stored)
    stages = stage_rule(stored.errors.num_draws, stored.errors.num_classes)
    report: dict[str, Any] = {name: {} for name in NAMES}
    for rule in ("vote", "mean"):
        curtailed: list[Any] = [CurtailedVote()] if rule == "vote" else [AllDraws()]
        report["curtailed"][rule] = summary(stored, rule, [(everyone, curtailed)])
        for name, kind, num_bands in (("predictive", PredictiveCurtailment, None), ("predictive_as_made", AsMade, 8)):
            if fit is None:
                models = [(images, *fitted(subset(stored, ~images), rule, num_bands)) for images in (half, ~half)]
                source = "other half of the patients"
            else:
                models, source = [(everyone, *fitted(fit, rule, num_bands))], "--fit"
            parts: list[tuple[torch.Tensor, list[Any]]] = [
                (images, [kind(alpha, model)]) for images, model, _ in models
            ]
            source = source if {found for _, _, found in models} == {"fitted"} else "prior"
            report[name][rule] = {**summary(stored, rule, parts), "model": source}
        tests: list[Any] = [SequentialTest(alpha, seed=seed) for seed in range(orders)]
        report["sequential"][rule] = {**summary(stored, rule, [(everyone, tests)]), "orders": orders}
        report["staged"][rule] = {**summary(stored, rule, [(everyone, [stages])]), "stages": repr(stages)}
    return report


def subset(stored: StoredErrors, images: torch.Tensor) -> StoredErrors:
    """Some images of a file."""
    chosen = images.nonzero().flatten().tolist()
    return StoredErrors(
        stored.errors[images],
        stored.labels[images],
        [stored.keys[i] for i in chosen],
        [stored.patients[i] for i in chosen],
    )


def stage_rule(num_draws: int, num_classes: int) -> StagedElimination:
    """Stages in the proportions of Li et al. for Pets, 25 and 250 draws: a tenth of the draws, then half of them."""
    first, last = max(1, num_draws // 20), max(2, num_draws // 2)
    if num_classes == 2 or num_draws < 4:
        return StagedElimination((max(1, num_draws // 20),), (1,))
    return StagedElimination((first, last), (min(5, num_classes - 1), 1))


class AllDraws:
    """No early stop: what is left where no exact rule exists."""

    rules = ("mean",)
    guarantee = "all draws"

    def order(self, num_draws: int) -> torch.Tensor:
        """As they are."""
        return torch.arange(num_draws)

    def looks(self, num_draws: int) -> list[int]:
        """At the end."""
        return [num_draws]

    def remaining(self, look: Any) -> torch.Tensor:
        """All."""
        racing: torch.Tensor = look.racing
        return racing


def replay_file(
    errors: str | os.PathLike[str],
    *,
    alpha: float = 0.01,
    fit: str | os.PathLike[str] | None = None,
    orders: int = 20,
) -> dict[str, Any]:
    """`replay_all` of a file of errors.

    Args:
        errors: errors of all draws, as :func:`monai_diffclf.storage.save_errors` writes them.
        alpha: how rarely a rule may miss the class of all draws.
        fit: validation errors of the same network to fit the model of the predictive rule to.
        orders: random orders of the draws for the sequential rule.

    Raises:
        ValueError: when draws were not evaluated, or the errors to fit to are of another network.
    """
    if orders < 1:
        raise ValueError(f"--orders: expected a positive number, got {orders}")
    stored = load_errors(errors)
    if not bool(stored.errors.evaluated.all()):
        raise ValueError(f"--errors: expected all draws of all classes in {errors}, some were not evaluated")
    network = {"network": stored.provenance["network"]} if "network" in stored.provenance else None
    return replay_all(stored, alpha, None if fit is None else load_errors(fit, provenance=network), orders)
