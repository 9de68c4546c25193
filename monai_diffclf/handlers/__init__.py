# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ignite handlers for training and evaluation."""

from __future__ import annotations

from .display import ProgressBar, SampleGrid
from .training import BestModelSaver, EpochSeed, GradientClipping, ResumableCheckpoint, save_atomically

__all__ = [
    "BestModelSaver",
    "EpochSeed",
    "GradientClipping",
    "ProgressBar",
    "ResumableCheckpoint",
    "SampleGrid",
    "save_atomically",
]
