# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which method of calibration does best on validation images that it was not fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold

from .._patients import patient_codes
from ..storage import StoredErrors
from ..uncertainty import fit_calibration

__all__ = ["METHODS", "MIN_IMAGES", "NONE", "best_method", "calibration_losses", "cross_fitted_loss"]

METHODS = ("temperature", "beta", "isotonic")
NONE = "none"  # probabilities as they are: a temperature of 1
MIN_IMAGES = 20  # of a calibration, and of each fit in cross-fitting
_FOLDS, _REPEATS = 5, 5


def calibration_losses(pred: torch.Tensor, stored: StoredErrors) -> tuple[dict[str, float], str]:
    """Loss of each method, cross-fitted, and of the probabilities as they are; what is missing where they are few."""
    labels, groups = stored.labels, patient_codes(stored.patients, len(stored.keys))
    losses, remark = {}, ""
    classes = range(pred.shape[1])
    of_class = [len(np.unique(groups[labels.numpy() == k])) for k in classes]
    folds = min(_FOLDS, *of_class)
    try:
        if folds < 2:
            raise ValueError(f"a class has {min(of_class)} validation patient(s) or image(s) alone")
        for method in METHODS:
            losses[method] = cross_fitted_loss(pred, labels, groups, method, folds=folds)
    except ValueError as error:
        losses.clear()
        remark = (
            f"the method of calibration was not chosen but is a temperature: too few validation images to judge "
            f"methods by ({error})"
        )
    losses[NONE] = float(log_loss(labels.numpy(), pred.numpy(), labels=classes))
    return losses, remark


def best_method(losses: Mapping[str, float]) -> str:
    """The method with the smallest loss, the first of equals; a temperature where none was judged."""
    judged = [name for name in (*METHODS, NONE) if name in losses and METHODS[0] in losses]
    return min(judged, key=lambda name: losses[name]) if judged else METHODS[0]


def cross_fitted_loss(
    probabilities: torch.Tensor,
    labels: torch.Tensor,
    groups: NDArray[Any],
    method: str,
    repeats: int = _REPEATS,
    folds: int = _FOLDS,
) -> float:
    """Mean negative log-likelihood, in nats, of images calibrated by fits without their patients.

    Args:
        probabilities: class probabilities [n, K].
        labels: class of each image [n].
        groups: patient of each image [n].
        method: of the calibration.
        repeats: random partitions that are averaged over.
        folds: parts of a partition.

    Raises:
        ValueError: when a fit without a part lacks a class, or is of too few images.
    """
    losses = []
    for seed in range(repeats):
        calibrated = torch.empty_like(probabilities)
        for fit, held in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(groups, labels, groups):
            _check_fold(labels, fit, probabilities.shape[1], folds)
            calibration = fit_calibration(probabilities[fit], labels[fit], method=method)
            calibrated[held] = calibration(probabilities[held])
        losses.append(log_loss(labels.numpy(), calibrated.numpy(), labels=range(probabilities.shape[1])))
    return float(np.mean(losses))


def _check_fold(labels: torch.Tensor, fit: NDArray[Any], classes: int, folds: int) -> None:
    """Refuse a fit without a part that gets too few images, or none of a class, by the numbers of all images."""
    what = f"{len(labels)} images, of which a fit without one of {folds} parts gets"
    if len(fit) < MIN_IMAGES:
        raise ValueError(f"{what} {len(fit)}, where it needs {MIN_IMAGES}")
    if absent := sorted(set(range(classes)) - set(labels[fit].tolist())):
        raise ValueError(f"{what} none of class {absent[0]}")
