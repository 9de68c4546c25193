# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""MONAI inferers: images and a network in, class probabilities out."""

from __future__ import annotations

from ..sampling.class_sampler import sample_classes
from .classifier import ClassifierInferer
from .diffusion_classifier import DiffusionClassifierInferer
from .provenance import provenance
from .score_classifier import ScoreClassifierInferer

__all__ = [
    "ClassifierInferer",
    "DiffusionClassifierInferer",
    "ScoreClassifierInferer",
    "provenance",
    "sample_classes",
]
