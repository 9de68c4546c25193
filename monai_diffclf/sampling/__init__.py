# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Images from a diffusion model: samples of a class, and the paths between an image and noise that edits follow."""

from __future__ import annotations

from .class_sampler import sample_classes
from .paths import ancestral_step, denoise, edit_timesteps, invert

__all__ = ["ancestral_step", "denoise", "edit_timesteps", "invert", "sample_classes"]
