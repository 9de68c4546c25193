# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Bootstrap crossed over test images and trainings: intervals that cover the choice of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bootstrap import FloatArray, Statistic, _evaluator, _percentiles, _resamples, mean_evaluator

__all__ = ["CrossedResamples", "Difference", "crossed_resamples", "difference"]


class CrossedResamples(NamedTuple):
    """A statistic of one method: the mean over its seeds, and that of each resample [R]."""

    value: float
    resampled: FloatArray


class Difference(NamedTuple):
    """A difference of two methods, its interval, and the two-sided bootstrap p value of no difference."""

    value: float
    low: float
    high: float
    p_value: float


def crossed_resamples(
    statistic: Statistic,
    labels: ArrayLike,
    methods: Mapping[str, Mapping[int, ArrayLike | Sequence[ArrayLike]]],
    *,
    groups: ArrayLike | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, CrossedResamples]:
    r"""A statistic of several methods on the same resamples of images and trainings (Owen, 2007, and Rao and Wu, 1988).

    A resample draws images, or whole groups, with replacement within each class, the same for all methods, and n - 1 of
    the n seeds of a method with replacement, the same for methods that have the same seeds; the statistic is its mean
    over the drawn seeds. Of n seeds drawn n at a time the variance would be (n - 1) / n of what it should be. For a
    mean of independent effects of images and seeds the variance of the resamples is
    :math:`s_{images}^2 / N + s_{seeds}^2 / n`; what is particular to an image under a seed is counted up to twice, so
    that intervals are rather too wide than too narrow. With one seed they cover the choice of images alone.

    Args:
        statistic: called as ``statistic(labels, scores)``; see :func:`bootstrap_interval`.
        labels: class of each image [N].
        methods: name -> seed -> scores [N, ...]; or a list of them, of several conditions, over which the statistic is
            averaged.
        groups: patient of each image [N], or None.
        num_resamples: number of resamples R.
        seed: seed of the resampling.

    Raises:
        ValueError: if there is no method, a method has no seed, or lengths differ.

    Example:
        >>> from monai_diffclf.metrics import roc_auc
        >>> labels = [0, 0, 1, 1]
        >>> scores = {"a": {0: [0.1, 0.3, 0.4, 0.8], 1: [0.1, 0.6, 0.4, 0.8]}, "b": {0: [0.1, 0.6, 0.4, 0.8]}}
        >>> found = crossed_resamples(roc_auc, labels, scores, num_resamples=50)
        >>> found["a"].value, found["b"].value, found["a"].resampled.shape
        (0.875, 0.75, (50,))
    """
    truth = np.asarray(labels)
    if not methods or not all(methods.values()):
        raise ValueError("methods: expected at least one, each with at least one seed")
    evaluators = {
        name: [_mean_over_conditions(statistic, truth, scores) for _, scores in sorted(seeds.items())]
        for name, seeds in methods.items()
    }
    weights = {name: _seed_weights(sorted(seeds), num_resamples, seed) for name, seeds in methods.items()}
    ones = np.ones((1, len(truth)))
    parts: dict[str, list[FloatArray]] = {name: [] for name in methods}
    for rows in _resamples(len(truth), num_resamples=num_resamples, seed=seed, strata=truth, groups=groups):
        for name, seeds in evaluators.items():
            parts[name].append(np.stack([evaluate(rows) for evaluate in seeds], axis=1))
    return {
        name: CrossedResamples(
            float(np.mean([evaluate(ones)[0] for evaluate in seeds])),
            (np.concatenate(parts[name]) * weights[name]).sum(1),
        )
        for name, seeds in evaluators.items()
    }


def difference(a: CrossedResamples, b: CrossedResamples, *, confidence: float = 0.95) -> Difference:
    """a - b with its percentile interval and p = 2 min(P(<= 0), P(>= 0)), each share with one added to both counts.

    Raises:
        ValueError: if the numbers of resamples differ or the confidence is out of range.

    Example:
        >>> wins = CrossedResamples(0.9, np.linspace(0.85, 0.95, 199))
        >>> gap = difference(wins, CrossedResamples(0.8, np.full(199, 0.8)))
        >>> round(gap.value, 3), round(gap.low, 3), gap.p_value
        (0.1, 0.052, 0.01)
    """
    if a.resampled.shape != b.resampled.shape:
        raise ValueError(f"b: expected {len(a.resampled)} resamples, as many as of a, got {len(b.resampled)}")
    gaps = a.resampled - b.resampled
    interval = _percentiles(a.value - b.value, gaps, confidence)
    tail = min(int((gaps <= 0).sum()), int((gaps >= 0).sum()))
    return Difference(*interval, p_value=min(1.0, 2 * (tail + 1) / (len(gaps) + 1)))


def _mean_over_conditions(statistic: Statistic, truth: NDArray[Any], scores: Any) -> Any:
    conditions = scores if isinstance(scores, (list, tuple)) and np.ndim(scores[0]) > 0 else [scores]
    arrays = [np.asarray(array) for array in conditions]
    for array in arrays:
        if len(array) != len(truth):
            raise ValueError(f"methods: expected {len(truth)} rows, one a label, got {len(array)}")
    return mean_evaluator([_evaluator(statistic, [truth, array]) for array in arrays])


def _seed_weights(seeds: Sequence[int], num_resamples: int, seed: int) -> FloatArray:
    """Weight of each seed in each resample [R, n], rows summing to 1; a function of the seeds, not of the method."""
    count = len(seeds)
    if count == 1:
        return np.ones((num_resamples, 1))
    rng = np.random.default_rng([seed, *map(abs, seeds)])
    return rng.multinomial(count - 1, np.full(count, 1 / count), num_resamples) / (count - 1)
