# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Diffusion models as image classifiers, as a MONAI plugin."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__"]
