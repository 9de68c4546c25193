# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._patients import patient_codes
from ..classification import DenoisingErrors
from ..classification.draw_weights import Weighting
from .run_facts import RunFacts

__all__ = ["RULES", "ReportData"]

RULES = {"vote": "Majority vote", "mean": "Mean error"}


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Images, their true classes, and the errors of a diffusion classifier on them.

    Args:
        title: heading of the report.
        description: what was done, in two sentences.
        images: images [B, C, H, W] with C = 1 (grey) or 3 (colour); slices, for volumes. Of some images only where
            `shown` says of which; None where none are at hand.
        labels: true class of each image [B], every class present.
        class_names: name of each class [K]. With two classes, class 1 is the positive one.
        errors: errors [B, K, N] in the order of the images.
        seconds: time the errors took, None where not known.
        shown: numbers of the images that `images`, `error_maps` and `masks` are of [S]; None for all of them in turn.
        error_maps: mean squared error of each pixel and class [S, K, H, W], or None.
        masks: where the finding is known to be [S, 1, H, W], or None.
        keys: name of each image [B], or None.
        groups: patient of each image [B], or None; intervals then draw patients instead of images, and an image of an
            unknown one (None, NaN or empty) by itself.
        device: what computed the errors.
        weighting: weighting of the mean error, see :func:`monai_diffclf.classification.draw_weights`.
        temperature: of the mean error's probabilities; None takes one at which they do not saturate.
        probabilities: those that an evaluation stored, rule -> [B, K]; the rules named here are reported. None makes
            them from the errors.
        thresholds: rule -> threshold on the probability of class 1 of two, 0.5 where not named.
        data_note: where the images are from, and how they were split.
        model_note: the model, and how it was trained.
        run: what else is known of the training and evaluation.
        anchor: what the page's ids begin with, where it holds several such reports.

    Raises:
        ValueError: when shapes disagree, a class is absent, or a number is out of range.
    """

    title: str
    description: str
    images: NDArray[Any] | None
    labels: NDArray[Any]
    class_names: Sequence[str]
    errors: DenoisingErrors
    seconds: float | None = None
    shown: Sequence[int] | None = None
    error_maps: NDArray[Any] | None = None
    masks: NDArray[Any] | None = None
    keys: Sequence[str] | None = None
    groups: NDArray[Any] | None = None
    device: str = "CPU"
    weighting: Weighting = "uniform"
    temperature: float | None = None
    probabilities: Mapping[str, NDArray[Any]] | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    data_note: str = ""
    model_note: str = ""
    run: RunFacts | None = None
    anchor: str = ""

    @property
    def units(self) -> NDArray[np.int64]:
        """What intervals draw: a number for the patient of each image, or for the image [B]."""
        return patient_codes(self.groups, len(self.labels), "groups")

    def __post_init__(self) -> None:
        count, num_classes = len(self.labels), len(self.class_names)
        if self.errors.num_classes != num_classes:
            raise ValueError(
                f"class_names: expected {self.errors.num_classes}, as many as errors has; got {num_classes}"
            )
        expected: dict[str, tuple[int, ...]] = {
            "errors": (count, *self.errors.values.shape[1:]),
            "keys": (count,),
            "groups": (count,),
        }
        if self.images is not None:
            shape = self.images.shape
            if self.images.ndim != 4 or shape[1] not in (1, 3) or 0 in shape:
                raise ValueError(f"images: expected shape [B, 1 or 3, H, W], got {list(shape)}")
            pictures, plane = shape[0], shape[2:]
            expected |= {"labels" if self.shown is None else "shown": (pictures,)}
            expected |= {"error_maps": (pictures, num_classes, *plane), "masks": (pictures, 1, *plane)}
        for name, wanted in expected.items():
            value = getattr(self, name)
            given = None if value is None else np.shape(value.values if name == "errors" else value)
            if given is not None and tuple(given) != wanted:
                raise ValueError(f"{name}: expected shape {list(wanted)} to fit the images, got {list(given)}")
        for rule, values in (self.probabilities or {}).items():
            if rule not in RULES or np.shape(values) != (count, num_classes):
                raise ValueError(
                    f"probabilities: expected the rules {list(RULES)} with shape {[count, num_classes]}, got {rule!r} "
                    f"with {list(np.shape(values))}"
                )
        present = np.unique(self.labels).tolist()
        if present != list(range(num_classes)):
            raise ValueError(f"labels: expected images of every class 0 to {num_classes - 1}, got {present}")
        if self.seconds is not None and not (np.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"seconds: expected a positive number, got {self.seconds}")

    @property
    def rules(self) -> dict[str, str]:
        """The rules of decision that are reported, and what they are called."""
        return {rule: name for rule, name in RULES.items() if self.probabilities is None or rule in self.probabilities}

    def place(self, index: int) -> int | None:
        """Where the picture of an image is in `images`; None where it is not at hand."""
        if self.images is None:
            return None
        if self.shown is None:
            return index
        return list(self.shown).index(index) if index in self.shown else None
