# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The metrics a classifier is reported by, and the threshold they are taken at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import check_labels, check_probabilities
from .._patients import patient_codes
from .bootstrap import FloatArray, bootstrap_columns, mean_evaluator, seed_arrays
from .proportions import wilson_interval
from .statistics import average_precision, class_columns, class_recall, roc_auc, sensitivity_at_specificity

_CRITERIA = ("balanced_accuracy", "accuracy", "f1")
_RANKING: dict[str, Callable[..., FloatArray]] = {
    "auc": roc_auc,
    "average_precision": average_precision,
    "sensitivity_at_90_specificity": partial(sensitivity_at_specificity, specificity=0.9),
}


def classification_metrics(
    labels: ArrayLike,
    probabilities: ArrayLike | Sequence[ArrayLike],
    *,
    threshold: float | Sequence[float] = 0.5,
    positive_class: int = 1,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> dict[str, dict[str, float]]:
    """Metrics of a classifier with percentile bootstrap intervals over images, drawn within each class.

    Two classes: ``auc``, ``average_precision``, ``sensitivity_at_90_specificity`` (see
    :func:`sensitivity_at_specificity`), ``accuracy``, ``balanced_accuracy`` (the mean of the next two),
    ``sensitivity``, ``specificity``. The first three use no threshold; for the others an image is called positive from
    the threshold upwards, see `called_positive`. More classes: the first three are means over one-versus-rest problems,
    the class given is the most probable one, and ``sensitivity_0`` ... take the place of sensitivity and specificity. A
    share of exactly 0 or 1, which every resample repeats, has Wilson's interval instead (`wilson_interval`).

    Args:
        labels: class of each image, 0 to K - 1, every class present [N].
        probabilities: of each class [N, K]; or, for two classes, of class 1 [N]. A list or tuple of such arrays, one
            for each training seed, gives the mean over the seeds.
        threshold: on the probability of the positive class, for two classes; or one for each seed.
        positive_class: 0 or 1; only for two classes.
        num_resamples: number of bootstrap resamples.
        confidence: in (0, 1).
        seed: seed of the resampling.
        groups: patient of each image [N]; then patients are drawn instead of images, and an image of an unknown one
            (None, NaN or empty) by itself.

    Returns:
        for each metric its ``value``, ``low`` and ``high``.

    Raises:
        ValueError: if only one class is present, rows are no probabilities, such as logits, or do not fit the labels.

    Example:
        >>> metrics = classification_metrics([0, 0, 0, 1, 1], [0.1, 0.6, 0.2, 0.7, 0.9])
        >>> metrics["auc"]["value"], metrics["accuracy"]["value"], round(metrics["specificity"]["value"], 3)
        (1.0, 0.8, 0.667)
    """
    truth = _class_labels(labels)
    patients = patient_codes(groups, len(truth), "groups")
    seeds = [_scores(array, truth) for array in seed_arrays(probabilities)]
    for each in seeds:
        check_probabilities(each)
    thresholds = [threshold] * len(seeds) if isinstance(threshold, (int, float)) else list(threshold)
    if len(thresholds) != len(seeds):
        raise ValueError(
            f"threshold: expected one number, or one for each of {len(seeds)} seeds, got {len(thresholds)}."
        )
    num_classes = seeds[0].shape[1]
    if num_classes == 2:
        if positive_class not in (0, 1):
            raise ValueError(f"positive_class: expected 0 or 1, got {positive_class}.")
        names = [*_RANKING, "accuracy", "balanced_accuracy", "sensitivity", "specificity"]
        positive = (truth == positive_class).astype(np.int64)
        evaluators = [
            _binary(positive, p[:, positive_class], called_positive(p[:, positive_class], t, first=positive_class == 0))
            for p, t in zip(seeds, thresholds, strict=True)
        ]
    else:
        names = [*_RANKING, "accuracy", "balanced_accuracy", *(f"sensitivity_{k}" for k in range(num_classes))]
        evaluators = [_multiclass(truth, p) for p in seeds]
    intervals = bootstrap_columns(
        mean_evaluator(evaluators),
        len(truth),
        num_resamples=num_resamples,
        confidence=confidence,
        seed=seed,
        strata=truth,
        groups=patients,
    )
    units = _independent(truth, patients, num_classes, positive_class)
    found = {name: dict(interval._asdict()) for name, interval in zip(names, intervals, strict=True)}
    for name, metric in found.items():
        if name in units and metric["value"] in (0, 1):
            metric |= wilson_interval(metric["value"], units[name], confidence=confidence)
    return found


def _independent(
    truth: NDArray[np.int64], patients: NDArray[np.int64], num_classes: int, positive_class: int
) -> dict[str, int]:
    """Of each metric that is a share, of how many independent cases: images, or patients where they are known.

    The AUC, and much like it the average precision, is a share of pairs, of which as many are independent as the rarer
    of two classes has cases. The mean over K classes of n_k cases each has the variance of a share of
    K^2 / sum_k (1 / n_k) cases.
    """
    cases = [len(np.unique(patients[truth == k])) for k in range(num_classes)]
    mean = int(num_classes**2 / sum(1 / n for n in cases))
    units = {"accuracy": len(np.unique(patients)), "balanced_accuracy": mean}
    if num_classes == 2:
        hits, clear = cases[positive_class], cases[1 - positive_class]
        ranked = dict.fromkeys(("auc", "average_precision"), min(cases))
        return units | ranked | {"sensitivity": hits, "specificity": clear, "sensitivity_at_90_specificity": hits}
    return units | dict.fromkeys(_RANKING, mean) | {f"sensitivity_{k}": n for k, n in enumerate(cases)}


def choose_threshold(labels: ArrayLike, scores: ArrayLike, *, criterion: str = "balanced_accuracy") -> float:
    """The threshold on the scores that is best on validation images; never choose it on the images reported on.

    Candidates lie halfway between neighbouring scores. Of equally good ones, the one closest to 0.5 is taken.

    Args:
        labels: 0 or 1 for each image, both present [N].
        scores: of class 1 [N].
        criterion: ``"balanced_accuracy"``, ``"accuracy"`` or ``"f1"``.

    Returns:
        the threshold; an image is positive if its score is at least as high.

    Raises:
        ValueError: for an unknown criterion, a single class, or scores that are not finite.

    Example:
        >>> round(choose_threshold([0, 0, 1, 1], [0.1, 0.6, 0.7, 0.9]), 3)
        0.65
    """
    if criterion not in _CRITERIA:
        raise ValueError(f"criterion: expected one of {list(_CRITERIA)}, got {criterion!r}.")
    truth = _class_labels(labels)
    values = _scores(scores, truth)[:, 1]
    distinct = np.unique(values)
    # Halfway between two neighbouring floats may round down to the lower one, which must stay negative.
    middle = (distinct[:-1] + distinct[1:]) / 2
    middle = np.where(middle > distinct[:-1], middle, distinct[1:])
    candidates = np.r_[distinct[0], middle, np.nextafter(distinct[-1], np.inf)]
    negatives, positives = np.sort(values[truth == 0]), np.sort(values[truth == 1])
    hits = len(positives) - np.searchsorted(positives, candidates)
    false = len(negatives) - np.searchsorted(negatives, candidates)
    quality = {
        "balanced_accuracy": hits / len(positives) + 1 - false / len(negatives),
        "accuracy": hits + len(negatives) - false,
        "f1": 2 * hits / (hits + false + len(positives)),
    }[criterion]
    best = candidates[quality >= quality.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])


