# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Metrics of a classifier, each with its interval."""

from __future__ import annotations

from .bootstrap import Interval, bootstrap_interval, paired_difference_interval
from .classification import choose_threshold, classification_metrics
from .statistics import average_precision, class_recall, roc_auc

__all__ = [
    "Interval",
    "average_precision",
    "bootstrap_interval",
    "choose_threshold",
    "class_recall",
    "classification_metrics",
    "paired_difference_interval",
    "roc_auc",
]
