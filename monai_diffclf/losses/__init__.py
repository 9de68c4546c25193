# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Losses for training denoisers."""

from __future__ import annotations

from .denoising import DenoisingLoss

__all__ = ["DenoisingLoss"]