def called_positive(scores: ArrayLike, threshold: float = 0.5, *, first: bool = False) -> NDArray[np.int64]:
    """Which images of two classes are called positive, 0 or 1 [N].

    Args:
        scores: probability of the positive class [N].
        threshold: from where on; at exactly 0.5 a tie of the classes goes to the first of them, as in inference.
        first: whether the positive class is the first one.

    Example:
        >>> called_positive([0.2, 0.5, 0.8]).tolist(), called_positive([0.2, 0.5, 0.8], first=True).tolist()
        ([0, 0, 1], [0, 1, 1])
    """
    values = np.asarray(scores, dtype=np.float64)
    above = values > threshold if threshold == 0.5 and not first else values >= threshold
    return above.astype(np.int64)


def _binary(
    positive: NDArray[np.int64], scores: FloatArray, called: NDArray[np.int64]
) -> Callable[[FloatArray], FloatArray]:

    def evaluate(weights: FloatArray) -> FloatArray:
        recall = class_recall(positive, called, weights=weights)
        accuracy = weights @ (called == positive) / weights.sum(1)
        ranking = [f(positive, scores, weights=weights) for f in _RANKING.values()]
        return np.stack([*ranking, accuracy, recall.mean(1), recall[:, 1], recall[:, 0]], axis=1)

    return evaluate


def _multiclass(truth: NDArray[np.int64], probabilities: FloatArray) -> Callable[[FloatArray], FloatArray]:
    called = probabilities.argmax(1)

    def evaluate(weights: FloatArray) -> FloatArray:
        recall = class_recall(truth, called, weights=weights)
        accuracy = weights @ (called == truth) / weights.sum(1)
        ranking = [
            np.mean([f(truth == k, column, weights=weights) for k, column in enumerate(probabilities.T)], axis=0)
            for f in _RANKING.values()
        ]
        return np.column_stack([*ranking, accuracy, recall.mean(1), recall])

    return evaluate


def _class_labels(labels: ArrayLike) -> NDArray[np.int64]:
    truth = check_labels(labels, None)
    present = np.unique(truth)
    if len(present) < 2:
        raise ValueError(f"labels: expected images of at least two classes, got class {present.tolist()} only.")
    return truth


def _scores(values: ArrayLike, truth: NDArray[np.int64]) -> FloatArray:
    """Probabilities, or other scores, as [N, K], checked against the labels."""
    array = class_columns(values)
    if array.ndim != 2 or len(array) != len(truth):
        raise ValueError(
            f"probabilities: expected the shape [{len(truth)}, K], or [{len(truth)}] for two classes, got "
            f"{list(np.shape(values))}."
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"probabilities: expected finite numbers, got {int((~np.isfinite(array)).any(1).sum())} images with others."
        )
    missing = sorted(set(range(array.shape[1])) - set(truth.tolist()))
    if missing or truth.max() >= array.shape[1]:
        raise ValueError(
            f"labels: expected images of each of the {array.shape[1]} classes the probabilities are for, got the "
            f"classes {np.unique(truth).tolist()}."
        )
    return array
