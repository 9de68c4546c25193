# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What was fitted to a run, applied to its test images: calibrated probabilities and prediction sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray

from ..storage import FittedUncertainty, load_uncertainty
from .run_folder import RunFolder

__all__ = ["RunFit", "apply_fit"]

_DECISION = ("weighting", "temperature")
_NONE = "Probabilities were not calibrated for this run: fit them (the command fit), and report again."
_AS_THEY_ARE = "The probabilities are shown as they are: the fit found no calibration that does better."


@dataclass(frozen=True, kw_only=True)
class RunFit:
    """What a fit makes of the test images.

    Args:
        calibrated: rule -> probabilities after calibration [B, K]; rules that it changes nothing of are left out.
        sets: rule -> prediction sets [B, K], bool.
        confidence: share of the images whose set is to hold their class.
        words: how it was calibrated.
        missing: what the report does without, a sentence each.
    """

    calibrated: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    sets: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    confidence: float | None = None
    words: str = ""
    missing: tuple[str, ...] = ()


def apply_fit(run: RunFolder) -> RunFit:
    """The probabilities of a run after calibration, and their prediction sets; nothing of a fit to something else."""
    if not run.fitted.is_file():
        return RunFit(missing=(_NONE,))
    calibrated, sets, methods, confidence = {}, {}, [], None
    for rule, values in run.probabilities.items():
        try:
            fitted = load_uncertainty(run.fitted, rule)
        except ValueError as error:
            return RunFit(missing=(f"The calibration could not be read: {error}",))
        if other := _differs(run, rule, fitted):
            return RunFit(missing=(f"The calibration in {run.fitted.name} is of {other}: fit it again.",))
        given = torch.from_numpy(values)
        sets[rule], confidence = fitted.conformal.sets(given).numpy(), fitted.conformal.confidence
        if not fitted.calibration.changes_nothing:  # what `fit` leaves as it is
            calibrated[rule] = fitted.calibration(given).numpy()
            methods.append(f"{fitted.calibration.method} ({rule})")
    words = f"Calibrated on the validation images: {', '.join(methods)}." if methods else ""
    return RunFit(
        calibrated=calibrated,
        sets=sets,
        confidence=confidence,
        words=words,
        missing=() if methods else (_AS_THEY_ARE,),
    )


def _differs(run: RunFolder, rule: str, fitted: FittedUncertainty) -> str:
    """What a fit is of that the errors are not; empty where it is theirs."""
    made_by, entry = fitted.provenance, run.entries.get(f"diffusion_{rule}", {})
    if made_by.get("network") not in (None, run.stored.provenance.get("network")):
        return "other weights than the errors"
    if made_by.get("num_draws") not in (None, run.stored.errors.num_draws):
        return "another number of draws"
    if any(entry[name] != made_by.get(name, entry[name]) for name in _DECISION if name in entry):
        return "another weighting or temperature"
    return ""
