# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Diffusion models in MONAI's bundle format, such as of its model zoo, as classifiers."""

from __future__ import annotations

from .condition_file import ConditionFile, read_condition_file
from .conditions import ClassConditions, read_conditions
from .open_generative import ZOO, open_generative_bundle, zoo_preprocessing
from .parts import GenerativeParts, read_parts

__all__ = [
    "ZOO",
    "ClassConditions",
    "ConditionFile",
    "GenerativeParts",
    "open_generative_bundle",
    "read_condition_file",
    "read_conditions",
    "read_parts",
    "zoo_preprocessing",
]
