# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""MONAI inferers: images and a network in, class probabilities out."""

from __future__ import annotations

from typing import Any

from .._moved import moved
from .autocast_inferer import AutocastInferer
from .cascade import CascadeInferer, FitImages
from .classifier import ClassifierInferer
from .diffusion_classifier import DiffusionClassifierInferer
from .learned_levels import learned_levels
from .multi_label import MultiLabelClassifierInferer
from .provenance import evaluation_keys, provenance
from .score_classifier import ScoreClassifierInferer
from .softmax_classifier import SoftmaxClassifierInferer

__all__ = [
    "AutocastInferer",
    "CascadeInferer",
    "ClassifierInferer",
    "DiffusionClassifierInferer",
    "FitImages",
    "MultiLabelClassifierInferer",
    "ScoreClassifierInferer",
    "SoftmaxClassifierInferer",
    "evaluation_keys",
    "learned_levels",
    "provenance",
]


def __getattr__(name: str) -> Any:
    return moved(__name__, name, {"sample_classes": "monai_diffclf.sampling"})
