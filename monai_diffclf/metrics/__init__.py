# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Metrics of a classifier, each with its interval."""

from __future__ import annotations

from .bootstrap import Interval, bootstrap_interval, paired_difference_interval
from .calibration import (
    BrierDecomposition,
    brier_decomposition,
    brier_score,
    classwise_calibration_error,
    expected_calibration_error,
    negative_log_likelihood,
)
from .classification import choose_threshold, classification_metrics
from .crossed import CrossedResamples, Difference, crossed_resamples, difference
from .cumulative import (
    BrierScore,
    NegativeLogLikelihood,
    OutOfDistributionAUC,
    PooledCalibrationError,
    PredictionSets,
    RiskCoverage,
)
from .findings import FindingsROCAUCMetric
from .prediction_sets import class_set_coverage, set_coverage, set_size
from .selective import RiskCoverageCurve, accuracy_at_coverage, aurc, excess_aurc, risk_coverage_curve
from .statistics import average_precision, class_recall, roc_auc, sensitivity_at_specificity
from .subgroups import SUBGROUP_METRICS, age_bands, subgroup_metrics

__all__ = [
    "SUBGROUP_METRICS",
    "BrierDecomposition",
    "BrierScore",
    "CrossedResamples",
    "Difference",
    "FindingsROCAUCMetric",
    "Interval",
    "NegativeLogLikelihood",
    "OutOfDistributionAUC",
    "PooledCalibrationError",
    "PredictionSets",
    "RiskCoverage",
    "RiskCoverageCurve",
    "accuracy_at_coverage",
    "age_bands",
    "aurc",
    "average_precision",
    "bootstrap_interval",
    "brier_decomposition",
    "brier_score",
    "choose_threshold",
    "class_recall",
    "class_set_coverage",
    "classification_metrics",
    "classwise_calibration_error",
    "crossed_resamples",
    "difference",
    "excess_aurc",
    "expected_calibration_error",
    "negative_log_likelihood",
    "paired_difference_interval",
    "risk_coverage_curve",
    "roc_auc",
    "sensitivity_at_specificity",
    "set_coverage",
    "set_size",
    "subgroup_metrics",
]
