# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Learn from validation errors how sure a classifier may be: calibration, prediction sets, typicality."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold

from ..bundle import Bundle
from ..classification import classify_errors
from ..engines import compute_dataset_errors
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
from ..uncertainty.groups import group_codes
from ..uncertainty.typicality import fit_typicality

__all__ = [
    "METHODS",
    "OtherImagesError",
    "OtherNoiseError",
    "UncertaintyFit",
    "check_images",
    "check_network",
    "cross_fitted_loss",
    "fit_uncertainty",
    "mean_image_note",
]

RULES = ("mean", "vote")
METHODS = ("temperature", "beta", "isotonic")
NONE = "none"  # probabilities as they are: a temperature of 1
_FOLDS, _REPEATS = 5, 5
_MIN_IMAGES = 20  # of a calibration, and of each fit in cross-fitting


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
    if len(stored.keys) < _MIN_IMAGES:
        raise ValueError(
            f"{source}: expected the errors of at least {_MIN_IMAGES} validation images to fit to, got "
            f"{len(stored.keys)}; put more images into the validation split"
        )
    names = bundle.classes if classes is None else list(classes)
    made_by = _made_by(bundle, stored, network, decision, names)
    typicality, remarks = _typicality(stored, described, training)
    fitted, losses = {}, {}
    for rule in RULES:
        pred = classify_errors(stored.errors, rule, **decision).probabilities
        losses[rule], remark = _losses(pred, stored)
        calibration, of_method = _calibration(pred, stored.labels, method or _best(losses[rule]), rule, method is None)
        remark = of_method or remark
        sets, of_sets = _prediction_sets(pred, stored.labels, confidence, names)
        fitted[rule] = FittedUncertainty(rule, calibration, sets, typicality, made_by)
        remarks += [each for each in (remark, of_sets) if each and each not in remarks]
    notes = {"images": len(stored.keys), "cross_fitted_loss": losses, **(mean_image or {})}
    notes |= {"settings": dict(settings)} if settings else {}
    return UncertaintyFit(fitted, losses, notes, tuple(remarks))


class OtherImagesError(ValueError):
    """The validation images are at hand, and the errors are of none of them, such as those of test images."""


class OtherNoiseError(ValueError):
    """The errors were made with other noise than this version draws, so that images cannot be recognised by them."""


def check_network(stored: StoredErrors, network: str, path: str | os.PathLike[str]) -> None:
    """Refuse errors of another network than the bundle's.

    Raises:
        ValueError: when they are.

    Warns:
        UserWarning: when they do not say whose they are.
    """
    found = stored.provenance.get("network")
    if found is None:
        warnings.warn(f"{path} does not say which network made its errors; taken to be the bundle's", stacklevel=2)
    elif found != network:
        raise ValueError(
            f"{path}: expected errors of the bundle's network {network}, got those of {found}; evaluate the bundle anew"
        )


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
    if len(fit) < _MIN_IMAGES:
        raise ValueError(f"{what} {len(fit)}, where it needs {_MIN_IMAGES}")
    if absent := sorted(set(range(classes)) - set(labels[fit].tolist())):
        raise ValueError(f"{what} none of class {absent[0]}")


def check_images(bundle: Bundle, stored: StoredErrors, path: str | os.PathLike[str], *, count: int = 8) -> None:
    """Refuse validation images that are not those of the stored errors, by making some of them again.

    Args:
        bundle: opened with ``train.json`` and ``evaluate.json``, with the weights that made the errors.
        stored: errors of the validation images.
        path: where they are from, for messages.
        count: images that are looked at, spread over all.

    Raises:
        OtherImagesError: when none of them is among these.
        OtherNoiseError: when the errors are of other noise.
        ValueError: when they are others.
    """
    dataset = bundle.get("validate#dataset")
    chosen = sorted(set(np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()))
    inferer, network = bundle.get("evaluate#inferer"), bundle.get("evaluate#network")
    some = torch.utils.data.Subset(dataset, chosen)
    made = compute_dataset_errors(some, network, inferer=inferer, description=None)
    _check_same(made, stored, path, bundle, complete=len(dataset) == len(stored.keys))


def _check_same(
    made: StoredErrors, stored: StoredErrors, path: str | os.PathLike[str], bundle: Bundle, *, complete: bool
) -> None:
    """Refuse errors of some images, made again, that are not among those stored."""
    # A key names the pixels or the file: images that share it share their errors.
    place = {key: index for index, key in enumerate(made.keys)}
    known = [i for i, key in enumerate(stored.keys) if key in place]
    if not known:
        raise OtherImagesError(
            f"{path}: expected errors of the validation images in {bundle.get('dataset_dir')}, got those of other "
            "images, none of which is among them; evaluate again, or name the data set that was evaluated (--data)"
        )
    again = made.errors.values[[place[stored.keys[i]] for i in known]]
    was = stored.errors[torch.tensor(known, dtype=torch.long)]
    noise = [each.provenance.get("generator") for each in (stored, made)]
    if noise[0] != noise[1]:
        raise OtherNoiseError(
            f"{path}: expected errors made with the noise of this version ({noise[1]}), got those of "
            f"{noise[0] or 'an earlier one'}, by which validation images cannot be recognised; evaluate again"
        )
    # Other draws have other errors, of the same images too.
    same = again.shape == was.values.shape and not bool(was.differing(again).any())
    if not (complete and same and set(place) <= set(stored.keys)):
        raise ValueError(
            f"--data: expected the validation images that the errors in {path} are of, got others in "
            f"{bundle.get('dataset_dir')}; name the data set that was evaluated, or evaluate again"
        )


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
    count, remarks = len(np.unique(group_codes(patients, len(stored.keys)))), list[str]()
    if count < _MIN_IMAGES:
        # An image is then compared with others of its patient too, and looks more usual than one of a new patient.
        patients = None
        remarks.append(
            f"more images than should will be marked as unusual: that needs {_MIN_IMAGES} validation patients to judge "
            f"by, got {count}"
        )
    more = training if described else None
    return fit_typicality(stored.errors, images=described or None, training=more, groups=patients), remarks


def _losses(pred: torch.Tensor, stored: StoredErrors) -> tuple[dict[str, float], str]:
    """Loss of each method, cross-fitted, and of the probabilities as they are; what is missing where they are few."""
    labels, groups = stored.labels, group_codes(stored.patients, len(stored.keys))
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


def _best(losses: Mapping[str, float]) -> str:
    """The method with the smallest loss, the first of equals; a temperature where none was judged."""
    judged = [name for name in (*METHODS, NONE) if name in losses and METHODS[0] in losses]
    return min(judged, key=lambda name: losses[name]) if judged else METHODS[0]


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
