# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How far probabilities can be taken at their word: calibration errors and proper scores.

All functions take the class of each image [N] and the probabilities of the classes [N, K] (or, for two classes, of
class 1 [N]), and ``weights`` [R, N] as bootstrap resamples have them, see :mod:`monai_diffclf.metrics.statistics`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import check_integer, check_labels, check_probabilities
from .statistics import FloatArray, _shaped, _weight_rows, class_columns

__all__ = [
    "BrierDecomposition",
    "brier_decomposition",
    "brier_score",
    "classwise_calibration_error",
    "expected_calibration_error",
    "negative_log_likelihood",
]


class BrierDecomposition(NamedTuple):
    """The parts of a Brier score: reliability - resolution + uncertainty + remainder, each [R] or [].

    Args:
        reliability: squared distance of probabilities and frequencies, bin by bin; 0 is calibrated.
        resolution: how much the frequencies of the bins differ from the overall ones; large is good.
        uncertainty: Brier score of always giving the frequencies of the classes; a property of the data.
        remainder: what binning leaves out: variation within the bins; 0 where the probabilities of a bin are equal.
    """

    reliability: FloatArray
    resolution: FloatArray
    uncertainty: FloatArray
    remainder: FloatArray


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, *, num_bins: int = 15, weights: ArrayLike | None = None
) -> FloatArray:
    """Expected calibration error of the most probable class (Guo et al. 2017, equation 3).

    sum over bins of (n_b / n) |accuracy_b - mean confidence_b|; bins of equal width, closed below (the last also
    above). It is biased upwards for few images: a perfectly calibrated classifier is not at 0.

    Args:
        labels: class of each image, 0 to K - 1 [N].
        probabilities: of each class [N, K], or of class 1 [N].
        num_bins: number of bins of the confidence.
        weights: how often each image counts, one row a resample [R, N]; None counts each once.

    Returns:
        the error of each resample [R], or a single number [] without ``weights``, between 0 and 1.

    Raises:
        ValueError: when the shapes do not fit, labels are no classes, or rows are no probabilities.

    Example:
        >>> round(float(expected_calibration_error([0, 1, 1, 1], [0.1, 0.9, 0.9, 0.4])), 4)
        0.225
    """
    truth, p = labelled_probabilities(labels, probabilities)
    right = p.argmax(1) == truth
    num_bins, rows = check_integer(num_bins, "num_bins"), _weight_rows(weights, len(truth))
    return _shaped(_binned_gap(right, p.max(1), num_bins, rows), weights)


def classwise_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, *, num_bins: int = 15, weights: ArrayLike | None = None
) -> FloatArray:
    """Calibration error of every class's probability, mean over the classes (Kull et al. 2019, equation 3).

    Each class against the rest, binned by its probability. Arguments, result and errors are those of
    :func:`expected_calibration_error`.

    Example:
        >>> round(float(classwise_calibration_error([0, 1, 1, 1], [0.1, 0.9, 0.9, 0.4])), 4)
        0.225
    """
    truth, p = labelled_probabilities(labels, probabilities)
    num_bins, rows = check_integer(num_bins, "num_bins"), _weight_rows(weights, len(truth))
    gaps = [_binned_gap(truth == k, column, num_bins, rows) for k, column in enumerate(p.T)]
    return _shaped(np.mean(gaps, axis=0), weights)


def brier_score(labels: ArrayLike, probabilities: ArrayLike, *, weights: ArrayLike | None = None) -> FloatArray:
    """Brier score: sum over the classes of (p_k - 1[label is k])^2, mean over the images (Brier 1950), in [0, 2].

    For two classes that is twice the squared error of one class's probability. Arguments, result and errors are those
    of :func:`expected_calibration_error`.

    Example:
        >>> round(float(brier_score([0, 1], [0.2, 0.6])), 4)
        0.2
    """
    truth, p = labelled_probabilities(labels, probabilities)
    rows = _weight_rows(weights, len(truth))
    return _shaped(rows @ ((p - np.eye(p.shape[1])[truth]) ** 2).sum(1) / rows.sum(1), weights)


