# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Text-to-image pipelines of diffusers, Stable Diffusion above all, as zero-shot classifiers; LoRA."""

from __future__ import annotations

from .diffusers_pipeline import DiffusersPipeline
from .lora import add_lora, merge_lora
from .open_pipeline import open_diffusers_pipeline
from .prompts import PromptConditioning
from .scheduler import monai_scheduler
from .weights import save_pipeline_weights

__all__ = [
    "DiffusersPipeline",
    "PromptConditioning",
    "add_lora",
    "merge_lora",
    "monai_scheduler",
    "open_diffusers_pipeline",
    "save_pipeline_weights",
]
