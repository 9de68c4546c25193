# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Calibration: probabilities that are right as often as they say, fitted on validation images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from .._checks import check_labels
from ..classification.likelihood import Prior
from .probabilities import (
    adjust_prior,
    check_prior,
    like,
    log_odds_parts,
    probability_array,
)

__all__ = ["Calibration", "fit_calibration"]

MIN_IMAGES = 20
_PARAMETERS = {"temperature": ("temperature",), "beta": ("a", "b", "c"), "isotonic": ("x", "y")}


@dataclass(frozen=True)
class Calibration:
    """A fitted map from the inferer's class probabilities to calibrated ones. Made by :func:`fit_calibration`.

    With q the inferer's probabilities, s_k is normalised over the classes, where

    * ``"temperature"``: s_k = q_k^(1 / T) (Guo et al. 2017);
    * ``"beta"``: logit s_k = c_k + a_k log q_k - b_k log(1 - q_k) with a_k, b_k >= 0 (Kull et al. 2017);
    * ``"isotonic"``: s_k = f_k(logit q_k), f_k the non-decreasing step function of isotonic regression (Zadrozny and
      Elkan 2002), linear between its steps.

    Args:
        method: ``"temperature"``, ``"beta"`` or ``"isotonic"``.
        parameters: what was fitted: ``temperature``; ``a``, ``b``, ``c`` [K]; ``x``, ``y``, a list for each class.
        prior: share of each class that the probabilities hold for [K].
        num_images: number of images of the fit.
        provenance: what made the probabilities of the fit.

    Raises:
        ValueError: when the method is unknown or the parameters are not those of the method.

    Example:
        >>> calibration = Calibration("temperature", {"temperature": 2.0}, prior=(0.5, 0.5), num_images=100)
        >>> calibration(torch.tensor([[0.1, 0.9]])).tolist()
        [[0.25, 0.75]]
        >>> calibration(torch.tensor([[0.1, 0.9]]), prior=[0.75, 0.25]).tolist()
        [[0.5, 0.5]]
    """

    method: str
    parameters: Mapping[str, Any]
    prior: tuple[float, ...]
    num_images: int
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_method(self.method)
        check_prior(self.prior, len(self.prior))
        names = _PARAMETERS[self.method]
        if set(self.parameters) != set(names):
            raise ValueError(
                f"parameters: expected {list(names)} for {self.method}, got {sorted(map(str, self.parameters))}"
            )
        if self.method != "temperature" and any(len(self.parameters[name]) != self.num_classes for name in names):
            raise ValueError(f"parameters: expected {self.num_classes} of each, one for every class, as in prior")

    @property
    def changes_nothing(self) -> bool:
        """Whether it gives back the probabilities as they are: a temperature of 1."""
        return self.parameters == {"temperature": 1.0}

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.prior)

    def __call__(self, probabilities: torch.Tensor, prior: Prior | None = None) -> torch.Tensor:
        """Calibrated probabilities [B, K], rows sum to 1; type and device as given.

        Args:
            probabilities: class probabilities [B, K] as the inferer gives them (output ``pred``).
            prior: share of each class where they are used [K], see :func:`adjust_prior`; None for those of the fit.

        Raises:
            ValueError: when the probabilities are none, of other classes, or the prior is none.
        """
        own, rest = log_odds_parts(probability_array(probabilities, self.num_classes))
        calibrated = softmax(self._scores(own, rest), axis=1)
        if prior is not None:
            calibrated = adjust_prior(torch.from_numpy(calibrated), self.prior, prior).numpy()
        return like(calibrated, probabilities)

    def _scores(self, own: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """log s_k [B, K] from log q and log (1 - q)."""
        p = self.parameters
        if self.method == "temperature":
            return np.asarray(own / p["temperature"])
        if self.method == "beta":
            return np.asarray(log_expit(np.asarray(p["c"]) + np.asarray(p["a"]) * own - np.asarray(p["b"]) * rest))
        odds = own - rest
        steps = zip(odds.T, p["x"], p["y"], strict=True)
        return np.asarray(np.log(np.stack([np.interp(column, x, y) for column, x, y in steps], axis=1)))

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a JSON file."""
        return {
            "method": self.method,
            "parameters": dict(self.parameters),
            "prior": list(self.prior),
            "num_images": self.num_images,
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """From what `to_dict` gave; other keys are ignored.

        Raises:
            ValueError: when a value is missing or wrong.
        """
        if missing := [name for name in ("method", "parameters", "prior", "num_images") if name not in values]:
            raise ValueError(f"values: expected {', '.join(missing)}, it is missing")
        return cls(
            str(values["method"]),
            dict(values["parameters"]),
            tuple(map(float, values["prior"])),
            int(values["num_images"]),
            dict(values.get("provenance", {})),
        )


def fit_calibration(
    probabilities: torch.Tensor,
    labels: torch.Tensor,
    *,
    method: str = "temperature",
    prior: Prior | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Calibration:
    """Fit a calibration on images that were in neither training nor test set.

    By maximum likelihood, isotonic regression by least squares, on Platt's (1999) targets: among n_j images of class j
    it is not certain that the next one of the kind is j too, but (n_j + 1) / (n_j + K). So the fit stays finite where
    classes are separated perfectly, and no probability becomes exactly 0 or 1.

    Temperature has one parameter, beta 3 for each class, isotonic regression as many as the images support: prefer it
    above some 1000 images only. Beta and isotonic regression also learn the class shares of the fit. Temperature does
    not: its probabilities hold for equal shares, as those of the inferer do, so give the real shares when it is used.

    Args:
        probabilities: class probabilities [n, K] as the inferer gives them (output ``pred``), by either rule.
        labels: class of each image [n].
        method: ``"temperature"``, ``"beta"`` or ``"isotonic"``, see :class:`Calibration`.
        prior: class shares to fit for [K], by weighting the images; None for the shares of the labels. The fit's own
            `Calibration.prior`, but for temperature.
        provenance: what made the probabilities, see :func:`monai_diffclf.inferers.provenance`.

    Raises:
        ValueError: when there are fewer than 20 images, only one class, a class without images, or most probabilities
            are exactly 0 and 1.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> odds = 2 * torch.randn(20000, generator=generator)
        >>> labels = (torch.rand(20000, generator=generator) < torch.sigmoid(odds)).long()
        >>> overconfident = torch.stack([torch.sigmoid(-3 * odds), torch.sigmoid(3 * odds)], 1)
        >>> calibration = fit_calibration(overconfident, labels)
        >>> round(calibration.parameters["temperature"], 1)
        3.0
        >>> calibration(torch.tensor([[0.001, 0.999]]))
        tensor([[0.0885, 0.9115]])
    """
    _check_method(method)
    values = probability_array(probabilities)
    count, classes = values.shape
    truth = check_labels(labels, classes, count)
    shares = _check_enough(values, truth)
    wanted = shares if prior is None else check_prior(prior, classes)
    sizes = shares * count
    targets = (1 + np.eye(classes)[truth] * sizes) / (sizes[truth] + classes)[:, None]
    own, rest = log_odds_parts(values)
    parameters = _FITS[method](own, rest, targets, (wanted / shares)[truth])
    # One temperature cannot favour a class: p(k | x) stays proportional to p(x | k), the posterior for equal shares.
    held = np.full(classes, 1 / classes) if method == "temperature" else wanted
    return Calibration(method, parameters, tuple(held.tolist()), count, dict(provenance or {}))


def _fit_temperature(own: np.ndarray, rest: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    def loss(log_temperature: float) -> float:
        scores = log_softmax(own * math.exp(-log_temperature), axis=1)
        return -float((weights[:, None] * targets * scores).sum())

    # Convex in 1 / T, so there is one minimum; e^-7 to e^7 is 0.001 to 1100.
    found = minimize_scalar(loss, bounds=(-7.0, 7.0), method="bounded", options={"xatol": 1e-8})
    return {"temperature": math.exp(found.x)}


def _fit_beta(own: np.ndarray, rest: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    fits = [
        _fit_logistic(np.stack([x, -y], axis=1), t, weights) for x, y, t in zip(own.T, rest.T, targets.T, strict=True)
    ]
    return {name: [float(fit[i]) for fit in fits] for i, name in enumerate("abc")}


def _fit_logistic(features: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Slopes, none negative, and bias of a logistic regression with targets between 0 and 1."""
    slopes, used = np.zeros(features.shape[1]), list(range(features.shape[1]))
    answers = np.repeat([1, 0], len(target))
    parts = np.concatenate([weights * target, weights * (1 - target)])
    while used:
        model = LogisticRegression(C=1e10, tol=1e-8, max_iter=10_000)
        model.fit(np.tile(features[:, used], (2, 1)), answers, sample_weight=parts)
        if (model.coef_[0] >= 0).all():
            slopes[used] = model.coef_[0]
            return np.append(slopes, model.intercept_)
        # A falling map would turn the classifier round: as in the paper, fit again without that part.
        used.pop(int(model.coef_[0].argmin()))
    mean = np.average(target, weights=weights)
    return np.append(slopes, math.log(mean / (1 - mean)))


def _fit_isotonic(own: np.ndarray, rest: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    odds = own - rest
    steps = [IsotonicRegression().fit(x, t, sample_weight=weights) for x, t in zip(odds.T, targets.T, strict=True)]
    return {
        "x": [step.X_thresholds_.tolist() for step in steps],
        "y": [step.y_thresholds_.tolist() for step in steps],
    }


_FITS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], dict[str, Any]]] = {
    "temperature": _fit_temperature,
    "beta": _fit_beta,
    "isotonic": _fit_isotonic,
}


def _check_method(method: str) -> None:
    if method not in _PARAMETERS:
        raise ValueError(f"method: expected one of {list(_PARAMETERS)}, got {method!r}")


def _check_enough(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of each class [K]; refuses images that cannot say how often the probabilities are right."""
    count, classes = probabilities.shape
    if count < MIN_IMAGES:
        raise ValueError(f"labels: expected at least {MIN_IMAGES} images to calibrate on, got {count}; add images")
    sizes = np.bincount(labels, minlength=classes)
    absent = np.flatnonzero(sizes == 0).tolist()
    if (sizes > 0).sum() == 1:
        raise ValueError(
            f"labels: expected images of all {classes} classes, got class {labels[0]} only; add the others"
        )
    if absent:
        raise ValueError(f"labels: expected images of all {classes} classes, got none of {absent}; add some")
    saturated = float((np.sort(probabilities, axis=1)[:, -2] == 0).mean())
    if saturated > 0.5:
        raise ValueError(
            f"probabilities: expected values between 0 and 1, got exactly 0 and 1 in {100 * saturated:.0f} % of the "
            "images, which leaves nothing to calibrate; raise the inferer's temperature and fit again"
        )
    return np.asarray(sizes / count)
