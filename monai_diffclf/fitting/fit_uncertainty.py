# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Learn from validation errors how sure a classifier may be: calibration, prediction sets, typicality."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .._patients import patient_codes
from ..bundle import Bundle
from ..classification import classify_errors
from ..networks import network_hash
from ..storage import FittedUncertainty, StoredErrors, save_uncertainty
from ..storage.mean_image_file import MEAN_IMAGE, find_mean_image
from ..uncertainty import (
    Calibration,
    Typicality,
    fit_calibration,
    fit_conformal,
    fit_mean_image,
)
from ..uncertainty.typicality import fit_typicality
from .choose_calibration import MIN_IMAGES, NONE, best_method, calibration_losses
from .same_images import check_network

__all__ = ["UncertaintyFit", "fit_uncertainty", "mean_image_note"]

RULES = ("mean", "vote")


@dataclass(frozen=True)
class UncertaintyFit:
    """What was fitted.

    Args:
        fitted: rule to calibration, prediction sets and typicality.
        losses: rule to method to mean negative log-likelihood in nats: cross-fitted where the images suffice, and of
            the probabilities as they are (``none``).
        notes: what goes to the file beside it.
        remarks: what could not be fitted, and why.
    """

    fitted: Mapping[str, FittedUncertainty]
    losses: Mapping[str, Mapping[str, float]]
    notes: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def methods(self) -> dict[str, str]:
        """Method of calibration of each rule; ``"none"`` where probabilities stay as they are."""
        return {
            rule: NONE if each.calibration.changes_nothing else each.calibration.method
            for rule, each in self.fitted.items()
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it, as inference reads it; see :func:`monai_diffclf.storage.save_uncertainty`."""
        save_uncertainty(path, self.fitted, notes=self.notes)


def fit_uncertainty(
    bundle: Bundle,
    stored: StoredErrors,
    *,
    source: str | os.PathLike[str],
    confidence: float = 0.9,
    method: str | None = None,
    mean_image: Mapping[str, Any] | None = None,
    described: Mapping[str, torch.Tensor] | None = None,
    training: Mapping[str, torch.Tensor] | None = None,
    classes: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> UncertaintyFit:
    """Fit calibration, prediction sets and typicality to the errors of validation images, for the rules mean and vote.

    The method of calibration is the one with the smallest cross-fitted negative log-likelihood: every patient is judged
    by fits without them. Where each of them makes the loss larger, the probabilities stay as they are. Where the images
    are too few for that it is a temperature, which has one parameter; prediction sets keep their promise in every class
    where each has images enough, else on average over the classes.

    Args:
        bundle: opened with ``train.json`` and ``evaluate.json``, with the weights that made the errors.
        stored: errors of the validation images, with all draws.
        source: where they are from, for messages.
        confidence: probability with which a prediction set is to hold the true class.
        method: ``"temperature"``, ``"beta"`` or ``"isotonic"``; None chooses.
        mean_image: mean of the validation images, see `mean_image_note`.
        classes: names of the errors' classes; None for the bundle's.
        described: what typicality is to describe the images by beside their errors, see `describe_images`.
        training: the same of training images, see `describe_training`; with ``described`` alone.
        settings: rule, weighting and temperature of the bundle, where they are others than its configuration says;
            kept with the fit, so that `open_bundle` takes them with it.

    Raises:
        ValueError: when the errors are of another network, or the images too few even for a temperature.
    """
    decision = bundle.decision
    network = network_hash(bundle.get("evaluate#network"))
    check_network(stored, network, source)
    if len(stored.keys) < MIN_IMAGES:
        raise ValueError(
            f"{source}: expected the errors of at least {MIN_IMAGES} validation images to fit to, got "
            f"{len(stored.keys)}; put more images into the validation split"
        )
    names = bundle.classes if classes is None else list(classes)
    made_by = _made_by(bundle, stored, network, decision, names)
    typicality, remarks = _typicality(stored, described, training)
    fitted, losses = {}, {}
    for rule in RULES:
        pred = classify_errors(stored.errors, rule, **decision).probabilities
        losses[rule], remark = calibration_losses(pred, stored)
        calibration, of_method = _calibration(
            pred, stored.labels, method or best_method(losses[rule]), rule, method is None
        )
        remark = of_method or remark
        sets, of_sets = _prediction_sets(pred, stored.labels, confidence, names)
        fitted[rule] = FittedUncertainty(rule, calibration, sets, typicality, made_by)
        remarks += [each for each in (remark, of_sets) if each and each not in remarks]
    notes = {"images": len(stored.keys), "cross_fitted_loss": losses, **(mean_image or {})}
    notes |= {"settings": dict(settings)} if settings else {}
    return UncertaintyFit(fitted, losses, notes, tuple(remarks))


def mean_image_note(bundle: Bundle, path: str | os.PathLike[str], *, with_images: bool) -> dict[str, Any]:
    """The mean of the validation images, as a note; without the images the one that a file has for the network."""
    made_by = {"network": network_hash(bundle.get("evaluate#network"))}
    if with_images:
        images = torch.stack([torch.as_tensor(item["image"]) for item in bundle.get("validate#dataset")])
        return {MEAN_IMAGE: fit_mean_image(images, provenance=made_by).to_dict()}
    known = find_mean_image(path, provenance=made_by)
    return {} if known is None else {MEAN_IMAGE: known.to_dict()}


def _made_by(
    bundle: Bundle, stored: StoredErrors, network: str, settings: Mapping[str, Any], classes: list[str]
) -> dict[str, Any]:
    # From plain values only: a file cannot hold weights, and a reader could not compare them.
    return {
        **stored.provenance,
        "network": network,
        "num_draws": stored.errors.num_draws,
        "classes": classes,
        "image_size": list(bundle.image_size),
        "weighting": str(settings["weighting"]),
        "temperature": settings["temperature"],
    }


def _typicality(
    stored: StoredErrors,
    described: Mapping[str, torch.Tensor] | None,
    training: Mapping[str, torch.Tensor] | None,
) -> tuple[Typicality, list[str]]:
    """Typicality; of images that are taken for patients, and what that means, where the patients are too few."""
    patients: Any = stored.patients
    count, remarks = len(np.unique(patient_codes(patients, len(stored.keys)))), list[str]()
    if count < MIN_IMAGES:
        # An image is then compared with others of its patient too, and looks more usual than one of a new patient.
        patients = None
        remarks.append(
            f"more images than should will be marked as unusual: that needs {MIN_IMAGES} validation patients to judge "
            f"by, got {count}"
        )
    more = training if described else None
    return fit_typicality(stored.errors, images=described or None, training=more, groups=patients), remarks


def _calibration(
    pred: torch.Tensor, labels: torch.Tensor, method: str, rule: str, may_leave: bool
) -> tuple[Calibration, str]:
    """The calibration by a method; none, and why, where that is the best, or nothing is left to calibrate."""
    reason = "every calibration did worse on images held back"
    try:
        if method != NONE:
            return fit_calibration(pred, labels, method=method), ""
    except ValueError as error:
        if not may_leave or "nothing to calibrate" not in str(error):
            raise
        reason = "the draws agree on nearly all validation images, which leaves nothing to calibrate"
    classes = pred.shape[1]
    left = Calibration("temperature", {"temperature": 1.0}, (1 / classes,) * classes, len(labels))
    return left, f"{rule}: probabilities stay as they are, as {reason}"


def _prediction_sets(
    pred: torch.Tensor, labels: torch.Tensor, confidence: float, classes: list[str]
) -> tuple[Any, str]:
    """Prediction sets that keep their promise in every class, or on average where a class has too few images."""
    try:
        return fit_conformal(pred, labels, confidence=confidence), ""
    except ValueError as error:
        if not 0 < confidence < 1:
            raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence}") from error
        counts = torch.bincount(labels, minlength=len(classes))
        least = int(counts.argmin())
        sets = fit_conformal(pred, labels, confidence=confidence, per_class=False)
        return sets, (
            f"prediction sets keep their {100 * confidence:g} % on average over the classes only: {classes[least]} has "
            f"{int(counts[least])} validation image(s)"
        )
