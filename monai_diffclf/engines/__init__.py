# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ignite engines and their batch preparation."""

from __future__ import annotations

from .dataset_errors import compute_dataset_errors
from .evaluator import DiffusionClassifierEvaluator
from .prepare_batch import DenoisingPrepareBatch
from .unreadable import TolerantDataset, Unreadable, collate_readable

__all__ = [
    "DenoisingPrepareBatch",
    "DiffusionClassifierEvaluator",
    "TolerantDataset",
    "Unreadable",
    "collate_readable",
    "compute_dataset_errors",
]
