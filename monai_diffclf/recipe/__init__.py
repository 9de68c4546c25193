# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A recipe for a data set: what is there, which settings fit it, what simple classifiers reach, how long it takes."""

from __future__ import annotations

from .images_seen import ImagesSeen, look_at
from .pixel_floor import Floor, PixelClassifiers, pixel_floor
from .run_floor import floor_lines, floor_text, write_floor
from .step_time import StepTime, measure_steps, seconds_per_step

__all__ = [
    "Floor",
    "ImagesSeen",
    "PixelClassifiers",
    "StepTime",
    "floor_lines",
    "floor_text",
    "look_at",
    "measure_steps",
    "pixel_floor",
    "seconds_per_step",
    "write_floor",
]
