# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ensembles: the calibrated probabilities of several classifiers as those of one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize

from .._checks import check_floating, check_labels, check_number, check_probabilities
from .calibration import fit_calibration

__all__ = ["POOLS", "Ensemble", "ensemble_probabilities", "fit_ensemble"]

POOLS = ("log_linear", "mean")
_TINY = 1e-12


def ensemble_probabilities(
    members: Sequence[torch.Tensor], weights: Sequence[float] | None = None, pool: str = "log_linear"
) -> torch.Tensor:
    """Probabilities of several classifiers as those of one [n, K], of the dtype of the first.

    * ``"log_linear"``: p_k ~ prod_m p_mk^w_m, the geometric pool. Members that know different things add up; weights
      need not sum to 1.
    * ``"mean"``: p_k = sum_m w_m p_mk, the linear pool, with weights made to sum to 1.

    Args:
        members: probabilities of each classifier for the same images [n, K]; calibrate them first, or see
            `fit_ensemble`.
        weights: of each classifier, not negative; None for equal ones that sum to 1.
        pool: ``"log_linear"`` or ``"mean"``.

    Raises:
        TypeError: when a member is no floating point tensor.
        ValueError: when the shapes differ, there is no member, one gives no probabilities, a weight is negative or all
            are 0, or ``pool`` is unknown.

    Example:
        >>> one, other = torch.tensor([[0.8, 0.2]]).double(), torch.tensor([[0.5, 0.5]]).double()
        >>> [ensemble_probabilities([one, other], pool=pool).round(decimals=3).tolist() for pool in POOLS]
        [[[0.667, 0.333]], [[0.65, 0.35]]]
    """
    _check_members(members)
    used = [1 / len(members)] * len(members) if weights is None else weights
    _check(used, len(members), pool)
    return _pooled(members, used, pool)


def _pooled(members: Sequence[torch.Tensor], weights: Sequence[float], pool: str) -> torch.Tensor:
    stacked = torch.stack([member.double() for member in members])
    share = torch.tensor(weights, dtype=torch.float64, device=stacked.device)[:, None, None]
    if pool == "mean":
        return ((stacked * share).sum(0) / share.sum()).to(members[0].dtype)
    return (stacked.clamp(min=_TINY).log() * share).sum(0).softmax(1).to(members[0].dtype)


