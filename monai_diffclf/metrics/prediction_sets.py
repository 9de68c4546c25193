# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Prediction sets: how often they hold the truth, and how many classes they hold.

A set is a row of booleans, one for each class [N, K]; see :class:`monai_diffclf.uncertainty.ConformalSets`. Weights
[R, N] are those of bootstrap resamples, see :mod:`monai_diffclf.metrics.statistics`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import check_labels
from .statistics import FloatArray, _shaped, _weight_rows

__all__ = ["class_set_coverage", "set_coverage", "set_size"]


def set_coverage(labels: ArrayLike, sets: ArrayLike, *, weights: ArrayLike | None = None) -> FloatArray:
    """Share of the images whose set holds their class.

    Args:
        labels: class of each image, 0 to K - 1 [N].
        sets: which classes are in the set of each image, bool [N, K].
        weights: how often each image counts, one row a resample [R, N]; None counts each once.

    Returns:
        the share of each resample [R], or a single number [] without ``weights``.

    Raises:
        ValueError: when the shapes do not fit, labels are no classes, or sets are not boolean.

    Example:
        >>> float(set_coverage([0, 1], [[True, False], [True, False]]))
        0.5
    """
    truth, members = _checked(labels, sets)
    rows = _weight_rows(weights, len(truth))
    return _shaped(rows @ members[np.arange(len(truth)), truth] / rows.sum(1), weights)


def class_set_coverage(labels: ArrayLike, sets: ArrayLike, *, weights: ArrayLike | None = None) -> FloatArray:
    """:func:`set_coverage` among the images of each class [R, K], or [K] without ``weights``; NaN without images.

    Example:
        >>> class_set_coverage([0, 1, 1], [[True, False], [True, False], [True, True]]).tolist()
        [1.0, 0.5]
    """
    truth, members = _checked(labels, sets)
    rows = _weight_rows(weights, len(truth))
    of_class = truth[:, None] == np.arange(members.shape[1])
    totals = rows @ of_class
    held = rows @ (of_class & members)
    return _shaped(np.divide(held, totals, out=np.full_like(held, np.nan), where=totals > 0), weights)


def set_size(sets: ArrayLike, *, weights: ArrayLike | None = None) -> FloatArray:
    """Mean number of classes in a set; at the same coverage, smaller is better.

    Arguments, result and errors are those of :func:`set_coverage`.

    Example:
        >>> float(set_size([[True, False], [True, True]]))
        1.5
    """
    members = _boolean(sets)
    rows = _weight_rows(weights, len(members))
    return _shaped(rows @ members.sum(1) / rows.sum(1), weights)


def _checked(labels: ArrayLike, sets: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    members = _boolean(sets)
    return check_labels(labels, members.shape[1], len(members)), members


def _boolean(sets: ArrayLike) -> NDArray[np.bool_]:
    members = np.asarray(sets)
    if members.ndim != 2 or not members.size or not np.isin(members, (0, 1)).all():
        raise ValueError(
            f"sets: expected booleans [N, K], N at least 1, got {members.dtype} of shape {list(members.shape)}."
        )
    return members.astype(bool)
