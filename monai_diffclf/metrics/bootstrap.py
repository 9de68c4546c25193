# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Percentile bootstrap intervals over images or patients (Efron and Tibshirani, 1993, chapter 13)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._patients import patient_codes

FloatArray = NDArray[np.float64]
Statistic = Callable[..., Any]

# Resamples are made in chunks of at most this many weights, 32 MB, however many images there are.
_CHUNK_ELEMENTS = 4_000_000


class Interval(NamedTuple):
    """A value and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    statistic: Statistic,
    *arrays: ArrayLike,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    strata: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> Interval:
    """Percentile bootstrap interval of a statistic of paired arrays.

    Rows of all arrays are drawn together, with replacement, as many as there are. With ``strata`` (the labels) they are
    drawn within each class, so that every resample holds every class. With ``groups`` (the patients) whole patients are
    drawn: images of one patient are not independent, and drawing them singly makes intervals too narrow. With both,
    patients are drawn among those that have the same classes.

    Args:
        statistic: called as ``statistic(*arrays)``, returns one number. If it has a keyword ``weights``, it is given
            weights [R, N] instead (how often each row was drawn) and returns [R]: many times faster. The functions of
            :mod:`monai_diffclf.metrics.statistics` have it.
        arrays: arrays with the same first dimension N.
        num_resamples: number of resamples.
        confidence: in (0, 1).
        seed: seed of the resampling.
        strata: class of each row [N], or None.
        groups: patient of each row [N]; a row of an unknown one (None, NaN or empty) is alone. None: every row is.

    Returns:
        the statistic of the data, and the bounds.

    Raises:
        ValueError: if arrays are absent or of different lengths, or a number is out of range.

    Example:
        >>> from monai_diffclf.metrics import roc_auc
        >>> labels, scores = [0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.6, 0.4, 0.8, 0.9]
        >>> interval = bootstrap_interval(roc_auc, labels, scores, strata=labels)
        >>> round(interval.value, 3), interval.high
        (0.889, 1.0)
    """
    data = [np.asarray(array) for array in arrays]
    size = _common_length(data)
    evaluate = _evaluator(statistic, data)
    value = float(evaluate(np.ones((1, size)))[0])
    chunks = _resamples(size, num_resamples=num_resamples, seed=seed, strata=strata, groups=groups)
    return _percentiles(value, np.concatenate([evaluate(weights) for weights in chunks]), confidence)


def paired_difference_interval(
    statistic: Statistic,
    labels: ArrayLike,
    scores_a: ArrayLike | Sequence[ArrayLike],
    scores_b: ArrayLike | Sequence[ArrayLike],
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Interval:
    """Interval of statistic(labels, scores_a) - statistic(labels, scores_b), both models on the same images.

    A resample draws the same images for both models, within each class: what makes an image hard for both cancels.
    With scores of several trainings (a list or tuple of arrays, one for each seed) the statistic is averaged over them,
    on the same resampled images; the interval then covers the choice of the images, not that of the seeds.

    Args:
        statistic: called as ``statistic(labels, scores)``; see :func:`bootstrap_interval`.
        labels: class of each image [N].
        scores_a: scores of the first model, [N, ...], or a list or tuple of such arrays.
        scores_b: scores of the second model, likewise; the number of seeds may differ.
        num_resamples: number of resamples.
        confidence: in (0, 1).
        seed: seed of the resampling.
        groups: patient of each image [N], or None.

    Returns:
        the difference and its bounds; a difference is beyond chance where the bounds exclude 0.

    Raises:
        ValueError: if lengths differ, or a number is out of range.

    Example:
        >>> from monai_diffclf.metrics import roc_auc
        >>> labels, better, worse = [0, 0, 1, 1], [0.1, 0.3, 0.4, 0.8], [0.1, 0.6, 0.4, 0.8]
        >>> gap = paired_difference_interval(roc_auc, labels, better, worse)
        >>> round(gap.value, 3)
        0.25
    """
    truth = np.asarray(labels)
    models = [seed_arrays(scores_a), seed_arrays(scores_b)]
    size = _common_length([truth, *models[0], *models[1]])
    evaluate_a, evaluate_b = (
        mean_evaluator([_evaluator(statistic, [truth, scores]) for scores in model]) for model in models
    )
    ones = np.ones((1, size))
    value = float(evaluate_a(ones)[0] - evaluate_b(ones)[0])
    chunks = _resamples(size, num_resamples=num_resamples, seed=seed, strata=truth, groups=groups)
    return _percentiles(value, np.concatenate([evaluate_a(w) - evaluate_b(w) for w in chunks]), confidence)


def seed_arrays(scores: Any) -> list[NDArray[Any]]:
    """Scores as a list of arrays, one for each seed; anything but a list or tuple of arrays is one seed."""
    if (
        isinstance(scores, (list, tuple))
        and scores
        and np.ndim(scores[0]) > 0
        and not isinstance(scores[0], (list, tuple))
    ):
        return [np.asarray(array) for array in scores]
    return [np.asarray(scores)]


def mean_evaluator(evaluators: Sequence[Callable[[FloatArray], FloatArray]]) -> Callable[[FloatArray], FloatArray]:
    """The mean over seeds of what each evaluator gives for the same weights."""
    return lambda weights: cast(FloatArray, np.mean([evaluate(weights) for evaluate in evaluators], axis=0))


def bootstrap_columns(
    evaluate: Callable[[FloatArray], FloatArray],
    size: int,
    *,
    num_resamples: int,
    confidence: float,
    seed: int,
    strata: ArrayLike | None,
    groups: ArrayLike | None,
) -> list[Interval]:
    """Intervals of several statistics on the same resamples; ``evaluate`` maps weights [R, N] to values [R, M]."""
    values = evaluate(np.ones((1, size)))[0]
    chunks = _resamples(size, num_resamples=num_resamples, seed=seed, strata=strata, groups=groups)
    resampled = np.concatenate([evaluate(weights) for weights in chunks])
    return [_percentiles(float(v), column, confidence) for v, column in zip(values, resampled.T, strict=True)]


def _evaluator(statistic: Statistic, data: Sequence[NDArray[Any]]) -> Callable[[FloatArray], FloatArray]:
    """The statistic as a function of the weights [R, N] of the rows."""
    if "weights" in inspect.signature(statistic).parameters:
        return lambda weights: np.asarray(statistic(*data, weights=weights), dtype=np.float64)

    def by_rows(weights: FloatArray) -> FloatArray:
        rows = (np.repeat(np.arange(weights.shape[1]), count.astype(np.int64)) for count in weights)
        return np.asarray([statistic(*(array[row] for array in data)) for row in rows], dtype=np.float64)

    return by_rows


def _resamples(
    size: int, *, num_resamples: int, seed: int, strata: ArrayLike | None, groups: ArrayLike | None
) -> Iterator[FloatArray]:
    """How often each row was drawn, in chunks [R, size]."""
    if num_resamples < 1:
        raise ValueError(f"num_resamples: expected at least 1, got {num_resamples}.")
    row_strata = np.zeros(size, dtype=np.int64) if strata is None else _strata_codes(strata, size)
    row_units = patient_codes(groups, size, "groups")
    unit_strata = _unit_strata(row_units, row_strata)
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_ELEMENTS // size)
    for start in range(0, num_resamples, chunk):
        rows = min(chunk, num_resamples - start)
        counts = np.zeros((rows, len(unit_strata)))
        for stratum in np.unique(unit_strata):
            members = np.flatnonzero(unit_strata == stratum)
            drawn = rng.integers(0, len(members), (rows, len(members)))
            flat = (drawn + np.arange(rows)[:, None] * len(members)).reshape(-1)
            counts[:, members] = np.bincount(flat, minlength=rows * len(members)).reshape(rows, -1)
        yield counts[:, row_units]


def _unit_strata(row_units: NDArray[np.int64], row_strata: NDArray[np.int64]) -> NDArray[np.int64]:
    """One code for each unit, the same for units that hold the same set of strata."""
    holds = np.zeros((int(row_units.max()) + 1, int(row_strata.max()) + 1), dtype=bool)
    holds[row_units, row_strata] = True
    return cast(NDArray[np.int64], np.unique(holds, axis=0, return_inverse=True)[1].reshape(-1))


def _strata_codes(strata: ArrayLike, size: int) -> NDArray[np.int64]:
    array = np.asarray(strata)
    if array.shape != (size,):
        raise ValueError(f"strata: expected one value a row, the shape [{size}], got {list(array.shape)}.")
    return np.unique(array, return_inverse=True)[1].astype(np.int64)


def _common_length(arrays: Sequence[NDArray[Any]]) -> int:
    if not arrays:
        raise ValueError("arrays: expected at least one array, got none.")
    lengths = [len(array) if array.ndim else 0 for array in arrays]
    if min(lengths) == 0 or len(set(lengths)) > 1:
        raise ValueError(f"arrays: expected the same first dimension, at least 1, for all, got the lengths {lengths}.")
    return lengths[0]


def _percentiles(value: float, resampled: FloatArray, confidence: float) -> Interval:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, such as 0.95, got {confidence}.")
    if not np.isfinite(resampled).all():
        raise ValueError(
            "statistic: expected a finite number for every resample, got "
            f"{int((~np.isfinite(resampled)).sum())} that are not; pass the labels as strata, so that each resample "
            "holds every class."
        )
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