@dataclass(frozen=True)
class Ensemble:
    """Several classifiers as one, as :func:`fit_ensemble` makes it.

    Args:
        pool: ``"log_linear"`` or ``"mean"``, see `ensemble_probabilities`.
        weights: of each member.
        temperatures: by which each member's probabilities are calibrated before, p^(1 / T) made to sum to 1; empty
            for none.

    Raises:
        ValueError: when the numbers do not fit.

    Example:
        >>> ensemble = Ensemble("mean", (0.5, 0.5), (1.0, 1.0))
        >>> both = torch.tensor([[0.8, 0.2]]).double(), torch.tensor([[0.5, 0.5]]).double()
        >>> ensemble(both).round(decimals=2).tolist()
        [[0.65, 0.35]]
    """

    pool: str
    weights: tuple[float, ...]
    temperatures: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check(self.weights, None, self.pool)
        object.__setattr__(self, "weights", tuple(map(float, self.weights)))
        object.__setattr__(self, "temperatures", tuple(map(float, self.temperatures)))
        if self.temperatures and len(self.temperatures) != len(self.weights):
            raise ValueError(f"temperatures: expected one a member, {len(self.weights)}, got {len(self.temperatures)}")
        if not all(math.isfinite(t) and t > 0 for t in self.temperatures):
            raise ValueError(f"temperatures: expected positive numbers, got {list(self.temperatures)}")

    def __call__(self, members: Sequence[torch.Tensor]) -> torch.Tensor:
        """Probabilities [n, K] from those of the members, in the order of the fit."""
        _check_members(members)
        if len(members) != len(self.weights):
            raise ValueError(f"members: expected {len(self.weights)}, as were fitted, got {len(members)}")
        temperatures = self.temperatures or (1.0,) * len(members)
        calibrated = [_tempered(each, t) for each, t in zip(members, temperatures, strict=True)]
        return _pooled(calibrated, self.weights, self.pool)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a JSON file."""
        return {"pool": self.pool, "weights": list(self.weights), "temperatures": list(self.temperatures)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Ensemble:
        """From what `to_dict` gave; other keys are ignored."""
        if missing := {"pool", "weights"} - values.keys():
            raise ValueError(f"values: expected pool and weights, {sorted(missing)} missing")
        return cls(str(values["pool"]), tuple(values["weights"]), tuple(values.get("temperatures", ())))


def fit_ensemble(members: Sequence[torch.Tensor], labels: torch.Tensor, *, pool: str = "log_linear") -> Ensemble:
    """Fit an ensemble to validation images, by the smallest cross-entropy.

    The weights of the log-linear pool are free, but for their sign, and calibrate it as well: they are the coefficients
    of a logistic regression without intercept. In the linear pool each member gets a temperature before, and the
    weights sum to 1. A few numbers are fitted, which hundreds of images can carry; judge the gain on others.

    Args:
        members: probabilities of each classifier for the same validation images [n, K], that none was trained on.
        labels: class of each image [n].
        pool: ``"log_linear"`` or ``"mean"``.

    Raises:
        TypeError: when a member is no floating point tensor.
        ValueError: when the shapes do not fit, members are no probabilities or labels no class numbers, a class has no
            image, or there are too few images to calibrate on.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> labels = torch.randint(0, 2, (400,), generator=generator)
        >>> knows = (2 * labels[:, None] - 1) + 2 * torch.randn(400, 1, generator=generator)
        >>> guesses = torch.randn(400, 1, generator=generator)
        >>> two = [torch.cat([-each, each], 1).softmax(1) for each in (knows, guesses)]
        >>> weights = fit_ensemble(two, labels).weights
        >>> weights[0] > 5 * weights[1]
        True
    """
    ensemble_probabilities(members, pool=pool)  # refuses what does not fit
    count = members[0].shape[1]
    y = torch.from_numpy(check_labels(labels, count, len(members[0])))
    if set(y.tolist()) != set(range(count)):
        raise ValueError(
            f"labels: expected images of each class from 0 to {count - 1}, got {len(y)} of {sorted(set(y.tolist()))}"
        )
    temperatures: list[float] = []
    if pool == "mean":
        fits = [fit_calibration(member.cpu(), y, method="temperature") for member in members]
        temperatures = [float(fit.parameters["temperature"]) for fit in fits]
    calibrated = [
        _tempered(member.cpu().double(), t)
        for member, t in zip(members, temperatures or [1.0] * len(members), strict=True)
    ]

    def loss(free: np.ndarray[Any, Any]) -> float:
        weights = _softmax(free) if pool == "mean" else np.exp(free)
        p = _pooled(calibrated, weights.tolist(), pool)
        return float(-p.clamp(min=_TINY).log()[torch.arange(len(y)), y].mean())

    start = np.full(len(members), -math.log(len(members)))
    # e^-12 is a member that is not heard.
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(-12.0, 5.0)] * len(members)).x
    weights = _softmax(found) if pool == "mean" else np.exp(found)
    return Ensemble(pool, tuple(weights.tolist()), tuple(temperatures))


def _tempered(probabilities: torch.Tensor, temperature: float) -> torch.Tensor:
    logs = probabilities.double().clamp(min=_TINY).log() / temperature
    return logs.softmax(1).to(probabilities.dtype)


def _softmax(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    odds = np.exp(values - values.max())
    return np.asarray(odds / odds.sum())


def _check_members(members: Sequence[torch.Tensor]) -> None:
    if not isinstance(members, Sequence | torch.Tensor) or isinstance(members, str):
        raise TypeError(
            f"members: expected a list of Tensors [n, K], one for each classifier, got {type(members).__name__}"
        )
    for number, member in enumerate(members):
        check_floating(member, f"members[{number}]", "[n, K]", "probabilities")
    shapes = [tuple(member.shape) for member in members]
    if not shapes or len(shapes[0]) != 2 or len(set(shapes)) > 1:
        raise ValueError(f"members: expected probabilities [n, K] of the same images, got {[list(s) for s in shapes]}")
    for number, member in enumerate(members):
        check_probabilities(member, name=f"members[{number}]")


def _check(weights: Sequence[float], count: int | None, pool: str) -> None:
    if pool not in POOLS:
        raise ValueError(f"pool: expected one of {list(POOLS)}, got {pool!r}")
    if not isinstance(weights, Sequence) or isinstance(weights, str):
        raise ValueError(f"weights: expected a list of numbers, one a member, got {weights!r}")
    if len(weights) != (len(weights) if count is None else count) or not weights:
        raise ValueError(f"weights: expected one a member{'' if count is None else f', {count}'}, got {len(weights)}")
    for weight in weights:
        check_number(weight, "weights", "numbers of at least 0", lambda share: 0 <= share < math.inf)
    if not sum(weights) > 0:
        raise ValueError(f"weights: expected numbers of at least 0, not all 0, got {list(weights)}")