def brier_decomposition(
    labels: ArrayLike, probabilities: ArrayLike, *, num_bins: int = 15, weights: ArrayLike | None = None
) -> BrierDecomposition:
    """Reliability, resolution and uncertainty of the Brier score (Murphy 1973), and what binning leaves out.

    Each class against the rest in bins of its probability, summed over the classes. The remainder is the variance of
    the probabilities within bins less twice their covariance with the outcome (Stephenson et al. 2008), so that the
    parts add up to :func:`brier_score` exactly. Arguments and errors are those of :func:`expected_calibration_error`.

    Example:
        >>> parts = brier_decomposition([0, 1, 1, 1], [0.1, 0.9, 0.9, 0.4])
        >>> total = parts.reliability - parts.resolution + parts.uncertainty + parts.remainder
        >>> round(float(total), 4), round(float(brier_score([0, 1, 1, 1], [0.1, 0.9, 0.9, 0.4])), 4)
        (0.195, 0.195)
    """
    truth, p = labelled_probabilities(labels, probabilities)
    num_bins, rows = check_integer(num_bins, "num_bins"), _weight_rows(weights, len(truth))
    total = rows.sum(1)
    parts = np.zeros((4, len(rows)))
    for k, column in enumerate(p.T):
        outcome = (truth == k).astype(np.float64)
        base = rows @ outcome / total
        size, mean_p, mean_y = _bin_means(outcome, column, num_bins, rows)
        reliability = (size * (mean_p - mean_y) ** 2).sum(1) / total
        resolution = (size * (mean_y - base[:, None]) ** 2).sum(1) / total
        uncertainty = base * (1 - base)
        # sum (p - p_b)^2 - 2 sum (p - p_b) y, as p - p_b sums to 0 within its bin.
        variance = rows @ column**2 - (size * mean_p**2).sum(1)
        covariance = rows @ (column * outcome) - (size * mean_p * mean_y).sum(1)
        parts += np.stack([reliability, resolution, uncertainty, (variance - 2 * covariance) / total])
    return BrierDecomposition(*(_shaped(part, weights) for part in parts))


def negative_log_likelihood(
    labels: ArrayLike, probabilities: ArrayLike, *, weights: ArrayLike | None = None
) -> FloatArray:
    """Mean of -log p(label) in nats; a probability of 0 counts as 2.2e-16, as in scikit-learn's ``log_loss``.

    Arguments, result and errors are those of :func:`expected_calibration_error`.

    Example:
        >>> round(float(negative_log_likelihood([0, 1], [0.5, 0.5])), 4)
        0.6931
    """
    truth, p = labelled_probabilities(labels, probabilities)
    rows = _weight_rows(weights, len(truth))
    given = np.maximum(p[np.arange(len(truth)), truth], np.finfo(np.float64).eps)
    return _shaped(rows @ -np.log(given) / rows.sum(1), weights)


def labelled_probabilities(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], FloatArray]:
    """Labels [N] and probabilities [N, K], whose rows are made to sum to 1 where low precision rounded them.

    Raises:
        ValueError: when the shapes do not fit, labels are no classes, or rows are no probabilities.
    """
    given, p = np.asarray(labels), class_columns(probabilities)
    if given.ndim != 1 or not len(given) or p.ndim != 2 or len(p) != len(given) or p.shape[1] < 2:
        raise ValueError(
            f"probabilities: expected the shape [N, K], or [N] for two classes, with labels [N], got "
            f"{list(np.shape(probabilities))} and {list(given.shape)}."
        )
    truth = check_labels(given, p.shape[1], len(p))
    p = check_probabilities(p)
    return truth, p / p.sum(1)[:, None]


def _bin_means(
    outcome: NDArray[np.float64], values: FloatArray, num_bins: int, rows: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weight, mean value and mean outcome of each bin that any image is in, each [R, bins]."""
    # The edges themselves decide: 0.6 times 15 is below 9 in floating point.
    edges = np.linspace(0, 1, num_bins + 1)
    number = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, num_bins - 1)
    member = (number[:, None] == np.unique(number)).astype(np.float64)
    size = rows @ member
    filled = np.where(size > 0, size, 1.0)
    return size, rows @ (member * values[:, None]) / filled, rows @ (member * outcome[:, None]) / filled


def _binned_gap(outcome: NDArray[np.bool_], values: FloatArray, num_bins: int, rows: FloatArray) -> FloatArray:
    size, mean_value, mean_outcome = _bin_means(outcome.astype(np.float64), values, num_bins, rows)
    return np.asarray((size * np.abs(mean_outcome - mean_value)).sum(1) / rows.sum(1))
