# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Learn from validation errors how to spend draws: level sampling, level weights, model for early stopping."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from ..bundle import Bundle
from ..classification import (
    DenoisingErrors,
    DifferenceModel,
    LevelSampling,
    VoteModel,
    classify_errors,
    fit_level_sampling,
    fit_level_weights,
)
from ..engines import compute_dataset_errors
from ..inferers import DiffusionClassifierInferer, provenance
from ..networks import network_hash
from ..storage import LearnedDecision, StoredErrors, load_errors, save_decision
from .fit_uncertainty import check_network

__all__ = ["DecisionFit", "fit_decision", "measure_mirrored"]

RULES = ("mean", "vote", "weighted_vote")
MIN_DRAWS = 100
"""Fewer draws an image say too little of what later draws will bring."""
_FOLDS = 5


@dataclass(frozen=True)
class DecisionFit:
    """What was learned.

    Args:
        learned: rule to model, level sampling and weights.
        notes: what goes to the file beside it: images, draws, and the AUC of equal and of learned weights in nested
            cross-validation.
    """

    learned: Mapping[str, LearnedDecision]
    notes: Mapping[str, Any]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it, as ``fast.json`` reads it."""
        save_decision(path, dict(self.learned), dict(self.notes))


def fit_decision(
    bundle: Bundle,
    stored: StoredErrors,
    mirrored: DenoisingErrors,
    *,
    source: str | os.PathLike[str],
    num_parts: int = 8,
) -> DecisionFit:
    """Learn how to spend draws from validation errors of all draws, for the rules mean, vote and weighted vote.

    The gain of the weights is that of nested cross-validation: folds that choose them are never judged.

    Args:
        bundle: opened with ``train.json`` and ``evaluate.json``, with the weights that made the errors.
        stored: errors of validation images, whose patients are in neither training nor test set.
        mirrored: errors of the same images with mirrored noise, see `measure_mirrored`.
        source: where the errors are from, for messages.
        num_parts: parts of the schedule.

    Raises:
        ValueError: when there are too few draws, images or patients, or the errors are of another network.
    """
    network = network_hash(bundle.get("evaluate#network"))
    check_network(stored, network, source)
    check_enough(stored, source)
    learned = {rule: _learn(stored, rule, mirrored, network, num_parts) for rule in RULES}
    nested = {rule: nested_gain(stored, rule) for rule in RULES}
    return DecisionFit(
        learned, {"images": len(stored.keys), "num_draws": stored.errors.num_draws, "nested_auc": nested}
    )


def check_enough(stored: StoredErrors, source: str | os.PathLike[str]) -> None:
    """Refuse errors of too few draws or images, before anything is computed.

    Raises:
        ValueError: saying what is missing.
    """
    if stored.errors.num_draws < MIN_DRAWS:
        raise ValueError(
            f"decision: expected errors of at least {MIN_DRAWS} draws an image in {source}, got "
            f"{stored.errors.num_draws}; evaluate with more draws, such as 501"
        )
    groups, labels = _groups(stored), stored.labels.numpy()
    of_class = [len(np.unique(groups[labels == k])) for k in range(stored.errors.num_classes)]
    if min(of_class) < _FOLDS:
        raise ValueError(
            f"decision: expected at least {_FOLDS} validation patients, or images, of each class in {source}, got "
            f"{min(of_class)} of class {int(np.argmin(of_class))}; put more images into the validation split"
        )


def nested_gain(stored: StoredErrors, rule: str, repeats: int = 5) -> dict[str, float]:
    """AUC of equal and of learned weights, the latter learned without the fold that they are judged on."""
    labels, groups = stored.labels.numpy(), _groups(stored)
    scored = "vote" if rule == "weighted_vote" else rule
    equal, learned = [], []
    for seed in range(repeats):
        for fit, held in StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed).split(labels, labels, groups):
            inner, outer = torch.from_numpy(fit), torch.from_numpy(held)
            names = [str(group) for group in groups[fit]]
            weights = fit_level_weights(stored.errors[inner], stored.labels[inner], scored, patients=names)
            equal.append(_auc(stored.errors[outer], stored.labels[outer], rule, "uniform"))
            learned.append(_auc(stored.errors[outer], stored.labels[outer], rule, weights))
    return {"equal": float(np.mean(equal)), "learned": float(np.mean(learned)), "folds": len(equal)}


def measure_mirrored(
    bundle: Bundle,
    path: str | os.PathLike[str],
    *,
    num_parts: int = 8,
    num_draws: int = 64,
    progress: bool = True,
) -> DenoisingErrors:
    """Errors of the bundle's validation images with mirrored noise at all levels.

    They are kept in a file and made again only for another network or other draws.

    Args:
        bundle: as for `fit_decision`, with its data set at hand.
        path: the file.
        num_parts: parts of the schedule.
        num_draws: draws an image.
        progress: whether to show a progress bar.
    """
    network = bundle.get("evaluate#network")
    inferer = DiffusionClassifierInferer(
        bundle.scheduler,
        bundle.get("num_classes"),
        num_draws=num_draws,
        conditioning=bundle.get("conditioning"),
        noise_levels=LevelSampling([1.0] * num_parts, [True] * num_parts),
    )
    if Path(path).is_file() and load_errors(path).provenance == provenance(inferer, network):
        return load_errors(path).errors
    description = "mirrored noise" if progress else None
    stored = compute_dataset_errors(bundle.get("validate#dataset"), network, inferer=inferer, description=description)
    stored.save(path)
    return stored.errors


def _groups(stored: StoredErrors) -> np.ndarray[Any, Any]:
    if all(stored.patients):
        return np.asarray(np.unique(np.asarray(stored.patients), return_inverse=True)[1])
    return np.arange(len(stored.labels))


def _auc(errors: DenoisingErrors, labels: torch.Tensor, rule: str, weighting: Any) -> float:
    """Area under the ROC curve, by the mean over classes of one against the rest."""
    result = classify_errors(errors, rule, weighting=weighting)
    score = -result.mean_error if rule == "mean" else result.vote_share
    if score.shape[1] == 2:
        return float(roc_auc_score(labels, score[:, 1] - score[:, 0]))
    return float(np.mean([roc_auc_score(labels == k, score[:, k]) for k in range(score.shape[1])]))


def _learn(stored: StoredErrors, rule: str, mirrored: DenoisingErrors, network: str, num_parts: int) -> LearnedDecision:
    """Model, sampling and weights for one rule."""
    scored = "vote" if rule == "weighted_vote" else rule
    # Without patients every image is one of its own.
    names = stored.patients if all(stored.patients) else [str(group) for group in _groups(stored)]
    weights = fit_level_weights(stored.errors, stored.labels, scored, patients=names)
    weighting = weights if rule == "weighted_vote" else "uniform"
    return LearnedDecision(
        VoteModel.fit(stored.errors) if rule == "vote" else DifferenceModel.fit(stored.errors, scored),
        fit_level_sampling(stored.errors, scored, weighting=weighting, mirrored=mirrored, num_parts=num_parts),
        weights,
        network,
    )
