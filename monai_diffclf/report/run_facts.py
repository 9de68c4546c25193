# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a report says of a training and its evaluation, beside the numbers of the test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Finding", "RunFacts", "TrainingCurve"]

Metric = Mapping[str, float]


@dataclass(frozen=True)
class Finding:
    """One finding of the audit of the splits.

    Args:
        title: what was looked for.
        words: what was found.
        grave: whether it makes results look better than they are.
    """

    title: str
    words: str
    grave: bool = False


@dataclass(frozen=True)
class TrainingCurve:
    """How a training went.

    Args:
        epochs: numbers of the epochs [E].
        loss: mean training loss of each [E].
        validated: epochs after which it was validated [V].
        quality: the validation metric then [V].
        metric: what that is called.
    """

    epochs: NDArray[np.int64]
    loss: NDArray[np.float64]
    validated: NDArray[np.int64]
    quality: NDArray[np.float64]
    metric: str = "AUC"


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """A training, its data and its evaluation.

    Args:
        splits: split -> class -> number of images.
        patients: split -> number of patients, None where not known.
        findings: what the audit found; None where there is no audit.
        floor: what classifiers on small pixels reach on the test images: name -> metric (``macro_auc``, ``accuracy``,
            ``balanced_accuracy``) -> value; None where it was not measured.
        others: further classifiers that the evaluation measured: name -> metric -> value, low and high.
        calibrated: rule -> probabilities of the test images after calibration [B, K].
        calibration: how they were calibrated, in words.
        sets: rule -> prediction sets of the test images [B, K], bool.
        confidence: share of the images whose set is to hold their class.
        training: how the training went; None where there is no record.
        settings: the settings, name -> value.
        missing: what the report does without, and how to have it, each a sentence.
    """

    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    patients: Mapping[str, int | None] = field(default_factory=dict)
    findings: Sequence[Finding] | None = None
    floor: Mapping[str, Mapping[str, float]] | None = None
    others: Mapping[str, Mapping[str, Metric]] = field(default_factory=dict)
    calibrated: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    calibration: str = ""
    sets: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    confidence: float | None = None
    training: TrainingCurve | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()
