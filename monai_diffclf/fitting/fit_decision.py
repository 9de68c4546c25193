# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Learn from validation errors how to spend draws: level sampling and weights, early stopping, one draw or a few."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from .._patients import patient_codes
from ..bundle import Bundle
from ..classification import (
    DenoisingErrors,
    FewDraws,
    LevelSampling,
    StoppingFit,
    classify_errors,
    few_draws_auc,
    fit_few_draws,
    fit_level_sampling,
    fit_level_weights,
    fit_stopping,
)
from ..classification.draw_weights import Weighting
from ..classification.fit_stopping import fit_model
from ..data.data_description import contents_hash, items_hash
from ..engines import compute_dataset_errors
from ..inferers import DiffusionClassifierInferer, provenance
from ..networks import network_hash
from ..storage import LearnedDecision, StoredErrors, load_errors, save_decision
from .same_images import check_network

__all__ = ["DecisionFit", "fit_decision", "measure_mirrored"]

RULES = ("mean", "vote", "weighted_vote")
FEW = (1, 2, 4)
"""Numbers of draws for which levels are chosen."""
MIN_DRAWS = 50
"""Fewer draws an image say too little of what later draws will bring."""
_FOLDS = 5


@dataclass(frozen=True)
class DecisionFit:
    """What was learned.

    Args:
        learned: rule to model, level sampling and weights.
        notes: what goes to the file beside it: images, draws, the AUC of equal and of learned weights and that of few
            draws beside all (``few_draws_auc``), both in nested cross-validation, and what the stopping rule did on
            images whose patients its model had not seen (``stopping``).
        remarks: what could not be learned, and why.
    """

    learned: Mapping[str, LearnedDecision]
    notes: Mapping[str, Any]
    remarks: tuple[str, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it, as ``fast.json`` reads it."""
        save_decision(path, dict(self.learned), dict(self.notes))


def fit_decision(
    bundle: Bundle,
    stored: StoredErrors,
    mirrored: DenoisingErrors | None,
    *,
    source: str | os.PathLike[str],
    num_parts: int = 8,
    risk: float = 0.01,
) -> DecisionFit:
    """Learn how to spend draws from validation errors of all draws, for the rules mean, vote and weighted vote.

    For the mean with the bundle's weighting also where to make one draw or a few
    (:func:`monai_diffclf.classification.fit_few_draws`) and how boldly to stop
    (:func:`monai_diffclf.classification.fit_stopping`). What is gained or lost is that of nested cross-validation:
    folds that choose are never judged.

    Args:
        bundle: opened with ``train.json`` and ``evaluate.json``, with the weights that made the errors.
        stored: errors of validation images, whose patients are in neither training nor test set.
        mirrored: errors of the same images with mirrored noise, see `measure_mirrored`; None mirrors nowhere.
        source: where the errors are from, for messages.
        num_parts: parts of the schedule.
        risk: share of images that may get another class by the stopping rule than by all draws.

    Raises:
        ValueError: when there are too few draws, images or patients, or the errors are of another network.
    """
    network = network_hash(bundle.get("evaluate#network"))
    check_network(stored, network, source)
    check_enough(stored, source)
    learned = {rule: _learn(stored, rule, mirrored, network, num_parts) for rule in RULES}
    weighting = bundle.decision["weighting"]
    early, remarks = _early(stored, weighting, risk)
    few, few_auc = _few(stored, weighting)
    learned["mean"] = replace(learned["mean"], fitted=None if early is None else early.stopping, few_draws=few)
    notes: dict[str, Any] = {"images": len(stored.keys), "num_draws": stored.errors.num_draws}
    notes["nested_auc"] = {rule: nested_gain(stored, rule) for rule in RULES}
    notes["few_draws_auc"] = few_auc
    if early is not None:
        notes["stopping"] = {name: value for name, value in vars(early).items() if name != "stopping"}
    return DecisionFit(learned, notes, remarks)


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
    groups, labels = patient_codes(stored.patients, len(stored.keys)), stored.labels.numpy()
    of_class = [len(np.unique(groups[labels == k])) for k in range(stored.errors.num_classes)]
    if min(of_class) < _FOLDS:
        raise ValueError(
            f"decision: expected at least {_FOLDS} validation patients, or images, of each class in {source}, got "
            f"{min(of_class)} of class {int(np.argmin(of_class))}; put more images into the validation split"
        )


def nested_gain(stored: StoredErrors, rule: str, repeats: int = 5) -> dict[str, float]:
    """AUC of equal and of learned weights, the latter learned without the fold that they are judged on."""
    labels, groups = stored.labels.numpy(), patient_codes(stored.patients, len(stored.keys))
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

    They are kept in a file, and made again for another network, other draws, images (by their content) or labels.

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
        latent_space=bundle.get("evaluate#inferer").latent_space,
    )
    dataset = bundle.get("validate#dataset")
    images = f"{items_hash(dataset.data)} {contents_hash(dataset.data)}"
    wanted = {**provenance(inferer, network), "images": images}
    if Path(path).is_file() and (found := load_errors(path)).provenance == wanted:
        return found.errors
    description = "mirrored noise" if progress else None
    stored = compute_dataset_errors(dataset, network, inferer=inferer, description=description)
    replace(stored, provenance=wanted).save(path)
    return stored.errors


def _early(stored: StoredErrors, weighting: Weighting, risk: float) -> tuple[StoppingFit | None, tuple[str, ...]]:
    """How boldly to stop by the mean; none, and why, where the images are too few for the risk."""
    try:
        return fit_stopping(stored.errors, risk=risk, weighting=weighting, patients=stored.patients), ()
    except ValueError as error:
        return None, (f"early stopping goes by its model alone: {error}",)


def _few(stored: StoredErrors, weighting: Weighting) -> tuple[dict[int, FewDraws], dict[str, dict[str, float]]]:
    """Levels of few draws, and their AUC beside that of all draws where nothing was chosen."""
    errors, labels, patients = stored.errors, stored.labels, stored.patients
    few = {count: fit_few_draws(errors, labels, count, weighting=weighting) for count in FEW}
    area = {str(count): few_draws_auc(errors, labels, count, weighting=weighting, patients=patients) for count in FEW}
    return few, area


def _auc(errors: DenoisingErrors, labels: torch.Tensor, rule: str, weighting: Any) -> float:
    """Area under the ROC curve, by the mean over classes of one against the rest.

    An error counts beside those of the other classes on the same image, as some images are harder under every class.
    """
    result = classify_errors(errors, rule, weighting=weighting)
    score = result.mean_error.mean(1, keepdim=True) - result.mean_error if rule == "mean" else result.vote_share
    return float(np.mean([roc_auc_score(labels == k, score[:, k]) for k in range(score.shape[1])]))


def _learn(
    stored: StoredErrors, rule: str, mirrored: DenoisingErrors | None, network: str, num_parts: int
) -> LearnedDecision:
    """Model, sampling and weights for one rule."""
    scored = "vote" if rule == "weighted_vote" else rule
    weights = fit_level_weights(stored.errors, stored.labels, scored, patients=stored.patients)
    weighting = weights if rule == "weighted_vote" else "uniform"
    return LearnedDecision(
        fit_model(stored.errors, scored),
        fit_level_sampling(stored.errors, scored, weighting=weighting, mirrored=mirrored, num_parts=num_parts),
        weights,
        network,
    )
