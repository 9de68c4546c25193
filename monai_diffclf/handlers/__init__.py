# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ignite handlers for training, evaluation and inference."""

from __future__ import annotations

from .case_report import CaseReport
from .classification_writer import ClassificationWriter
from .display import ProgressBar, SampleGrid
from .errors_saver import ErrorsSaver
from .evaluation_saver import EvaluationSaver
from .explanation_images import ExplanationImages
from .likelihood_saver import LikelihoodSaver
from .results import read_results, write_results
from .subgroups import SubgroupReport, write_subgroups
from .training import BestModelSaver, EpochSeed, GradientClipping, ResumableCheckpoint
from .uncertainty import ShiftWarning, uncertainty_metrics

__all__ = [
    "BestModelSaver",
    "CaseReport",
    "ClassificationWriter",
    "EpochSeed",
    "ErrorsSaver",
    "EvaluationSaver",
    "ExplanationImages",
    "GradientClipping",
    "LikelihoodSaver",
    "ProgressBar",
    "ResumableCheckpoint",
    "SampleGrid",
    "ShiftWarning",
    "SubgroupReport",
    "read_results",
    "uncertainty_metrics",
    "write_results",
    "write_subgroups",
]
