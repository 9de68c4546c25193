# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where to make one draw, or a few: the levels at which they tell the classes apart best, chosen on stored errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedGroupKFold

from .._checks import check_folds, check_integer, check_labels
from .._patients import patient_codes
from .denoising_errors import DenoisingErrors, check_errors
from .draw_weights import Weighting, draw_weights

__all__ = ["FewDraws", "few_draws_auc", "fit_few_draws", "macro_auc"]

Array = NDArray[Any]


@dataclass(frozen=True)
class FewDraws:
    """A classifier of one draw, or a few, at chosen levels, by their mean error.

    Used as ``DiffusionClassifierInferer(..., num_draws=len(few), rule="mean", noise_levels=few.log_snr,
    temperature=few.temperature)``. All its draws count alike, or as the ``weighting`` says that it was fitted with.

    Args:
        log_snr: log-SNR of each draw, the one that tells most first.
        temperature: that of its probabilities.

    Raises:
        ValueError: when there is no level, or a number is none that could be.
    """

    log_snr: tuple[float, ...]
    temperature: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_snr", tuple(map(float, self.log_snr)))
        if not self.log_snr or not all(map(math.isfinite, self.log_snr)):
            raise ValueError(f"log_snr: expected finite numbers, one a draw, got {list(self.log_snr)}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature: expected a positive number, got {self.temperature!r}")

    def __len__(self) -> int:
        return len(self.log_snr)

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, for a JSON file."""
        return {"log_snr": list(self.log_snr), "temperature": self.temperature}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FewDraws:
        """From what `to_dict` gave; other keys are ignored."""
        if missing := {"log_snr", "temperature"} - values.keys():
            raise ValueError(f"values: expected log_snr and temperature, {sorted(missing)} missing")
        return cls(tuple(values["log_snr"]), float(values["temperature"]))


def fit_few_draws(
    errors: DenoisingErrors, labels: torch.Tensor, num_draws: int = 1, *, weighting: Weighting = "uniform"
) -> FewDraws:
    """Choose the levels of a classifier of few draws on stored errors of many.

    One after the other, each draw goes to the level at which it raises the macro AUC of the mean error most, by the
    mean over a twentieth of the draws around that level (three at least), as one draw alone decides by chance. No draw
    of the errors is chosen twice; the next may go to a level beside it. The temperature is that of the smallest
    cross-entropy.

    Args:
        errors: errors of validation images [n, K, N], all draws made, none at levels drawn with a density of their own.
        labels: class of each image [n], each class there.
        num_draws: how many draws, at most N / 4.
        weighting: weights of the draws, see :func:`monai_diffclf.classification.draw_weights`; no tensor.

    Raises:
        TypeError: when ``errors`` is no `DenoisingErrors`.
        ValueError: when errors are missing or infinite, labels do not fit, or there are too few draws to choose from.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> labels, log_snr = torch.arange(200) % 2, torch.linspace(8, -8, 40)
        >>> values = 1 + torch.rand(200, 2, 40, generator=generator)
        >>> values[torch.arange(200), labels] -= torch.exp(-((log_snr - 5.3) ** 2) / 8)  # told apart around 5.3
        >>> 4 < fit_few_draws(DenoisingErrors(values, torch.arange(40), log_snr), labels).log_snr[0] < 7
        True
    """
    scores, y, log_snr = _checked(errors, labels, weighting)
    if check_integer(num_draws, "num_draws") > len(log_snr) // 4:
        raise ValueError(
            f"num_draws: expected 1 to {len(log_snr) // 4}, a fourth of the draws of the errors, got {num_draws!r}"
        )
    order = np.argsort(log_snr, kind="stable")
    width = _neighbours(len(log_snr)) // 2
    total, used = np.zeros(scores.shape[:2]), np.zeros(len(order), dtype=bool)
    chosen: list[int] = []
    for _ in range(num_draws):
        area = macro_auc(total[:, :, None] + scores, y)[order]
        free = ~used[order]
        smooth = [
            area[low:high][free[low:high]].mean() if free[i] else -1.0
            for i in range(len(order))
            for low, high in [(max(0, i - width), i + width + 1)]
        ]
        best = int(order[int(np.argmax(smooth))])
        chosen.append(best)
        used[best] = True
        total = total + scores[:, :, best]
    temperature = _temperature(0.5 * errors.num_elements * total / num_draws, y)
    return FewDraws(tuple(round(float(log_snr[n]), 3) for n in chosen), temperature)


def few_draws_auc(
    errors: DenoisingErrors,
    labels: torch.Tensor,
    num_draws: int = 1,
    *,
    weighting: Weighting = "uniform",
    patients: Sequence[str | None] | None = None,
    repeats: int = 5,
    num_folds: int = 5,
) -> dict[str, float]:
    """Macro AUC of few draws beside that of all, in nested cross-validation: no image chooses what judges it.

    In each fold the levels are chosen without it. On it, every one of the draws around a chosen level has its turn, so
    that the AUC is that of one draw of chance, not of the luckiest.

    Args:
        errors: as for `fit_few_draws`.
        labels: class of each image [n].
        num_draws: how many draws.
        weighting: weights of the draws.
        patients: patient of each image [n], kept together in a fold. One that is not known (None, NaN or empty)
            is alone.
        repeats: cross-validations, each with other folds.
        num_folds: folds of each.

    Returns:
        ``few`` and ``all``, means over the folds, and ``folds``, how many there were.

    Raises:
        TypeError: as `fit_few_draws`.
        ValueError: as `fit_few_draws`; when patients do not fit, or are too few for the folds.
    """
    scores, y, log_snr = _checked(errors, labels, weighting)
    groups = patient_codes(patients, len(y))
    check_integer(repeats, "repeats")
    check_folds(num_folds, min(len(np.unique(groups)), int(np.bincount(y).max())))
    few, everything = [], []
    for seed in range(repeats):
        for fit, held in StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed).split(y, y, groups):
            if len(np.unique(y[held])) < errors.num_classes or len(np.unique(y[fit])) < errors.num_classes:
                continue
            inner = torch.from_numpy(fit)
            made = fit_few_draws(errors[inner], torch.from_numpy(y[fit]), num_draws, weighting=weighting)
            sums = np.stack([scores[held][:, :, own].mean(2) for own in stand_ins(made.log_snr, log_snr)], 2)
            few.append(macro_auc(sums, y[held]).mean())
            everything.append(macro_auc(scores[held].mean(2, keepdims=True), y[held])[0])
    if not few:
        raise ValueError("labels: expected images of each class in each fold, got too few; add validation images")
    return {"few": float(np.mean(few)), "all": float(np.mean(everything)), "folds": len(few)}


def macro_auc(scores: Array, labels: Array) -> Array:
    """Area under the ROC curve of each class against the others, mean over the classes: [n, K, N] -> [N].

    Several classes are ranked by the log odds of their softmax, with scores in units of their own scatter.

    Args:
        scores: the larger, the more likely the class [n, K, N].
        labels: class of each image [n], each class there.

    Example:
        >>> macro_auc(np.array([[[0.1], [0.3]], [[0.2], [0.1]]]), np.array([1, 0])).tolist()
        [1.0]
    """
    centred = scores - scores.mean(1, keepdims=True)
    classes = scores.shape[1]
    if classes == 2:
        return _auc(centred[:, 1], labels == 1)
    centred = centred / np.maximum(np.sqrt((centred**2).mean((0, 1), keepdims=True)), 1e-300)
    others = [[j for j in range(classes) if j != k] for k in range(classes)]
    odds = [centred[:, k] - logsumexp(centred[:, others[k]], axis=1) for k in range(classes)]
    return np.asarray(np.mean([_auc(own, labels == k) for k, own in enumerate(odds)], axis=0))


def _auc(values: Array, positive: Array) -> Array:
    """Of each column [n, N] -> [N]; ties count half."""
    ranks, count = rankdata(values, axis=0), int(positive.sum())
    above = ranks[positive].sum(0) - count * (count + 1) / 2
    return np.asarray(above / (count * (len(values) - count)))


def _neighbours(num_draws: int) -> int:
    """How many draws stand for a level, an odd number."""
    return max(3, num_draws // 20) | 1


def stand_ins(wanted: Sequence[float], log_snr: Array) -> Iterator[list[int]]:
    """Draws nearest to some levels, then the next nearest, and so on; none twice at a time."""
    for number in range(_neighbours(len(log_snr))):
        own: list[int] = []
        for value in wanted:
            nearest = np.argsort(np.abs(log_snr - value), kind="stable")
            free = [int(n) for n in nearest[number:] if int(n) not in own]
            own.append(free[0])
        yield own


def _temperature(scores: Array, labels: Array) -> float:
    """The temperature under which softmax(scores / temperature) has the smallest cross-entropy."""
    unit = max(float((scores - scores.mean(1, keepdims=True)).std()), 1e-300)

    def loss(log_temperature: float) -> float:
        logits = log_softmax(scores / unit * math.exp(-log_temperature), axis=1)
        return -float(logits[np.arange(len(labels)), labels].mean())

    return unit * math.exp(minimize_scalar(loss, bounds=(-7.0, 7.0), method="bounded").x)


def _checked(errors: DenoisingErrors, labels: torch.Tensor, weighting: Weighting) -> tuple[Array, Array, Array]:
    """Weighted scores [n, K, N], labels and log-SNR, float64."""
    check_errors(errors, complete=True)
    y = check_labels(labels, errors.num_classes, len(errors))
    if set(y.tolist()) != set(range(errors.num_classes)):
        raise ValueError(
            f"labels: expected one a class, each of 0 to {errors.num_classes - 1} there, got {sorted(set(y.tolist()))}"
        )
    if errors.importance is not None:
        raise ValueError("errors: expected all draws at stratified or uniform levels, got others")
    if isinstance(weighting, torch.Tensor):
        raise ValueError("weighting: expected a name or LevelWeights, which other levels have too, got a tensor")
    weights = draw_weights(errors, weighting).cpu().numpy()
    return -errors.values.double().cpu().numpy() * weights, y, errors.log_snr.double().cpu().numpy()
