# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Uncertainty from the votes of a diffusion classifier."""

from __future__ import annotations

from ..classification.rules import vote_uncertainty

__all__ = ["vote_uncertainty"]
