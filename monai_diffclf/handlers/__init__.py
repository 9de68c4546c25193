# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ignite handlers for training, evaluation and inference."""

from __future__ import annotations

from .case_report import CaseReport
from .classification_writer import ClassificationWriter
from .dicom_writer import DicomWriter
from .display import EpochLog, ProgressBar, SampleGrid
from .errors_saver import ErrorsSaver
from .evaluation_saver import EvaluationSaver
from .explanation_images import ExplanationImages
from .findings import FindingsROCAUC, FindingsSaver
from .judged import find_weights, judged_facts
from .learned_levels import LearnedLevels
from .likelihood_saver import LikelihoodSaver
from .moving_average import MovingAverage
from .named_handlers import NamedHandlers
from .results import read_results, write_results
from .subgroups import SubgroupReport, write_subgroups
from .training import EpochSeed, GradientClipping, ResumableCheckpoint
from .uncertainty import ShiftWarning, uncertainty_metrics
from .validation import BestModelSaver, Validation

__all__ = [
    "BestModelSaver",
    "CaseReport",
    "ClassificationWriter",
    "DicomWriter",
    "EpochLog",
    "EpochSeed",
    "ErrorsSaver",
    "EvaluationSaver",
    "ExplanationImages",
    "FindingsROCAUC",
    "FindingsSaver",
    "GradientClipping",
    "LearnedLevels",
    "LikelihoodSaver",
    "MovingAverage",
    "NamedHandlers",
    "ProgressBar",
    "ResumableCheckpoint",
    "SampleGrid",
    "ShiftWarning",
    "SubgroupReport",
    "Validation",
    "find_weights",
    "judged_facts",
    "read_results",
    "uncertainty_metrics",
    "write_results",
    "write_subgroups",
]
