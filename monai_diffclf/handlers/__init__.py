# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ignite handlers for training, evaluation and inference."""

from __future__ import annotations

from .display import ProgressBar, SampleGrid
from .errors_saver import ErrorsSaver
from .inference import ClassificationWriter
from .predictions import EvaluationSaver
from .results import read_results, write_results
from .training import BestModelSaver, EpochSeed, GradientClipping, ResumableCheckpoint, save_atomically

__all__ = [
    "BestModelSaver",
    "ClassificationWriter",
    "EpochSeed",
    "ErrorsSaver",
    "EvaluationSaver",
    "GradientClipping",
    "ProgressBar",
    "ResumableCheckpoint",
    "SampleGrid",
    "read_results",
    "save_atomically",
    "write_results",
]
