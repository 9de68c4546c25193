# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Representations: pretrained encoders as latent spaces."""

from __future__ import annotations

from .latent_dataset import LatentDataset

__all__ = ["LatentDataset"]
