# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A recipe for a data set: what is there, which settings fit it, what simple classifiers reach, how long it takes."""

from __future__ import annotations

from .choose import EncoderChoice, Recipe, choose_recipe, recipe_unseen
from .image_size import choose_image_size
from .images_seen import ImagesSeen, look_at
from .pixel_floor import Floor, PixelClassifiers, pixel_floor
from .run_floor import floor_lines, floor_table, floor_text, write_floor
from .step_time import StepTime, encoder_precision, measure_steps, seconds_per_step

__all__ = [
    "EncoderChoice",
    "Floor",
    "ImagesSeen",
    "PixelClassifiers",
    "Recipe",
    "StepTime",
    "choose_image_size",
    "choose_recipe",
    "encoder_precision",
    "floor_lines",
    "floor_table",
    "floor_text",
    "look_at",
    "measure_steps",
    "pixel_floor",
    "recipe_unseen",
    "seconds_per_step",
    "write_floor",
]
