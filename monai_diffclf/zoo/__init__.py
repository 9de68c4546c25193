# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Diffusion models in MONAI's bundle format, such as of its model zoo, or of diffusers, as classifiers."""

from __future__ import annotations

from .condition_file import ConditionFile, read_condition_file
from .conditions import ClassConditions, read_conditions
from .open_generative import ZOO, config_files, open_generative_bundle
from .parts import GenerativeParts, read_parts
from .preprocessing import zoo_preprocessing

__all__ = [
    "ZOO",
    "ClassConditions",
    "ConditionFile",
    "GenerativeParts",
    "config_files",
    "open_generative_bundle",
    "read_condition_file",
    "read_conditions",
    "read_parts",
    "zoo_preprocessing",
]
