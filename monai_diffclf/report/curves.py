# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The numbers behind a report's tiles, tables and figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from ..classification import DenoisingClassification, DenoisingErrors, classify_errors, mean_errors
from ..classification.draw_weights import Weighting
from ..keys import UncertaintyKeys
from ..metrics import class_recall, classification_metrics, roc_auc
from ..metrics.classification import called_positive
from .data import RULES, ReportData

__all__ = [
    "RULES",
    "auc_by_level",
    "classify",
    "metric_table",
    "predicted",
    "probabilities",
    "quality_by_draws",
    "rejection_curve",
    "roc_curves",
    "vote_uncertainty",
]

FloatArray = NDArray[np.float64]


def classify(
    errors: DenoisingErrors, rule: str, weighting: Weighting, temperature: float | None = None
) -> DenoisingClassification:
    """Classify; without a temperature at one at which mean-error probabilities do not saturate.

    At temperature 1 most of these round to 0 or 1, and the ranking of the images, hence the AUC, is lost. The
    temperature here is the typical difference of two classes' scores; it changes no predicted class.
    """
    if temperature is not None:
        return classify_errors(errors, rule, weighting=weighting, temperature=temperature)
    mean = mean_errors(errors, weighting)
    spread = (mean.max(1).values - mean.min(1).values).median() * errors.num_elements / 2
    return classify_errors(errors, rule, weighting=weighting, temperature=max(float(spread), 1e-12))


def probabilities(data: ReportData, rule: str) -> FloatArray:
    """Class probabilities by a rule [B, K]: those that were stored, else of the errors."""
    if data.probabilities is not None:
        return np.asarray(data.probabilities[rule], dtype=np.float64)
    return np.asarray(classify(data.errors, rule, data.weighting, data.temperature).probabilities.double().numpy())


def predicted(data: ReportData, rule: str) -> NDArray[np.int64]:
    """The class called by a rule [B]: the most probable one; of two, the second from its threshold upwards."""
    values = probabilities(data, rule)
    if values.shape[1] == 2 and rule in data.thresholds:
        return called_positive(values[:, 1], data.thresholds[rule])
    return np.asarray(values.argmax(1), dtype=np.int64)


def metric_table(data: ReportData) -> dict[str, dict[str, dict[str, float]]]:
    """Metrics with 95 % bootstrap intervals of each rule: {rule: {metric: {value, low, high}}}."""
    return {
        rule: classification_metrics(
            data.labels, probabilities(data, rule), groups=data.groups, threshold=data.thresholds.get(rule, 0.5)
        )
        for rule in data.rules
    }


def _auc(labels: NDArray[Any], scores: FloatArray) -> float:
    """Area under the ROC curve, mean over one-versus-rest problems."""
    return float(np.mean([roc_auc((labels == k).astype(int), scores[:, k]) for k in range(scores.shape[1])]))


def roc_curves(data: ReportData) -> dict[str, tuple[FloatArray, FloatArray]]:
    """False and true positive rates: of all rules for two classes, else of each class against the rest by one rule."""
    if data.errors.num_classes == 2:
        scores = {name: (1, probabilities(data, rule)) for rule, name in data.rules.items()}
    else:
        by_rule = probabilities(data, next(iter(data.rules)))
        scores = {name: (k, by_rule) for k, name in enumerate(data.class_names)}
    return {
        name: roc_curve(data.labels == k, values[:, k], drop_intermediate=True)[:2]
        for name, (k, values) in scores.items()
    }


def quality_by_draws(data: ReportData) -> tuple[NDArray[np.int64], dict[str, dict[str, FloatArray]]]:
    """AUC and balanced accuracy, had only the first n draws been made.

    Returns:
        the numbers of draws [M], and {"auc" | "balanced_accuracy": {rule: [M]}}.
    """
    counts = np.unique(np.geomspace(1, data.errors.num_draws, 18).round().astype(np.int64))
    quality: dict[str, dict[str, list[float]]] = {"auc": {}, "balanced_accuracy": {}}
    for rule in data.rules:
        results = [classify(data.errors.first(int(n)), rule, data.weighting, data.temperature) for n in counts]
        quality["auc"][rule] = [_auc(data.labels, r.probabilities.double().numpy()) for r in results]
        quality["balanced_accuracy"][rule] = [
            float(np.mean(class_recall(data.labels, r.predicted.numpy()))) for r in results
        ]
    return counts, {metric: {rule: np.array(v) for rule, v in rules.items()} for metric, rules in quality.items()}


def auc_by_level(data: ReportData) -> tuple[FloatArray, FloatArray]:
    """AUC of a single draw, ranking images by how much better class k denoises than the others, against its log SNR.

    Only images for which the draw was made count; draws that leave a class without images are left out.

    Returns:
        log SNR [M] and AUC [M], by rising noise.
    """
    values, log_snr = data.errors.values.double(), data.errors.log_snr.double().numpy()
    others = (values.sum(1, keepdim=True) - values) / (data.errors.num_classes - 1)
    advantage = (others - values).numpy()
    levels, areas = [], []
    for draw in np.argsort(-log_snr):
        made = np.isfinite(advantage[:, :, draw]).all(1)
        if len(np.unique(data.labels[made])) == data.errors.num_classes:
            levels.append(log_snr[draw])
            areas.append(_auc(data.labels[made], advantage[made, :, draw]))
    return np.array(levels), np.array(areas)


def vote_uncertainty(result: DenoisingClassification) -> FloatArray:
    """Entropy of the votes over its largest value log K [B]: 0 when all draws agree, 1 when they split evenly."""
    entropy = result.uncertainty[UncertaintyKeys.VOTE_ENTROPY].double().abs() / np.log(result.vote_share.shape[1])
    # Rounded, so that equal splits of the votes are equal numbers.
    return np.asarray(entropy.clamp(0, 1).numpy().round(6))


def rejection_curve(data: ReportData) -> tuple[FloatArray, FloatArray]:
    """Accuracy of the images that remain when those with the most divided votes are set aside.

    Images of equal uncertainty are set aside together, so that the curve does not depend on their order. It ends where
    fewer than 5 % of the images would remain.

    Returns:
        share set aside [M] and accuracy of the rest [M].
    """
    result = classify(data.errors, "vote", data.weighting)
    uncertainty = vote_uncertainty(result)
    correct = result.predicted.numpy() == data.labels
    kept = [uncertainty <= limit for limit in np.unique(uncertainty)[::-1]]
    kept = [keep for keep in kept if keep.mean() >= 0.05]
    return np.array([1 - keep.mean() for keep in kept]), np.array([correct[keep].mean() for keep in kept])
