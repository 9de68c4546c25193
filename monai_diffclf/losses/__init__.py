# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Losses for training denoisers."""

from __future__ import annotations

from .class_contrastive import ClassContrastiveLoss
from .denoising import DenoisingLoss
from .parameter_groups import parameter_groups

__all__ = ["ClassContrastiveLoss", "DenoisingLoss", "parameter_groups"]
