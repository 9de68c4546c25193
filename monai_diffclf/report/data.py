# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a report is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..classification import DenoisingErrors

__all__ = ["ReportData"]


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Images, their true classes, and the errors of a diffusion classifier on them.

    Args:
        title: heading of the report.
        description: what was done, in two sentences.
        images: images [B, C, H, W] with C = 1 (grey) or 3 (colour); slices, for volumes.
        labels: true class of each image [B], every class present.
        class_names: name of each class [K]. With two classes, class 1 is the positive one.
        errors: errors [B, K, N] in the order of the images.
        seconds: time the errors took.
        error_maps: mean squared error of each pixel and class [B, K, H, W], or None.
        masks: where the finding is known to be [B, 1, H, W], or None.
        keys: name of each image [B], or None.
        groups: patient of each image [B], or None; intervals then draw patients instead of images.
        device: what computed the errors.
        weighting: weighting of the mean error, see :func:`monai_diffclf.classification.draw_weights`.
        data_note: where the images are from, and how they were split.
        model_note: the model, and how it was trained.

    Raises:
        ValueError: when shapes disagree, a class is absent, or a number is out of range.
    """

    title: str
    description: str
    images: NDArray[Any]
    labels: NDArray[Any]
    class_names: Sequence[str]
    errors: DenoisingErrors
    seconds: float
    error_maps: NDArray[Any] | None = None
    masks: NDArray[Any] | None = None
    keys: Sequence[str] | None = None
    groups: NDArray[Any] | None = None
    device: str = "CPU"
    weighting: str = "uniform"
    data_note: str = ""
    model_note: str = ""

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[1] not in (1, 3) or 0 in self.images.shape:
            raise ValueError(f"images: expected shape [B, 1 or 3, H, W], got {list(self.images.shape)}")
        count, num_classes, plane = len(self.images), len(self.class_names), self.images.shape[2:]
        if self.errors.num_classes != num_classes:
            raise ValueError(
                f"class_names: expected {self.errors.num_classes}, as many as errors has; got {num_classes}"
            )
        expected = {
            "labels": (count,),
            "errors": (count, *self.errors.values.shape[1:]),
            "error_maps": (count, num_classes, *plane),
            "masks": (count, 1, *plane),
            "keys": (count,),
            "groups": (count,),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            given = None if value is None else np.shape(value.values if name == "errors" else value)
            if given is not None and tuple(given) != shape:
                raise ValueError(f"{name}: expected shape {list(shape)} to fit the images, got {list(given)}")
        present = np.unique(self.labels).tolist()
        if present != list(range(num_classes)):
            raise ValueError(f"labels: expected images of every class 0 to {num_classes - 1}, got {present}")
        if not (np.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"seconds: expected a positive number, got {self.seconds}")
