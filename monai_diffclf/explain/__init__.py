# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Explanations from the errors of a diffusion classifier."""

from __future__ import annotations

from .error_maps import class_difference, overlay

__all__ = ["class_difference", "overlay"]
