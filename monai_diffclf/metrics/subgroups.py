# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Metrics of subgroups of the patients: by sex, age band, view, site or any other column of the metadata."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._patients import patient_codes
from .bootstrap import FloatArray, bootstrap_interval
from .calibration import brier_score, expected_calibration_error, labelled_probabilities, negative_log_likelihood
from .selective import accuracy_at_coverage, aurc
from .statistics import average_precision, class_recall, roc_auc, sensitivity_at_specificity

__all__ = ["SUBGROUP_METRICS", "age_bands", "subgroup_metrics"]

Metric = Callable[..., Any]
UNKNOWN = "unknown"


def subgroup_metrics(
    labels: ArrayLike,
    probabilities: ArrayLike,
    columns: Mapping[str, ArrayLike],
    *,
    metrics: Mapping[str, Metric] | None = None,
    min_images: int = 20,
    groups: ArrayLike | None = None,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Every metric in every subgroup, with percentile bootstrap intervals over images or patients.

    Images are drawn within each class. A difference between two subgroups is beyond chance if their intervals are
    clearly apart; with many subgroups some will be by chance.

    Args:
        labels: class of each image, 0 to K - 1 [N].
        probabilities: of each class [N, K], or for two classes of class 1 [N].
        columns: name of a column to its value for each image [N]; an empty value or NaN is a subgroup ``"unknown"``.
        metrics: name to a function ``f(labels, probabilities, *, weights)``, see :func:`bootstrap_interval`; by default
            `SUBGROUP_METRICS`.
        min_images: subgroups with fewer images are listed without metrics.
        groups: patient of each image [N]; then patients are drawn instead of images, and an image of an unknown one
            (None, NaN or empty) by itself.
        num_resamples: number of bootstrap resamples.
        confidence: in (0, 1).
        seed: seed of the resampling.

    Returns:
        one row for all images (column ``"all"``) and one for each subgroup: ``column``, ``subgroup``, ``num_images``,
        ``num_patients`` (None without ``groups``; an image of an unknown patient is one), ``class_counts`` [K] and
        ``metrics``: for each name ``value``, ``low``, ``high``, or None where the subgroup is too small or lacks a
        class that the metric needs.

    Raises:
        ValueError: when lengths differ, there is no column or one is called "all".

    Example:
        >>> sex = ["f", "m"] * 20
        >>> rows = subgroup_metrics([0, 0, 1, 1] * 10, [0.1, 0.2, 0.9, 0.3] * 10, {"sex": sex})
        >>> [(row["subgroup"], row["num_images"], row["metrics"]["accuracy"]["value"]) for row in rows]
        [('all', 40, 0.75), ('f', 20, 1.0), ('m', 20, 0.5)]
    """
    truth, p = labelled_probabilities(labels, probabilities)
    if not columns or "all" in columns:
        raise ValueError(f"columns: expected at least one, none called 'all', got {list(columns)}.")
    values = {name: _names(column, len(truth), f"columns[{name!r}]") for name, column in columns.items()}
    patients = None if groups is None else patient_codes(groups, len(truth), "groups")
    chosen = SUBGROUP_METRICS if metrics is None else metrics
    options = {"num_resamples": num_resamples, "confidence": confidence, "seed": seed}
    found = [("all", "all", np.ones(len(truth), dtype=bool))]
    for name, column in values.items():
        found += [(name, value, column == value) for value in _ordered(column)]
    rows: list[dict[str, Any]] = []
    for name, value, members in found:
        counts = np.bincount(truth[members], minlength=p.shape[1])
        own = None if patients is None else patients[members]
        enough = members.sum() >= min_images
        rows.append(
            {
                "column": name,
                "subgroup": value,
                "num_images": int(members.sum()),
                "num_patients": None if own is None else len(np.unique(own)),
                "class_counts": counts.tolist(),
                "metrics": {
                    metric: _interval(function, truth[members], p[members], own, options) if enough else None
                    for metric, function in chosen.items()
                },
            }
        )
    return rows


def age_bands(ages: ArrayLike, edges: Sequence[int] = (18, 40, 60, 80)) -> NDArray[np.str_]:
    """Ages in years as bands, ``"<18"``, ``"18-39"``, ... ``">=80"``; ``"unknown"`` for NaN or None.

    Args:
        ages: age of each patient [N].
        edges: first age of each band but the lowest, ascending.

    Raises:
        ValueError: when an age is negative or above 130, or the edges do not ascend.

    Example:
        >>> age_bands([3, 18, 59, 80, None]).tolist()
        ['<18', '18-39', '40-59', '>=80', 'unknown']
    """
    limits = list(edges)
    if not limits or any(a >= b for a, b in pairwise(limits)):
        raise ValueError(f"edges: expected ascending ages, got {limits}.")
    years = np.asarray(ages, dtype=np.float64)
    known = ~np.isnan(years)
    if ((years[known] < 0) | (years[known] > 130)).any():
        bad = years[known][(years[known] < 0) | (years[known] > 130)]
        raise ValueError(f"ages: expected years from 0 to 130, NaN where unknown, got {bad[:8].tolist()}.")
    names = [f"<{limits[0]}", *(f"{a}-{b - 1}" for a, b in pairwise(limits)), f">={limits[-1]}"]
    band = np.searchsorted(limits, np.where(known, years, 0), side="right")
    return np.where(known, np.asarray(names)[band], UNKNOWN)


def _interval(
    function: Metric, truth: NDArray[np.int64], p: FloatArray, groups: NDArray[Any] | None, options: dict[str, Any]
) -> dict[str, float] | None:
    if function in _NEED_ALL_CLASSES and len(np.unique(truth)) < p.shape[1]:
        return None
    interval = bootstrap_interval(function, truth, p, strata=truth, groups=groups, **options)
    return interval._asdict() if all(map(math.isfinite, interval)) else None


def _names(values: ArrayLike, size: int, what: str) -> NDArray[Any]:
    """Values as text, the missing ones as "unknown"."""
    array = np.asarray(values, dtype=object)
    if array.shape != (size,):
        raise ValueError(f"{what}: expected one value an image, [{size}], got {list(array.shape)}.")
    missing = [value is None or value != value or str(value).strip() == "" for value in array]
    return np.asarray([UNKNOWN if no else str(value) for no, value in zip(missing, array, strict=True)])


def _ordered(column: NDArray[Any]) -> list[str]:
    """The values of a column: age bands and numbers by size, then names, then "unknown"."""

    def key(value: str) -> tuple[int, float, str]:
        number = value.removeprefix(">=").split("-")[0]
        if value.startswith("<"):
            return 0, -math.inf, value
        if value != UNKNOWN and number.isdecimal():
            return 0, float(number), value
        return 1 if value != UNKNOWN else 2, 0.0, value

    return sorted(set(column.tolist()), key=key)


def _one_versus_rest(statistic: Metric) -> Metric:
    """Mean of a two-class statistic over the classes; for two classes that of class 1."""

    def mean(truth: ArrayLike, p: ArrayLike, *, weights: ArrayLike | None = None) -> Any:
        columns = np.asarray(p).T
        classes = [1] if len(columns) == 2 else range(len(columns))
        return np.mean([statistic(np.asarray(truth) == k, columns[k], weights=weights) for k in classes], axis=0)

    return mean


def _by_confidence(statistic: Metric) -> Metric:
    """A statistic of right or wrong and the uncertainty 1 - the largest probability."""

    def ranked(truth: ArrayLike, p: ArrayLike, *, weights: ArrayLike | None = None) -> Any:
        probabilities = np.asarray(p)
        return statistic(probabilities.argmax(1) == truth, 1 - probabilities.max(1), weights=weights)

    return ranked


def _accuracy(truth: ArrayLike, p: ArrayLike, *, weights: ArrayLike | None = None) -> Any:
    right = np.asarray(p).argmax(1) == truth
    return accuracy_at_coverage(right, np.zeros(len(right)), coverage=1.0, weights=weights)


def _balanced_accuracy(truth: ArrayLike, p: ArrayLike, *, weights: ArrayLike | None = None) -> Any:
    return class_recall(truth, np.asarray(p).argmax(1), weights=weights).mean(-1)


_auc, _average_precision = _one_versus_rest(roc_auc), _one_versus_rest(average_precision)
_sensitivity_at_90 = _one_versus_rest(partial(sensitivity_at_specificity, specificity=0.9))
_NEED_ALL_CLASSES = (_auc, _average_precision, _sensitivity_at_90, _balanced_accuracy)

SUBGROUP_METRICS: dict[str, Metric] = {
    "auc": _auc,
    "average_precision": _average_precision,
    "sensitivity_at_90_specificity": _sensitivity_at_90,
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "calibration_error": expected_calibration_error,
    "brier_score": brier_score,
    "negative_log_likelihood": negative_log_likelihood,
    "aurc": _by_confidence(aurc),
}
"""Metrics of a subgroup by default; each is called as f(labels, probabilities, weights=...)."""
