# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What ``monai-diffclf fit`` says, in plain words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ..classification import CascadeFit
from ..fitting import UncertaintyFit
from ..fitting.choose_calibration import NONE
from ..fitting.fitted_run import Evaluated

__all__ = ["deferred", "meaning", "taken_by"]

_UNUSUAL = 0.01  # p-value below which pages and warnings call an image unusual


def taken_by(bundle: str, where: Evaluated, draws: int, decided: Mapping[str, Any]) -> str:
    """How classify takes a fit to the weights that a bundle ships, which lies in the folder of no training."""
    options = ["--bundle", bundle, "--draws", str(draws)]
    for name, value in {"uncertainty": where.uncertainty, **decided}.items():
        options += ["--set", f"{name}={value}"]
    words = shlex.join(["monai-diffclf", "classify", "IMAGES", *options])
    return f"the weights are those that the bundle ships; classify takes this fit where it is named: {words}"


def deferred(rule: str, fit: CascadeFit) -> str:
    """What a cascade does, in plain words."""
    return (
        f"cascade, {rule}: {100 * fit.deferred:.0f} % of the validation images go to this classifier; accuracy "
        f"{fit.accuracy['cascade']:.3f}, of the first alone {fit.accuracy['first']:.3f}, of this alone "
        f"{fit.accuracy['second']:.3f}; at most {max(fit.loss_limit, 0.0):.3f} is lost ({100 * fit.certainty:g} % sure)"
    )


def meaning(fit: UncertaintyFit, confidence: float) -> list[str]:
    """What was fitted, in plain words."""
    method = ", ".join(f"{name} ({rule})" for rule, name in fit.methods.items() if name != NONE)
    losses = fit.losses["mean"]
    chosen = losses.get(fit.methods["mean"]) if fit.methods["mean"] != NONE else None
    better = (
        "" if chosen is None else f"; loss of the mean {losses['none']:.3f} before, {chosen:.3f} after, cross-fitted"
    )
    of = f"{fit.notes['images']} validation images"
    sets = f"prediction sets are to hold the true class of {100 * confidence:g} % of such images"
    return [
        f"probabilities are calibrated on {of} by {method}{better}" if method else f"{of} were looked at",
        f"{sets}; {_marks(fit)}",
    ]


def _marks(fit: UncertaintyFit) -> str:
    """Whether an image can be marked as unusual: its p-value is at least 1 / (1 + number of validation patients)."""
    typicality = fit.fitted["mean"].typicality
    if typicality is None:
        return "none gets marked as unusual"
    count = typicality.num_patients
    if 1 / (count + 1) < _UNUSUAL:
        return "unusual ones get marked"
    return (
        f"none can be marked as unusual, which needs {round(1 / _UNUSUAL)} validation images (or patients), got {count}"
    )
