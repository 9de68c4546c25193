# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Selective classification: how much better a classifier is on the images it is sure of.

Images are answered from the least to the most uncertain; the risk at a coverage is the share of wrong answers among
those answered. Votes of few draws tie often, so ties are not left to the order of the images: every function gives the
mean over all orders of the tied images. Weights [R, N] are those of bootstrap resamples, see
:mod:`monai_diffclf.metrics.statistics`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from .statistics import FloatArray, _shaped, _sum_by_value, _weight_rows

__all__ = ["RiskCoverageCurve", "accuracy_at_coverage", "aurc", "excess_aurc", "risk_coverage_curve"]


class RiskCoverageCurve(NamedTuple):
    """Risk at every coverage that a threshold on the uncertainty can give.

    Args:
        coverage: share of the images answered [T], ascending, the last 1.
        risk: share of wrong answers among them [T].
        threshold: images up to this uncertainty are answered [T].
    """

    coverage: FloatArray
    risk: FloatArray
    threshold: FloatArray


def aurc(correct: ArrayLike, uncertainty: ArrayLike, *, weights: ArrayLike | None = None) -> FloatArray:
    """Area under the risk-coverage curve (Geifman et al. 2019, equation 3), smaller is better.

    The mean over i = 1 ... n of the risk of the i least uncertain images. A group of m tied images with e errors among
    them, behind n' images with e', adds e + (e' - n' e / m) (psi(n' + m + 1) - psi(n' + 1)), the mean over its orders.

    Args:
        correct: whether the class given to each image is right [N].
        uncertainty: the larger, the less sure [N].
        weights: how often each image counts, one row a resample [R, N]; None counts each once.

    Returns:
        the area of each resample [R], or a single number [] without ``weights``, between 0 and 1.

    Raises:
        ValueError: for shapes that differ, uncertainties not finite, or no image.

    Example:
        >>> round(float(aurc([1, 1, 0, 1], [0.1, 0.2, 0.3, 0.4])), 4)  # risks 0, 0, 1/3, 1/4
        0.1458
    """
    right, wrong = _counts_by_uncertainty(correct, uncertainty, weights)
    size = right + wrong
    before = np.cumsum(size, axis=1) - size
    errors_before = np.cumsum(wrong, axis=1) - wrong
    rate = wrong / np.where(size > 0, size, 1.0)
    harmonic = digamma(before + size + 1) - digamma(before + 1)
    area = wrong + (errors_before - before * rate) * harmonic
    return _shaped(area.sum(1) / size.sum(1), weights)


def excess_aurc(correct: ArrayLike, uncertainty: ArrayLike, *, weights: ArrayLike | None = None) -> FloatArray:
    """What :func:`aurc` loses to an oracle that answers all wrong images last; 0 is perfect.

    Geifman et al. (2019), section 3, with the exact area of the oracle. Arguments, result and errors are those of
    :func:`aurc`.

    Example:
        >>> float(excess_aurc([1, 1, 0, 1], [0.1, 0.2, 0.9, 0.4]))
        0.0
    """
    right, _ = _checked(correct, uncertainty)
    return aurc(correct, uncertainty, weights=weights) - aurc(correct, (~right).astype(float), weights=weights)


def accuracy_at_coverage(
    correct: ArrayLike, uncertainty: ArrayLike, *, coverage: float = 0.8, weights: ArrayLike | None = None
) -> FloatArray:
    """Accuracy on the least uncertain share of the images.

    Where the share ends within tied images, or between two images, these count in part.

    Args:
        correct: whether the class given to each image is right [N].
        uncertainty: the larger, the less sure [N].
        coverage: share of the images that is answered, in (0, 1].
        weights: how often each image counts, one row a resample [R, N]; None counts each once.

    Returns:
        the accuracy of each resample [R], or a single number [] without ``weights``.

    Raises:
        ValueError: as :func:`aurc`, and for a coverage out of range.

    Example:
        >>> float(accuracy_at_coverage([1, 1, 0, 1], [0.1, 0.2, 0.9, 0.4], coverage=0.75))
        1.0
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage: expected a number in (0, 1], such as 0.8, got {coverage}.")
    right, wrong = _counts_by_uncertainty(correct, uncertainty, weights)
    size = right + wrong
    target = coverage * size.sum(1, keepdims=True)
    taken = np.clip(target - (np.cumsum(size, axis=1) - size), 0, size)
    hits = (taken * right / np.where(size > 0, size, 1.0)).sum(1)
    return _shaped(hits / target[:, 0], weights)


def risk_coverage_curve(correct: ArrayLike, uncertainty: ArrayLike) -> RiskCoverageCurve:
    """The risk-coverage curve, one point for each distinct uncertainty, to draw.

    Arguments and errors are those of :func:`aurc`.

    Example:
        >>> curve = risk_coverage_curve([1, 1, 0, 1], [0.1, 0.2, 0.3, 0.2])
        >>> curve.coverage.tolist(), curve.risk.tolist(), curve.threshold.tolist()
        ([0.25, 0.75, 1.0], [0.0, 0.0, 0.25], [0.1, 0.2, 0.3])
    """
    right, wrong = (np.cumsum(x[0]) for x in _counts_by_uncertainty(correct, uncertainty, None))
    answered = right + wrong
    threshold = np.unique(np.asarray(uncertainty, dtype=np.float64))
    return RiskCoverageCurve(answered / answered[-1], wrong / answered, threshold)


def _counts_by_uncertainty(
    correct: ArrayLike, uncertainty: ArrayLike, weights: ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """Weight of the right and of the wrong images at each distinct uncertainty, smallest first, both [R, T]."""
    right, values = _checked(correct, uncertainty)
    rows = _weight_rows(weights, len(values))
    if (rows.sum(1) <= 0).any():
        raise ValueError("weights: expected at least one image in every resample, got none.")
    return _sum_by_value(values, right, rows)


def _checked(correct: ArrayLike, uncertainty: ArrayLike) -> tuple[NDArray[np.bool_], FloatArray]:
    right, values = np.asarray(correct), np.asarray(uncertainty, dtype=np.float64)
    if right.ndim != 1 or values.shape != right.shape or not len(right):
        raise ValueError(
            "uncertainty: expected one value an image, the shape of correct [N], N at least 1, got "
            f"{list(values.shape)} for correct of shape {list(right.shape)}."
        )
    if not np.isin(right, (0, 1)).all():
        raise ValueError(f"correct: expected 0 (wrong) and 1 (right) only, got {np.unique(right)[:8].tolist()}.")
    if not np.isfinite(values).all():
        raise ValueError(f"uncertainty: expected finite numbers, got {int((~np.isfinite(values)).sum())} that are not.")
    return right.astype(bool), values
