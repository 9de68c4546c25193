# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Networks, their noise schedulers, and how a class reaches them."""

from __future__ import annotations

from .checkpoints import load_generative_checkpoint
from .conditioning import class_labels, make_conditioning, one_hot_context
from .weights import load_weights

__all__ = [
    "class_labels",
    "load_generative_checkpoint",
    "load_weights",
    "make_conditioning",
    "one_hot_context",
]
