# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Statistics of a classifier for many weightings of the same images at once.

A bootstrap resample is a weighting: each image counts as often as it was drawn. The scores are therefore sorted once,
and all resamples follow by cumulative sums, instead of one sort per resample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import check_labels

FloatArray = NDArray[np.float64]


def _weight_rows(weights: ArrayLike | None, num_images: int) -> FloatArray:
    if weights is None:
        return np.ones((1, num_images))
    rows = np.asarray(weights, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != num_images:
        raise ValueError(f"weights: expected the shape [R, {num_images}], one row a resample, got {list(rows.shape)}.")
    return rows


def class_columns(probabilities: ArrayLike) -> FloatArray:
    """Probabilities of the classes [N, K] as given, or [N, 2] from those of class 1 alone [N]."""
    array = np.asarray(probabilities, dtype=np.float64)
    return np.stack([1 - array, array], axis=1) if array.ndim == 1 else array


def _binary(labels: ArrayLike, values: ArrayLike, name: str) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    positive, array = np.asarray(labels), np.asarray(values)
    if positive.ndim != 1 or array.shape != positive.shape:
        raise ValueError(
            f"{name}: expected one value an image, the shape of labels [N], got {list(array.shape)} for labels of "
            f"shape {list(positive.shape)}."
        )
    if not np.isin(positive, (0, 1)).all():
        raise ValueError(f"labels: expected 0 (negative) and 1 (positive) only, got {np.unique(positive).tolist()}.")
    return positive.astype(bool), array


def _sum_by_value(values: NDArray[Any], marked: NDArray[np.bool_], rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weight of the marked and of the other images at each distinct value, smallest first, both [R, T]."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rows, marked = rows[:, order], marked[order]
    return np.add.reduceat(rows * marked, starts, axis=1), np.add.reduceat(rows * ~marked, starts, axis=1)


def _counts_by_score(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[FloatArray, FloatArray]:
    """Weight of the positives and of the negatives at each distinct score, highest score first, both [R, T]."""
    positive, values = _binary(labels, scores, "scores")
    if not np.isfinite(values).all():
        raise ValueError(f"scores: expected finite numbers, got {int((~np.isfinite(values)).sum())} that are not.")
    rows = _weight_rows(weights, len(values))
    true, false = _sum_by_value(-values, positive, rows)
    for name, counts in (("positive", true), ("negative", false)):
        if (counts.sum(1) <= 0).any():
            raise ValueError(
                f"labels: expected at least one {name} image in every resample, got none; resample by class."
            )
    return true, false


def _shaped(values: FloatArray, weights: ArrayLike | None) -> FloatArray:
    return values[0] if weights is None else values


def roc_auc(labels: ArrayLike, scores: ArrayLike, *, weights: ArrayLike | None = None) -> FloatArray:
    """Area under the ROC curve: the chance that a positive image scores above a negative one, ties counting half.

    Args:
        labels: 0 or 1 for each image [N].
        scores: the higher, the more likely positive [N].
        weights: how often each image counts, one row a resample [R, N]; None counts each once.

    Returns:
        the area of each resample [R], or a single number [] without ``weights``.

    Raises:
        ValueError: for labels other than 0 and 1, a class without images, scores not finite, shapes that differ.

    Example:
        >>> float(roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))
        0.75
    """
    true, false = _counts_by_score(labels, scores, weights)
    above = np.cumsum(true, axis=1) - true / 2
    return _shaped((false * above).sum(1) / (true.sum(1) * false.sum(1)), weights)


def average_precision(labels: ArrayLike, scores: ArrayLike, *, weights: ArrayLike | None = None) -> FloatArray:
    """Average precision, the sum of (R_t - R_{t-1}) P_t over the distinct scores t from high to low.

    ``P_t`` and ``R_t`` are precision and recall of calling everything from score t upwards positive, without
    interpolation, as in scikit-learn. Arguments, result and errors are those of :func:`roc_auc`.

    Example:
        >>> round(float(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])), 4)
        0.8333
    """
    true, false = _counts_by_score(labels, scores, weights)
    hits = np.cumsum(true, axis=1)
    called = hits + np.cumsum(false, axis=1)
    # A resample may lack the highest scores altogether: nothing called yet, and the recall step is 0 there.
    precision = hits / np.where(called > 0, called, 1.0)
    return _shaped((true * precision).sum(1) / hits[:, -1], weights)


def sensitivity_at_specificity(
    labels: ArrayLike, scores: ArrayLike, *, specificity: float = 0.9, weights: ArrayLike | None = None
) -> FloatArray:
    """Largest sensitivity over all thresholds on the scores whose specificity is at least the one given.

    A point of the ROC curve that a threshold reaches, without interpolation, as in :func:`average_precision`: images of
    equal score are called together. To call no image positive is a threshold too, so a constant score gives 0.

    Args:
        labels: 0 or 1 for each image [N].
        scores: the higher, the more likely positive [N].
        specificity: the least specificity, in [0, 1].
        weights: how often each image counts, one row a resample [R, N]; None counts each once.

    Returns:
        the sensitivity in each resample [R], or a single number [] without ``weights``.

    Raises:
        ValueError: as :func:`roc_auc`, and for a specificity out of range.

    Example:
        >>> labels, scores = [0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.8, 0.7, 0.9]
        >>> [float(sensitivity_at_specificity(labels, scores, specificity=s)) for s in (0.9, 0.75)]
        [0.5, 1.0]
    """
    if not 0 <= specificity <= 1:
        raise ValueError(f"specificity: expected a number from 0 to 1, such as 0.9, got {specificity}.")
    true, false = _counts_by_score(labels, scores, weights)
    negatives = false.sum(1, keepdims=True)
    # Division rounds 27 / 30 to the same float as 0.9, so a specificity that is just reached counts.
    specific = (negatives - np.cumsum(false, axis=1)) / negatives >= specificity
    return _shaped((true * specific).sum(1) / true.sum(1), weights)


def class_recall(labels: ArrayLike, predicted: ArrayLike, *, weights: ArrayLike | None = None) -> FloatArray:
    """Share of the images of each class that were given that class.

    Args:
        labels: class of each image, 0 to K - 1, every class present [N].
        predicted: class given to each image [N].
        weights: how often each image counts, one row a resample [R, N]; None counts each once.

    Returns:
        recall of each class [R, K], or [K] without ``weights``. With two classes: specificity, sensitivity.

    Raises:
        ValueError: for shapes that differ, labels that are no classes or a class without images in a resample.

    Example:
        >>> class_recall([0, 0, 1, 1], [0, 1, 1, 1]).tolist()
        [0.5, 1.0]
    """
    truth, given = np.asarray(labels), np.asarray(predicted)
    if truth.ndim != 1 or given.shape != truth.shape:
        raise ValueError(f"predicted: expected the shape of labels {list(truth.shape)}, got {list(given.shape)}.")
    truth = check_labels(truth, None)
    rows = _weight_rows(weights, len(truth))
    members = truth[:, None] == np.arange(int(truth.max()) + 1)
    totals = rows @ members
    if (totals <= 0).any():
        raise ValueError("labels: expected at least one image of every class in every resample; resample by class.")
    return _shaped(rows @ (members & (given == truth)[:, None]) / totals, weights)
